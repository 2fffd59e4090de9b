// Marks as matplotlib names them, about 10 pixels wide round the origin.
const MARKS = {
  "o": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
  "s": "M-4.5 -4.5h9v9h-9Z",
  "D": "M0 -6L6 0L0 6L-6 0Z",
  "^": "M0 -6L5.5 4.5H-5.5Z",
  "v": "M0 6L5.5 -4.5H-5.5Z",
  "<": "M-6 0L4.5 -5.5V5.5Z",
  "p": "M0 -6L5.7 -1.9L3.5 4.9H-3.5L-5.7 -1.9Z",
  "P": "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z",
  "X": "M-6 -3L-3 -6L0 -3L3 -6L6 -3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0Z",
  "*": "M0 -7L1.7 -2.2L6.7 -2.2L2.7 0.9L4.1 5.7L0 2.8L-4.1 5.7L-2.7 0.9L-6.7 -2.2L-1.7 -2.2Z",
};
const KEYS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity };

/** A short text for a place on an axis. */
function placed(axis, value) {
  if (axis === "sparsity") return value.toFixed(3);
  if (axis.startsWith("bytes")) return sized(value);
  if (axis === "minutes") return `${value.toLocaleString("en", { maximumFractionDigits: 1 })} min`;
  const power = value >= 1e9 ? 3 : value >= 1e6 ? 2 : value >= 1e4 ? 1 : 0;
  const short = value / 1000 ** power;
  return `${short.toLocaleString("en", { maximumFractionDigits: power ? 2 : 0 })}${["", " k", " M", " G"][power]}`;
}

/** Round numbers between two, about as many as asked. */
function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

/**
 * From values to a place between two edges: linear, or logarithmic where the span is large. `beside`
 * is how many rows have to find room at zero. Values so near that `told` says the same of two marks
 * lie near: an axis with one number at two places would tell them apart by what nobody can read.
 */
function scale(values, from, to, about, told, beside = 1) {
  const positive = values.filter((value) => value > 0);
  const [least, most] = [Math.min(...positive), Math.max(...positive)];
  if (positive.length && most / least >= 20) {
    // A logarithm has no zero: what is zero stands apart, at the edge.
    const zeros = positive.length < values.length;
    const apart = zeros ? from + 16 * beside + 12 : null;
    const [a, b] = [Math.floor(Math.log10(least) + 1e-9), Math.log10(most)];
    const start = (apart ?? from) + 12;
    const at = (value) => (value > 0
      ? start + ((Math.log10(value) - a) / (b - a)) * (to - 12 - start) : (from + apart) / 2);
    const between = (steps) => {
      const found = [];
      for (let power = a; power <= Math.ceil(b); power++) {
        for (const step of steps) {
          const value = step * 10 ** power;
          if (value <= most * 1.001) found.push(value);
        }
      }
      return found;
    };
    let marks = between([1]);
    if (marks.length < 3) marks = between([1, 3]);
    const every = Math.ceil(marks.length / about);
    marks = marks.filter((_, i) => i % every === 0);
    return { at, marks: zeros ? [0, ...marks] : marks, log: true, apart };
  }
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  [low, high] = [low - room, high + room];
  let marks = ticks(low, high, about);
  while (new Set(marks.map(told)).size < marks.length) {
    [low, high] = [low - (high - low) / 2, high + (high - low) / 2];
    marks = ticks(low, high, about);
  }
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  return { at, marks, log: false };
}

export default {
  render({ model, el }) {
    const tables = new Map(model.get("tables"));
    const axes = model.get("axes");
    const table = field(model, "table", "Table", choice([...tables.keys()].map((name) => [name, name])));
    const x = field(model, "x", "Against", choice(axes));
    const training = field(model, "training", "Final training", choice([
      ["central", "central: on the pooled data"], ["federated", "federated: between the nodes"]]));
    const titles = Object.fromEntries(axes);

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const chart = h("svg", { role: "group" });
    const key = h("ul", { class: "mpfl-key" });
    const panelId = `mpfl-run-${Math.random().toString(36).slice(2)}`;
    const panel = h("div", { class: "mpfl-panel", id: panelId });
    const body = h("tbody", {});
    const placeHead = h("th", { scope: "col" });
    const breadthNow = breadth(el, () => draw());
    let marks = [];

    /** The run that is looked at: its mark, its row, what made it. */
    function choose() {
      const now = model.get("chosen");
      const at = marks.findIndex((mark) => mark.run.name === now);
      marks.forEach((mark, i) => {
        mark.node.setAttribute("tabindex", i === Math.max(at, 0) ? 0 : -1);
        mark.node.classList.toggle("mpfl-chosen", i === at);
        mark.group.classList.toggle("mpfl-dim", at >= 0 && marks[at].row !== mark.row);
      });
      el.dataset.chosen = at < 0 ? "" : now;
      if (at < 0) {
        panel.replaceChildren(h("p", {}, "Point at a mark, or go to it with the tab key and move "
          + "between the marks with the arrow keys, to see what made the run."));
        return;
      }
      const { row, run, text } = marks[at];
      panel.replaceChildren(
        h("p", {}, h("strong", {}, `${row.label}, seed ${run.seed}: `), text),
        h("dl", {}, ...[...run.made, ["seed", String(run.seed)]].flatMap(([what, told]) =>
          [h("dt", {}, what), h("dd", {}, what === "command" ? h("code", {}, told) : told)])));
    }

    function look(run, focus) {
      model.set("chosen", run.name);
      model.save_changes();
      if (focus) marks.find((mark) => mark.run === run).node.focus();
    }

    function walk(event) {
      if (event.key === "Escape") look({ name: "" });
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      const now = marks.findIndex((mark) => mark.node === event.target);
      look(marks[Math.min(marks.length - 1, Math.max(0, now + KEYS[event.key]))].run, true);
    }

    /** The rows that can be shown; a press hides one, or brings it back. */
    function list(rows, hidden, evaluation) {
      const at = [...key.querySelectorAll("button")].indexOf(document.activeElement);
      key.replaceChildren(...rows.map((row, number) => h("li", {}, h("button", {
        type: "button", class: "mpfl-row", "aria-pressed": String(!hidden.includes(row.label)),
        onclick: () => {
          const others = hidden.filter((label) => label !== row.label);
          model.set("hidden", others.length < hidden.length ? others : [...hidden, row.label]);
          model.save_changes();
        },
      }, `${number + 1} `,
        h("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true", style: `--mark: ${row.colour}` },
          h("path", { d: MARKS[row.shape], class: "mpfl-mark" })),
        `${row.label}: ${row.means[evaluation].said}`))));
      key.querySelectorAll("button")[at]?.focus();
    }

    function draw() {
      const evaluation = model.get("training");
      for (const option of x.box.querySelectorAll("option")) {
        option.disabled = !axes.find(([axis]) => axis === option.value)[2].includes(evaluation);
      }
      const axis = model.get("x");
      const [, title, evaluations] = axes.find(([name]) => name === axis);
      if (!evaluations.includes(evaluation)) { // all bytes have those of the federated training
        model.set("x", "bytes_rounds");
        model.save_changes(); // and this draws
        return;
      }
      const focused = marks.some((mark) => mark.node === document.activeElement);
      const every = tables.get(model.get("table"));
      const trained = every.filter((row) => evaluation in row.means);
      const hidden = model.get("hidden");
      const rows = trained.filter((row) => !hidden.includes(row.label));
      const runs = rows.flatMap((row) => row.runs.filter((run) => evaluation in run.at));
      placeHead.textContent = title;
      const across = breadthNow();
      const [left, right, top, bottom] = [42, across - 8, 22, 312];
      chart.setAttribute("viewBox", `0 0 ${across} ${bottom + 42}`);
      chart.setAttribute("width", across);
      chart.setAttribute("aria-label", `Test accuracy against ${title}; ${runs.length} runs`);
      marks = [];
      list(trained, hidden, evaluation);
      if (!runs.length) {
        const none = trained.length ? "Every row is hidden." : "No run of this table has had this final training.";
        chart.replaceChildren(h("text", { x: 8, y: 40 }, none));
        said.textContent = none;
        body.replaceChildren();
        el.dataset.points = el.dataset.means = "[]";
        choose();
        return;
      }

      const accuracyOf = (mark) => String(Number(mark.toFixed(6)));
      const markOf = (mark) => (axis === "sparsity" ? accuracyOf(mark) : mark ? placed(axis, mark).replace(".0 ", " ") : "0");
      const across_ = scale(runs.map((run) => run.at[evaluation][axis]), left, right, across < 450 ? 3 : 6, markOf,
        rows.filter((row) => row.means[evaluation][axis] === 0).length);
      const high = scale(runs.map((run) => -run.at[evaluation].accuracy), top, bottom, 6, accuracyOf);
      const up = (accuracy) => high.at(-accuracy);

      // Rows that would lie on one another are set side by side, about where they belong.
      const place = (row) => across_.at(row.means[evaluation][axis]);
      const gap = Math.min(15, (right - left - 20) / rows.length);
      const piles = [];
      for (const row of [...rows].sort((a, b) => place(a) - place(b))) {
        piles.push({ rows: [row], middle: place(row) });
        while (piles.length > 1) {
          const [one, other] = piles.slice(-2);
          if (other.middle - one.middle >= ((one.rows.length + other.rows.length) / 2) * gap) break;
          const both = [...one.rows, ...other.rows];
          piles.splice(-2, 2, { rows: both, middle: total(both.map(place)) / both.length });
        }
      }
      const shift = new Map();
      for (const pile of piles) {
        const half = ((pile.rows.length - 1) / 2) * gap;
        const middle = Math.min(right - 8 - half, Math.max(left + 8 + half, pile.middle));
        pile.rows.forEach((row, i) =>
          shift.set(row, pile.rows.length > 1 ? middle - half + i * gap - place(row) : 0));
      }

      const grid = [
        ...high.marks.map((mark) => -mark).flatMap((mark) => [
          h("line", { x1: left, x2: right, y1: up(mark), y2: up(mark), class: "mpfl-grid" }),
          h("text", { x: left - 6, y: up(mark) + 4, "text-anchor": "end" }, accuracyOf(mark))]),
        ...across_.marks.flatMap((mark) => [
          h("line", { x1: across_.at(mark), x2: across_.at(mark), y1: bottom, y2: bottom + 4, class: "axis" }),
          // A number is some 6 pixels a letter wide; at the edge it ends there.
          across_.at(mark) + 3 * markOf(mark).length > across
            ? h("text", { x: across, y: bottom + 17, "text-anchor": "end" }, markOf(mark))
            : h("text", { x: across_.at(mark), y: bottom + 17, "text-anchor": "middle" }, markOf(mark))]),
        ...(across_.apart ? [h("line", { x1: across_.apart, x2: across_.apart, y1: top, y2: bottom + 4,
          class: "axis", "stroke-dasharray": "2 4" })] : []),
        h("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "axis" }),
        h("text", { x: 0, y: 12 }, `test accuracy in %, ${evaluation} training`),
        h("text", { x: right, y: bottom + 35, "text-anchor": "end" }, title + (across_.log ? ", logarithmic" : "")),
      ];

      const groups = rows.map((row) => {
        const mean = row.means[evaluation];
        const mine = row.runs.filter((run) => evaluation in run.at);
        const at = (run) => across_.at(run.at[evaluation][axis]) + shift.get(row);
        const middle = across_.at(mean[axis]) + shift.get(row);
        const group = h("g", { style: `--mark: ${row.colour}`, "data-row": row.label });
        const reach = mean.deviation ?? 0;
        const tip = Math.min(up(mean.accuracy + reach), ...mine.map((run) => up(run.at[evaluation].accuracy)));
        group.append(
          h("line", { x1: middle - 8, x2: middle + 8, y1: up(mean.accuracy), y2: up(mean.accuracy), class: "mpfl-mean" }),
          h("line", { x1: middle, x2: middle, y1: up(mean.accuracy - reach), y2: up(mean.accuracy + reach), class: "mpfl-mean" }),
          h("text", { x: middle, y: tip - 9, "text-anchor": "middle", "aria-hidden": "true" }, String(trained.indexOf(row) + 1)));
        for (const run of mine) {
          const found = run.at[evaluation];
          const text = `accuracy ${found.accuracy.toFixed(2)} % after ${evaluation} training; ${title}: ${placed(axis, found[axis])}`;
          const node = h("path", {
            d: MARKS[row.shape], class: "mpfl-mark", role: "img", tabindex: -1,
            transform: `translate(${at(run).toFixed(2)} ${up(found.accuracy).toFixed(2)})`,
            "aria-label": `${row.label}, seed ${run.seed}: ${text}`, "aria-describedby": panelId,
            onpointerenter: () => look(run), onclick: () => look(run, true), onfocus: () => look(run),
            onkeydown: walk,
          });
          marks.push({ row, run, node, group, text, place: at(run) });
          group.append(node);
        }
        return group;
      });
      marks.sort((a, b) => a.place - b.place || b.run.at[evaluation].accuracy - a.run.at[evaluation].accuracy);
      chart.replaceChildren(...grid, ...groups);

      const best = rows.reduce((a, b) => (b.means[evaluation].accuracy > a.means[evaluation].accuracy ? b : a));
      const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
      said.replaceChildren(h("strong", {}, `${count(runs.length, "run")} in ${count(rows.length, "row")}. `),
        `The highest mean accuracy is ${best.means[evaluation].said} % (${best.label}, `,
        `${count(best.means[evaluation].n, "seed")}).`,
        every.length > trained.length
          ? ` ${count(every.length - trained.length, "row")} had no such final training.` : "",
        [...shift.values()].some(Boolean) ? " Rows that coincide are set side by side." : "",
        axis === "minutes" ? " Minutes compare on one machine only: see what made the runs." : "");
      body.replaceChildren(...rows.flatMap((row) => {
        const mean = row.means[evaluation];
        const cells = (...texts) => texts.map((text) => h("td", {}, text));
        return [
          h("tr", { class: "mpfl-strong" }, h("th", { scope: "row" }, row.label),
            ...cells(count(mean.n, "seed"), placed(axis, mean[axis]), mean.said)),
          ...row.runs.filter((run) => evaluation in run.at).map((run) => h("tr", {},
            ...cells("", `seed ${run.seed}`, placed(axis, run.at[evaluation][axis]),
              run.at[evaluation].accuracy.toFixed(2)))),
        ];
      }));
      el.dataset.points = JSON.stringify(rows.flatMap((row) => row.runs
        .filter((run) => evaluation in run.at)
        .map((run) => [row.label, run.seed, run.at[evaluation][axis], run.at[evaluation].accuracy])));
      el.dataset.means = JSON.stringify(rows.map((row) => {
        const mean = row.means[evaluation];
        return [row.label, mean[axis], mean.accuracy, mean.deviation, mean.n];
      }));
      choose();
      if (focused) marks.find((mark) => mark.node.getAttribute("tabindex") === "0").node.focus();
    }

    frame(el, model, "Run explorer",
      h("div", { class: "mpfl-fields" }, table.box, training.box, x.box),
      said, chart, key, h("p", { class: "mpfl-notes" }, "Press a row to hide it, and again to bring it back. "
        + "The bars are means and standard deviations."), panel,
      h("details", {}, h("summary", {}, "The same as a table"), sideways("Runs and means",
        h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "row"),
          h("th", { scope: "col" }, "seeds"), placeHead, h("th", { scope: "col" }, "accuracy, %"))), body))));
    for (const name of ["table", "x", "training", "hidden"]) model.on(`change:${name}`, draw);
    model.on("change:chosen", choose);
    draw();
  },
};
