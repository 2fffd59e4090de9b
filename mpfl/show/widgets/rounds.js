const TICK = 900; // milliseconds a round

export default {
  render({ model, el }) {
    const layers = model.get("layers");
    const nodes = model.get("nodes");
    const lines = model.get("lines");
    const filters = layers.reduce((sum, [, number]) => sum + number, 0);
    const masks = [new Uint8Array(filters).fill(1), ...lines.map((line) => bitsOf(line.mask, filters))];
    const ballots = lines.map((line) => line.ballots.map((text) => bitsOf(text, filters)));
    const kept = (mask) => mask.reduce((sum, bit) => sum + bit, 0);
    const sparsity = masks.map((mask) => 1 - kept(mask) / filters);
    const sent = lines.reduce((all, { down, up }) => [...all, all.at(-1) + down + up], [model.get("start")]);
    const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length;

    const round = field(model, "round", "Round", slider(0, lines.length, 1));
    const against = field(model, "node", "Set against the votes of",
      choice([[-1, "nobody"], ...nodes.map((node, place) => [place, `node ${node}`])]),
      { read: () => Number(against.box.querySelector("select").value) });

    // Played by a timer, stopped by any other move and by the end.
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    let timer = null;
    function go(to) {
      model.set("round", Math.max(0, Math.min(lines.length, to)));
      model.save_changes();
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      said.setAttribute("aria-live", "polite");
    }
    function start() {
      if (model.get("round") >= lines.length) go(0);
      said.setAttribute("aria-live", "off"); // nobody can listen that fast
      play.textContent = "Pause";
      timer = setInterval(() => {
        if (!el.isConnected) return stop();
        go(model.get("round") + 1);
        if (model.get("round") >= lines.length) stop();
      }, TICK);
    }
    const button = (text, press) => h("button", { type: "button", onclick: press }, text);
    const play = button("Play", () => (timer ? stop() : start()));
    const back = button("Back", () => (stop(), go(model.get("round") - 1)));
    const step = button("Step", () => (stop(), go(model.get("round") + 1)));
    round.box.querySelector("input").addEventListener("input", stop);
    const ease = () => {
      play.hidden = calm.matches;
      if (calm.matches) stop();
    };
    calm.addEventListener("change", ease);

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const chart = h("svg", { role: "img" });
    const key = h("ul", { class: "mpfl-key" });
    const map = squares(layers, el);
    const body = h("tbody", {});
    const breadthNow = breadth(el, () => draw());

    /** A small chart: a share by round. */
    function panel(title, left, top, breadth, low, drawn, now) {
      const [from, to, high, bottom] = [left + 34, left + breadth - 10, top + 20, top + 130];
      const x = (place) => from + ((to - from) * place) / lines.length;
      const y = (share) => bottom - ((bottom - high) * (share - low)) / (1 - low);
      const every = Math.ceil(lines.length / (breadth < 450 ? 6 : 12));
      return [
        h("text", { x: left, y: top + 8 }, title),
        ...[low, (low + 1) / 2, 1].flatMap((share, i) => [
          h("line", { x1: from, x2: to, y1: y(share), y2: y(share), class: i ? "mpfl-grid" : "axis" }),
          h("text", { x: from - 6, y: y(share) + 4, "text-anchor": "end" }, String(Number(share.toFixed(2))))]),
        ...masks.map((_, i) => (i % every ? "" : h("text",
          { x: x(i), y: bottom + 15, "text-anchor": "middle" }, String(i)))),
        h("line", { x1: x(now), x2: x(now), y1: high - 4, y2: bottom, class: "mpfl-now" }),
        ...drawn.map(([look, start, values]) => h("path", { class: `mpfl-line ${look}`, d: values.map((share, i) =>
          `${i ? "L" : "M"}${x(i + start).toFixed(1)} ${y(share).toFixed(1)}`).join("")
          + (values.length > 1 ? "" : "h4") })),
      ];
    }

    function curves(now, chosen) {
      const across = breadthNow();
      const beside = across > 450;
      const half = beside ? across / 2 : across;
      const of = (pick) => lines.map((line) => pick(line.agreement));
      // What is drawn last lies on top.
      const drawn = nodes.map((_, node) => ["", 1, of((agreement) => agreement[node])]);
      drawn.push(["mpfl-second", 1, of(mean)]);
      if (chosen >= 0) drawn.push(["mpfl-picked", 1, of((agreement) => agreement[chosen])]);
      const least = Math.min(...lines.flatMap((line) => line.agreement));
      const low = Math.min(0.9, Math.floor(least * 10) / 10);
      chart.setAttribute("viewBox", `0 0 ${across} ${beside ? 152 : 304}`);
      chart.setAttribute("width", across);
      chart.replaceChildren(
        ...panel("sparsity by round", 0, 0, half, 0, [["mpfl-first", 0, sparsity]], now),
        ...panel("agreement with the consensus: each node, mean", beside ? half : 0, beside ? 0 : 152,
          half, low, drawn, now));
      chart.setAttribute("aria-label", "By round, the share of filters that are gone and the nodes' "
        + "agreement with the consensus: the table below has the numbers");
    }

    function draw() {
      const now = model.get("round");
      const chosen = model.get("node");
      const mask = masks[now];
      const before = masks[Math.max(0, now - 1)];
      const ballot = now && chosen >= 0 ? ballots[now - 1][chosen] : null;
      el.dataset.mask = hexOf(mask);
      el.dataset.sparsity = sparsity[now];
      el.dataset.sent = sent[now];
      round.shown.value = `${now} of ${lines.length}`;
      back.disabled = now === 0;
      step.disabled = now === lines.length;

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
        ? [`${whole(kept(before) - kept(mask))} filters went in this round. `,
          `The nodes agree with the consensus on ${percent(mean(agreement))} of the filters there were`
          + (agreement.length > 1
            ? ` (${percent(Math.min(...agreement))} to ${percent(Math.max(...agreement))})` : ""),
          ballot ? `; node ${nodes[chosen]} is outvoted on ${whole(differ)}. ` : ". "]
        : ["Every filter is there. "];
      said.replaceChildren(h("strong", {}, `${now ? `After round ${now}` : "Before the first round"}, `
        + `${whole(kept(mask))} of ${whole(filters)} filters stay`),
        ` (sparsity ${sparsity[now].toFixed(3)}). `, ...told, `Sent so far: ${sized(sent[now])}.`);
      body.querySelectorAll("tr").forEach((row, i) =>
        (i === now ? row.setAttribute("aria-current", "step") : row.removeAttribute("aria-current")));
      curves(now, chosen);
    }

    body.append(...masks.map((mask, i) => h("tr", {}, ...[
      i, whole(kept(mask)), sparsity[i].toFixed(3), whole(sent[i]),
      ...nodes.map((_, node) => (i ? lines[i - 1].agreement[node].toFixed(3) : "")),
    ].map((text) => h("td", {}, String(text))))));
    frame(el, model, "Round player",
      h("p", { class: "mpfl-notes" }, model.get("title")),
      h("div", { class: "mpfl-fields" }, h("div", { class: "mpfl-buttons" }, play, back, step),
        round.box, against.box),
      said, chart, key, map.node,
      h("details", {}, h("summary", {}, "The same as a table"), sideways("Rounds", h("table", {},
        h("thead", {}, h("tr", {}, ...["round", "filters", "sparsity", "bytes so far",
          ...nodes.map((node) => `node ${node} agrees`)].map((text) => h("th", { scope: "col" }, text)))),
        body))));
    for (const name of ["round", "node"]) model.on(`change:${name}`, draw);
    ease();
    draw();
    return stop;
  },
};
