// What is wider than its box can be scrolled by key, and fades out on the side where there is more.
document.addEventListener("DOMContentLoaded", () => {
  const may = (box) => ["auto", "scroll"].includes(getComputedStyle(box).overflowX);

  const look = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    const scrolls = hidden > 1 && may(box);
    box.classList.toggle("scrolls", scrolls);
    box.classList.toggle("more-left", scrolls && box.scrollLeft > 1);
    box.classList.toggle("more-right", scrolls && box.scrollLeft < hidden - 1);
    if (scrolls) box.tabIndex = 0;
  };

  // Figures, formulas, and the boxes around tables: the theme's, an output's, a widget's own.
  const boxes = new Set(document.querySelectorAll(".plot, .bd-article div.math"));
  for (const table of document.querySelectorAll(".bd-article table")) {
    let box = table.parentElement;
    while (!may(box) && !box.matches("article")) box = box.parentElement;
    if (may(box)) boxes.add(box);
  }
  const around = new WeakMap();
  const watch = new ResizeObserver((entries) => {
    for (const {target} of entries) look(around.get(target));
  });
  for (const box of boxes) {
    box.addEventListener("scroll", () => look(box), {passive: true});
    for (const each of [box, ...box.children]) {
      around.set(each, box);
      watch.observe(each);
    }
    look(box);
  }
});

// Paper is white: a page in the dark theme is printed in the light one.
{
  const page = document.documentElement.dataset;
  let chosen;
  addEventListener("beforeprint", () => { chosen = page.theme; page.theme = "light"; });
  addEventListener("afterprint", () => { page.theme = chosen; });
}
