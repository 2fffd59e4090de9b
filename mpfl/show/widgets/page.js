// What the widgets share: a model without a kernel, elements, numbers.

/** A model that is its own world: for a published page, where no kernel listens. */
function still(state) {
  const heard = {};
  const changed = new Set();
  return {
    still: true,
    get: (name) => state[name],
    set: (name, value) => {
      if (state[name] !== value) {
        state[name] = value;
        changed.add(name);
      }
    },
    save_changes: () => {
      const names = [...changed];
      changed.clear();
      for (const name of names) for (const tell of heard["change:" + name] ?? []) tell();
    },
    on: (event, tell) => (heard[event] ??= []).push(tell),
    off: (event, tell) => (heard[event] = (heard[event] ?? []).filter((each) => each !== tell)),
  };
}

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "rect", "line", "path", "circle", "text", "title"]);

/** An element with attributes and children; a function is a listener, `on...`. */
function h(tag, attributes = {}, ...children) {
  const made = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

let fields = 0;

/** A labelled control that writes one name of the model, and follows it. */
function field(model, name, label, control, { read, write } = {}) {
  const id = `mpfl-field-${Math.random().toString(36).slice(2)}-${fields++}`;
  control.id = id;
  read ??= () => (["range", "number"].includes(control.type) ? Number(control.value) : control.value);
  write ??= (value) => (control.value = value);
  write(model.get(name));
  control.addEventListener("input", () => {
    model.set(name, read());
    model.save_changes();
  });
  model.on(`change:${name}`, () => write(model.get(name)));
  const shown = h("output", { for: id });
  const box = h("div", { class: "mpfl-field" }, h("label", { for: id }, label), control, shown);
  return { box, shown };
}

/** A list to choose one of `[value, text]` from. */
function choice(options) {
  return h("select", {}, ...options.map(([value, text]) => h("option", { value }, text)));
}

/** A slider; the arrow keys move it by a step. */
function slider(min, max, step) {
  return h("input", { type: "range", min, max, step });
}

/**
 * A whole number to type; the arrow keys move it by one. What is too much becomes the most there
 * can be. What else is no such number is not taken, and the field says so; it stays as it was typed
 * until the reader goes on, as it may become one.
 */
function typed(model, name, label, min, max) {
  const control = h("input", { type: "number", min, max, step: 1, inputmode: "numeric" });
  const taken = () => /^[0-9]+$/.test(control.value) && Number(control.value) >= min;
  const made = field(model, name, label, control, {
    read: () => (taken() ? Math.min(max, Number(control.value)) : model.get(name)),
    write: (value) => {
      if (!taken() || Number(control.value) !== value) control.value = value;
    },
  });
  const say = () => {
    if (Number(control.value) > max) control.value = model.get(name);
    control.setAttribute("aria-invalid", String(!taken()));
    made.shown.value = taken() ? "" : `${whole(min)} to ${whole(max)}; shown for ${whole(model.get(name))}`;
  };
  control.addEventListener("input", say);
  control.addEventListener("change", () => {
    control.value = model.get(name);
    say();
  });
  return made;
}

/** What may be wider than a narrow page: it moves sideways, by the keyboard too. */
function sideways(label, ...children) {
  return h("div", { class: "mpfl-wide", role: "region", tabindex: 0, "aria-label": label }, ...children);
}

/** How wide a drawing can be; `draw` is called when that changes. */
function breadth(el, draw, most = 760) {
  const now = () => Math.round(Math.min(most, Math.max(260, (el.clientWidth || most) - 30)));
  let last = now();
  const watch = new ResizeObserver(() => {
    if (el.clientWidth && now() !== last) {
      last = now();
      draw();
    }
  });
  watch.observe(el);
  return () => last;
}

/** Bytes with a unit, exact below 10 kB. */
function sized(bytes) {
  if (bytes < 10000) return `${whole(bytes)} B`;
  const power = [1, 2, 3, 4].find((each) => bytes < 999.95 * 1000 ** each) ?? 5; // 999.96 kB is 1.0 MB
  const rounded = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
  return `${(bytes / 1000 ** power).toLocaleString("en", rounded)} ${"kMGTP"[power - 1]}B`;
}

/**
 * The smallest whole number that is at least `share` of `count`. In floating point share * count
 * may come out a hair above a whole number (0.07 * 100 is 7.000000000000001); 1e-9 forgives that.
 */
function roundedUp(share, count) {
  return Math.ceil(share * count - 1e-9);
}

/**
 * A map of all filters: a square each, drawn once, to be coloured anew at every change. A narrow
 * box has half as many in a line. With `about(layer, i)`, words on a filter, a square that is
 * pointed at, or reached by the arrow keys, is told of; `tell` tells again after a change.
 */
function squares(layers, el, about) {
  const node = h("div", { class: "mpfl-map" });
  const told = h("p", { class: "mpfl-told", "aria-live": "polite" }, about ? POINT : "");
  let at = null;
  const drawn = layers.map(([name, filters], layer) => {
    const cells = Array.from({ length: filters }, () => h("rect", { width: 8, height: 8 }));
    const title = h("div", {});
    const svg = h("svg", about
      ? { tabindex: 0, role: "img", "aria-label": `${name}, ${filters} filters; the arrow keys move over them` }
      : { "aria-hidden": "true" }, ...cells);
    node.append(title, svg);
    if (about) listen(svg, cells, layer);
    return { name, cells, title, svg };
  });
  if (about) node.prepend(told);

  let across = 0;
  function fit() {
    const now = el.clientWidth && el.clientWidth < 450 ? 32 : 64;
    if (now === across) return;
    across = now;
    for (const { cells, svg } of drawn) {
      cells.forEach((cell, i) => {
        cell.setAttribute("x", 9 * (i % across));
        cell.setAttribute("y", 9 * Math.floor(i / across));
      });
      svg.setAttribute("viewBox", `0 0 ${9 * across} ${9 * Math.ceil(cells.length / across)}`);
    }
  }
  fit();
  new ResizeObserver(fit).observe(el);

  function listen(svg, cells, layer) {
    const point = (event) => {
      const i = cells.indexOf(event.target);
      if (i >= 0) go(layer, i);
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("focus", () => at?.[0] !== layer && go(layer, 0));
    svg.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
      const to = event.key === "Home" ? 0 : event.key === "End" ? cells.length - 1
        : event.key in moves ? (at?.[0] === layer ? at[1] : 0) + moves[event.key] : null;
      if (to === null) return;
      event.preventDefault();
      if (to >= 0 && to < cells.length) go(layer, to);
    });
  }
  function go(layer, i) {
    if (at) drawn[at[0]].cells[at[1]].removeAttribute("data-at");
    at = [layer, i];
    drawn[layer].cells[i].setAttribute("data-at", "");
    tell();
  }
  function tell() {
    if (at) told.textContent = `Layer ${drawn[at[0]].name}, filter ${at[1]}: ${about(...at)}.`;
  }
  return { node, drawn, tell };
}

const POINT = "Point at a square, or reach it by Tab and the arrow keys, to read about its filter.";

/** A line of a key: a colour and what it stands for. */
function keyed(look, text) {
  return h("li", {}, h("svg", { width: 12, height: 12, "aria-hidden": "true" },
    h("rect", { width: 12, height: 12, class: look })), text);
}

/** Fill a widget's box. A notebook would take keys for its own: they stay inside. */
function frame(el, model, name, ...children) {
  el.classList.add("mpfl-play");
  el.setAttribute("role", "group");
  el.dir = "ltr"; // its words are English, wherever it stands
  el.setAttribute("aria-label", model.get("label") ?? name);
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  el.replaceChildren(...children);
}

const total = (numbers) => numbers.reduce((all, each) => all + each, 0);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const whole = (number) => Math.round(number).toLocaleString("en");

/** Bits as Python writes them: hex digits, the first in the lowest bit of the first byte. */
function bitsOf(hex, size) {
  const bits = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    bits[i] = (parseInt(hex.substr(2 * (i >> 3), 2), 16) >> (i & 7)) & 1;
  }
  return bits;
}

function hexOf(bits) {
  let text = "";
  for (let start = 0; start < bits.length; start += 8) {
    let byte = 0;
    for (let i = 0; i < 8 && start + i < bits.length; i++) byte |= bits[start + i] << i;
    text += byte.toString(16).padStart(2, "0");
  }
  return text;
}
