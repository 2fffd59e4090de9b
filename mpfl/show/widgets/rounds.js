const PANEL = 176; // the height of a chart

/** A recorded run, opened: masks and ballots as bits, and what follows from them. */
function openRun({ layers, nodes, lines, start, title }) {
  const filters = total(layers.map(([, number]) => number));
  const masks = [new Uint8Array(filters).fill(1), ...lines.map((line) => bitsOf(line.mask, filters))];
  return {
    layers, nodes, lines, title, filters, masks,
    ballots: lines.map((line) => line.ballots.map((text) => bitsOf(text, filters))),
    sparsity: masks.map((mask) => 1 - total(mask) / filters),
    sent: lines.reduce((all, { down, up }) => [...all, all.at(-1) + down + up], [start]),
  };
}

export default {
  render({ model, el }) {
    const runs = new Map(model.get("runs").map(([name, state]) => [name, openRun(state)]));
    const shown = () => runs.get(model.get("run"));
    const mean = (numbers) => total(numbers) / numbers.length;
    // One axis for all runs, so that they compare: from the least agreement of any node in any of them.
    const least = Math.min(...[...runs.values()].flatMap(({ lines }) => lines.flatMap((line) => line.agreement)));
    const lowest = Math.min(0.95, Math.floor(least * 20) / 20);

    const menu = field(model, "run", "Recorded run", choice([...runs.keys()].map((name) => [name, name])));
    menu.box.hidden = runs.size < 2;
    const slide = slider(0, shown().lines.length, 1);
    const round = field(model, "round", "Round", slide);
    const whose = choice(voters());
    const against = field(model, "node", "Set against the votes of", whose, { read: () => Number(whose.value) });
    function voters() {
      return [[-1, "nobody"], ...shown().nodes.map((node, place) => [place, `node ${node}`])];
    }

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const turn = turns(model, el, slide, said, () => shown().lines.length);
    menu.box.querySelector("select").addEventListener("input", turn.stop);
    const chart = h("svg", { role: "img" });
    const key = h("ul", { class: "mpfl-key" });
    const title = h("p", { class: "mpfl-notes" });
    const squaresOf = h("div", {});
    const table = h("table", {});
    let [map, body] = [null, null];
    const breadthNow = breadth(el, () => draw());

    /** A small chart: a share by round, with a line across at each of `ticks`. */
    function panel(title, left, top, breadth, ticks, drawn, now) {
      const last = shown().lines.length;
      const low = ticks[0];
      const [from, to, high, bottom] = [left + 34, left + breadth - 10, top + 20, top + PANEL - 22];
      const x = (place) => from + ((to - from) * place) / last;
      const y = (share) => bottom - ((bottom - high) * (share - low)) / (1 - low);
      const every = Math.ceil(last / (breadth < 450 ? 6 : 12));
      return [
        h("text", { x: left, y: top + 8 }, title),
        ...ticks.flatMap((share, i) => [
          h("line", { x1: from, x2: to, y1: y(share), y2: y(share), class: i ? "mpfl-grid" : "axis" }),
          h("text", { x: from - 6, y: y(share) + 4, "text-anchor": "end" }, String(Number(share.toFixed(2))))]),
        ...Array.from({ length: last + 1 }, (_, i) => (i % every ? "" : h("text",
          { x: x(i), y: bottom + 15, "text-anchor": "middle" }, String(i)))),
        h("line", { x1: x(now), x2: x(now), y1: high - 4, y2: bottom, class: "mpfl-now" }),
        ...drawn.map(([look, start, values]) => h("path", { class: `mpfl-line ${look}`, d: values.map((share, i) =>
          `${i ? "L" : "M"}${x(i + start).toFixed(1)} ${y(share).toFixed(1)}`).join("")
          + (values.length > 1 ? "" : "h4") })),
      ];
    }

    function curves(now, chosen) {
      const { nodes, lines, sparsity } = shown();
      const across = breadthNow();
      const beside = across > 450;
      const half = beside ? across / 2 : across;
      const of = (pick) => lines.map((line) => pick(line.agreement));
      // What is drawn last lies on top.
      const drawn = nodes.map((_, node) => ["", 1, of((agreement) => agreement[node])]);
      drawn.push(["mpfl-second", 1, of(mean)]);
      if (chosen >= 0) drawn.push(["mpfl-picked", 1, of((agreement) => agreement[chosen])]);
      const step = lowest < 0.7 ? 0.1 : 0.05;
      const ticks = Array.from({ length: Math.round((1 - lowest) / step) + 1 }, (_, i) => 1 - i * step).reverse();
      if (ticks[0] > lowest + 1e-9) ticks.unshift(lowest);
      chart.setAttribute("viewBox", `0 0 ${across} ${beside ? PANEL : 2 * PANEL}`);
      chart.setAttribute("width", across);
      chart.replaceChildren(
        ...panel("sparsity by round", 0, 0, half, [0, 0.25, 0.5, 0.75, 1], [["mpfl-first", 0, sparsity]], now),
        ...panel(`agreement, from ${Number(ticks[0].toFixed(2))} to 1: each node, mean`, beside ? half : 0,
          beside ? 0 : PANEL, half, ticks, drawn, now));
      const means = of(mean);
      chart.setAttribute("aria-label", "By round, the share of filters that are gone and the nodes' "
        + `agreement with the consensus, whose mean goes from ${means[0].toFixed(3)} to ${means.at(-1).toFixed(3)} `
        + `on an axis from ${Number(ticks[0].toFixed(2))} to 1: the table below has the numbers`);
    }

    /** What a run brings with it: its squares, its table, its nodes and rounds to choose from. */
    function open() {
      const { layers, nodes, lines, masks, sparsity, sent } = shown();
      map = squares(layers, el);
      squaresOf.replaceChildren(map.node);
      title.textContent = shown().title;
      slide.max = lines.length;
      whose.replaceChildren(...choice(voters()).children);
      model.set("round", Math.min(model.get("round"), lines.length));
      model.set("node", Math.min(model.get("node"), nodes.length - 1));
      model.save_changes();
      [slide.value, whose.value] = [model.get("round"), model.get("node")];
      body = h("tbody", {}, ...masks.map((mask, i) => h("tr", {}, ...[
        i, whole(total(mask)), sparsity[i].toFixed(3), whole(sent[i]),
        ...nodes.map((_, node) => (i ? lines[i - 1].agreement[node].toFixed(3) : "")),
      ].map((text) => h("td", {}, String(text))))));
      table.replaceChildren(h("thead", {}, h("tr", {}, ...["round", "filters", "sparsity", "bytes so far",
        ...nodes.map((node) => `node ${node} agrees`)].map((text) => h("th", { scope: "col" }, text)))), body);
      draw();
    }

    function draw() {
      const { nodes, lines, masks, ballots, filters, sparsity, sent } = shown();
      const now = model.get("round");
      const chosen = model.get("node");
      const mask = masks[now];
      const before = masks[Math.max(0, now - 1)];
      const ballot = now && chosen >= 0 ? ballots[now - 1][chosen] : null;
      el.dataset.mask = hexOf(mask);
      el.dataset.sparsity = sparsity[now];
      el.dataset.sent = sent[now];
      round.shown.value = `${now} of ${lines.length}`;
      turn.mark();

      let start = 0;
      let differ = 0;
      for (const { name, cells, title } of map.drawn) {
        let stay = 0;
        cells.forEach((cell, i) => {
          const at = start + i;
          const other = ballot && before[at] && ballot[at] !== mask[at];
          differ += Boolean(other);
          stay += mask[at];
          const gone = before[at] && !ballot ? "mpfl-lost" : "mpfl-go";
          cell.setAttribute("class", mask[at] ? (other ? "mpfl-won" : "mpfl-stay") : other ? "mpfl-lost" : gone);
        });
        start += cells.length;
        title.textContent = `${name}: ${stay} of ${cells.length} stay`;
      }
      el.dataset.outvoted = differ;
      key.replaceChildren(...(ballot
        ? [["stay", "stays"], ["won", "stays, the node voted against it"],
          ["lost", "goes, the node voted for it"], ["go", "gone"]]
        : [["stay", "stays"], ["lost", "goes in this round"], ["go", "gone before"]])
        .map(([look, text]) => keyed(`mpfl-${look}`, text)));

      const agreement = now ? lines[now - 1].agreement : [];
      el.dataset.agreement = JSON.stringify(agreement);
      const told = now
        ? [`${whole(total(before) - total(mask))} filters went in this round. `,
          `The nodes agree with the consensus on ${percent(mean(agreement))} of the filters there were`
          + (agreement.length > 1
            ? ` (${percent(Math.min(...agreement))} to ${percent(Math.max(...agreement))})` : ""),
          ballot ? `; node ${nodes[chosen]} is outvoted on ${whole(differ)}. ` : ". "]
        : ["Every filter is there. "];
      said.replaceChildren(h("strong", {}, `${now ? `After round ${now}` : "Before the first round"}, `
        + `${whole(total(mask))} of ${whole(filters)} filters stay`),
        ` (sparsity ${sparsity[now].toFixed(3)}). `, ...told, `Sent so far: ${sized(sent[now])}.`);
      body.querySelectorAll("tr").forEach((row, i) =>
        (i === now ? row.setAttribute("aria-current", "step") : row.removeAttribute("aria-current")));
      curves(now, chosen);
    }

    frame(el, model, "Round player", title,
      h("div", { class: "mpfl-fields" }, menu.box),
      h("div", { class: "mpfl-fields" }, turn.node, round.box, against.box),
      said, chart, key, squaresOf,
      h("details", {}, h("summary", {}, "The same as a table"), sideways("Rounds", table)));
    for (const name of ["round", "node"]) model.on(`change:${name}`, draw);
    model.on("change:run", open);
    open();
    return turn.stop;
  },
};
