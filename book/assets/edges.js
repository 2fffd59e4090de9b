// What is wider than its box can be scrolled by key, and fades out on the side where there is more.
document.addEventListener("DOMContentLoaded", () => {
  const where = ".plot, .bd-article .cell_output > .output, .pst-scrollable-table-container";

  const look = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    const scrolls = hidden > 1 && getComputedStyle(box).overflowX !== "visible";
    box.classList.toggle("scrolls", scrolls);
    box.classList.toggle("more-left", scrolls && box.scrollLeft > 1);
    box.classList.toggle("more-right", scrolls && box.scrollLeft < hidden - 1);
    if (scrolls) box.tabIndex = 0;
  };

  const watch = new ResizeObserver((entries) => {
    for (const {target} of entries) look(target.matches(where) ? target : target.parentElement);
  });
  for (const box of document.querySelectorAll(where)) {
    box.addEventListener("scroll", () => look(box), {passive: true});
    watch.observe(box);
    if (box.firstElementChild) watch.observe(box.firstElementChild);
    look(box);
  }
});
