// What a word of the glossary means stays inside the window, goes on Escape, and on a telephone a first
// tap shows it; a second one follows the link.
document.addEventListener("DOMContentLoaded", () => {
  for (const term of document.querySelectorAll(".term")) {
    const tip = term.querySelector(".tip"), link = term.querySelector("a");
    let touched = false;
    const place = () => {
      term.classList.remove("dismissed");
      tip.style.left = "0px";
      const {left, right} = tip.getBoundingClientRect();
      const room = document.documentElement.clientWidth - 8;
      tip.style.left = `${Math.max(Math.min(0, room - right), 8 - left)}px`;
    };
    term.addEventListener("pointerenter", place);
    term.addEventListener("focusin", place);
    link.addEventListener("pointerdown", (event) => {
      touched = event.pointerType === "touch" && document.activeElement !== link;
    });
    link.addEventListener("click", (event) => {
      if (!touched) return;
      event.preventDefault();
      link.focus();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const term of document.querySelectorAll(".term")) term.classList.add("dismissed");
  });
});
