const CHART = 190; // the height of the chart

export default {
  render({ model, el }) {
    const [names, ups, nodes] = ["names", "ups", "nodes"].map((name) => model.get(name));
    const ways = model.get("ways"); // [name, per weight its values], the one that is voted on first
    const last = ups[0].length;
    const looks = ["mpfl-first", "mpfl-second", "mpfl-picked"];
    const number = (value) => value.toLocaleString("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 })
      .replace("-", "\u2212");

    const which = choice(names.map((name, i) => [i, name]));
    const weight = field(model, "weight", "Weight", which, { read: () => Number(which.value) });
    const slide = slider(0, last, 1);
    const round = field(model, "round", "Round", slide);
    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const turn = turns(model, el, slide, said, () => last);
    which.addEventListener("input", turn.stop);
    const chart = h("svg", { role: "img" });
    const key = h("ul", { class: "mpfl-key" });
    const arrows = h("svg", { role: "img" });
    const body = h("tbody", {});
    const breadthNow = breadth(el, () => draw());

    /** The value of the weight by round, a line per way. */
    function curves(now, at) {
      const across = breadthNow();
      const drawn = ways.map(([, values]) => values[at]);
      const [low, high] = [Math.min(...drawn.flat()), Math.max(...drawn.flat())];
      const [from, to, top, bottom] = [52, across - 10, 14, CHART - 22];
      const x = (place) => from + ((to - from) * place) / last;
      const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low || 1);
      const every = Math.ceil(last / (across < 450 ? 6 : 12));
      chart.setAttribute("viewBox", `0 0 ${across} ${CHART}`);
      chart.setAttribute("width", across);
      chart.replaceChildren(
        ...[low, high].flatMap((value) => [
          h("line", { x1: from, x2: to, y1: y(value), y2: y(value), class: "mpfl-grid" }),
          h("text", { x: from - 6, y: y(value) + 4, "text-anchor": "end" }, number(value))]),
        ...Array.from({ length: last + 1 }, (_, i) => (i % every ? "" : h("text",
          { x: x(i), y: bottom + 16, "text-anchor": "middle" }, String(i)))),
        h("line", { x1: x(now), x2: x(now), y1: top - 6, y2: bottom, class: "mpfl-now" }),
        ...drawn.map((values, way) => h("path", { class: `mpfl-line ${looks[way]}`, d: values.map((value, i) =>
          `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join("") })),
        h("circle", { cx: x(now), cy: y(drawn[0][now]), r: 4.5, class: "mpfl-stay" }));
      chart.setAttribute("aria-label", `${names[at]} by round: ` + ways.map(([name], way) =>
        `${name} from ${number(drawn[way][0])} to ${number(drawn[way].at(-1))}`).join("; ")
        + ". The table below has the numbers.");
    }

    /** An arrow per node: how many said up, and how many down. */
    function vote(up) {
      const each = 24;
      arrows.setAttribute("viewBox", `0 0 ${each * nodes} 22`);
      arrows.setAttribute("width", each * nodes);
      arrows.setAttribute("aria-label", up === null ? "No vote yet" : `${up} up, ${nodes - up} down`);
      arrows.replaceChildren(...Array.from({ length: nodes }, (_, node) => {
        const [from, tip] = node < up ? [19, 3] : [3, 19];
        return h("path", { class: up === null ? "mpfl-go" : node < up ? "mpfl-stay" : "mpfl-lost",
          d: up === null ? `M${each * node + 5} 9h14v4h-14z` : `M${each * node + 3} ${from}h18L${each * node + 12} ${tip}z` });
      }));
    }

    function draw() {
      const [at, now] = [model.get("weight"), model.get("round")];
      const mine = ways[0][1][at];
      const up = now ? ups[at][now - 1] : null;
      Object.assign(el.dataset, { value: mine[now], up: up ?? "" });
      round.shown.value = `${now} of ${last}`;
      turn.mark();
      if (up === null) {
        said.replaceChildren(h("strong", {}, "Before the first round"), `, the weight is ${number(mine[0])}.`);
      } else {
        const step = mine[now] - mine[now - 1];
        const votes = 2 * up === nodes ? "as many say up as down, and it is the turn of " : `${up} of ${nodes} nodes say up: `;
        said.replaceChildren(h("strong", {}, `Round ${now}`), `: ${votes}`, h("strong", {}, step > 0 ? "up" : "down"),
          ` by ${number(Math.abs(step))}, from ${number(mine[now - 1])} to ${number(mine[now])}.`);
      }
      vote(up);
      curves(now, at);
      body.replaceChildren(...mine.map((_, i) => h("tr", i === now ? { "aria-current": "step" } : {},
        ...[i, i ? ups[at][i - 1] : "", ...ways.map(([, values]) => number(values[at][i]))].map((text) =>
          h("td", {}, String(text))))));
    }

    key.replaceChildren(...ways.map(([name], way) => h("li", {}, h("svg", { width: 18, height: 8, "aria-hidden": "true" },
      h("path", { class: `mpfl-line ${looks[way]}`, d: "M0 4h18" })), name)));
    frame(el, model, "Weight player",
      h("div", { class: "mpfl-fields" }, turn.node, round.box, weight.box), said, arrows, chart, key,
      h("details", {}, h("summary", {}, "The same as a table"), sideways("Rounds",
        h("table", {}, h("thead", {}, h("tr", {}, ...["round", "say up", ...ways.map(([name]) => name)].map((text) =>
          h("th", { scope: "col" }, text)))), body))));
    for (const name of ["round", "weight"]) model.on(`change:${name}`, draw);
    draw();
    return turn.stop;
  },
};
