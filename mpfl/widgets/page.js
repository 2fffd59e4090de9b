// What the widgets share: a model without a kernel, elements, numbers.

/** A model that is its own world: for a published page, where no kernel listens. */
function still(state) {
  const heard = {};
  const changed = new Set();
  return {
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
  read ??= () => (control.type === "range" ? Number(control.value) : control.value);
  write ??= (value) => (control.value = value);
  write(model.get(name));
  control.addEventListener("input", () => {
    model.set(name, read());
    model.save_changes();
  });
  // The arrow keys are the control's: a notebook would take them for its own.
  control.addEventListener("keydown", (event) => event.stopPropagation());
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
