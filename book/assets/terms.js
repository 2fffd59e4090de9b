// What a word of the glossary means stays inside the window. On a telephone a touch shows it, away from the
// word; a second touch, a touch elsewhere or Escape hides it, and a link in it leads to the glossary.
document.addEventListener("DOMContentLoaded", () => {
  const terms = [...document.querySelectorAll(".term")];
  const hide = (term) => {
    term.classList.remove("touched", "low");
    term.classList.add("dismissed");
  };
  for (const term of terms) {
    const tip = term.querySelector(".tip"), link = term.querySelector("a");
    let byTouch = false, shown = false;
    const place = () => {
      term.classList.remove("dismissed");
      tip.style.left = "0px";
      const {left, right} = tip.getBoundingClientRect();
      const room = document.documentElement.clientWidth - 8;
      tip.style.left = `${Math.max(Math.min(0, room - right), 8 - left)}px`;
    };
    const touch = () => {
      if (!tip.querySelector("a")) {
        const more = document.createElement("a");
        more.href = link.getAttribute("href");
        more.textContent = "In the glossary";
        tip.append(more);
      }
      const {bottom} = link.getBoundingClientRect();
      term.classList.toggle("low", bottom > innerHeight / 2);
      term.classList.add("touched");
    };
    term.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") place(); });
    term.addEventListener("focusin", () => { if (!byTouch) place(); });
    link.addEventListener("pointerdown", (event) => {
      byTouch = event.pointerType === "touch";
      shown = term.classList.contains("touched");
    });
    link.addEventListener("click", (event) => {
      if (!byTouch) return;
      byTouch = false;
      event.preventDefault();
      for (const each of terms) hide(each);
      if (!shown) touch();
    });
  }
  document.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    for (const term of terms) if (!term.contains(event.target)) hide(term);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const term of terms) hide(term);
  });
});
