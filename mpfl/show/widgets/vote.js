/** The consensus of the whole network, its votes, and what the honest nodes would have made. */
function consensus(state) {
  const { layers, ballots, ranks, rule, tau, percentile, sparsity, bad, faulty } = state;
  const nodes = ballots.honest.length;
  const made = (count) => {
    const cast = ballots.honest.map((own, node) => (node < count ? ballots[bad][node] : own));
    let start = 0;
    return layers.map(([, size, weights]) => {
      const votes = counted(cast, start, size);
      const keep = Math.max(1, size - roundedUp(sparsity, size));
      const ours = ranks.slice(start, start + size);
      start += size;
      const layer = { votes, nodes, keep, ranks: ours, weights };
      return { votes, ranks: ours, kept: decide(rule, layer, { tau, percentile }) };
    });
  };
  return { nodes, now: made(faulty), clean: made(0) };
}

/** Share of the filters on which a ballot and the consensus agree. */
function agreement(ballot, mask) {
  return mask.filter((bit, i) => Boolean(ballot[i]) === bit).length / mask.length;
}

export default {
  render({ model, el }) {
    const layers = model.get("layers");
    const filters = layers.reduce((sum, [, size]) => sum + size, 0);
    const ballots = Object.fromEntries(
      Object.entries(model.get("ballots")).map(([kind, cast]) => [
        kind, cast.map((hex) => bitsOf(hex, filters)),
      ]),
    );
    const ranks = model.get("ranks");
    const nodes = ballots.honest.length;
    const kinds = Object.keys(ballots).filter((kind) => kind !== "honest");

    const rule = field(model, "rule", "Rule", choice(RULES));
    const tau = field(model, "tau", "Threshold tau", slider(1 / nodes, 1, 1 / nodes), {
      read: () => Math.round(Number(tau.box.querySelector("input").value) * nodes) / nodes,
    });
    const sparsity = field(model, "sparsity", "Asked to remove", slider(0, 0.95, 0.05));
    const percentile = field(model, "percentile", "Percentile", slider(0, 1, 0.05));
    const bad = field(model, "bad", "Bad nodes do this", choice(kinds.map((kind) => [kind, kind])));
    const faulty = field(model, "faulty", "How many are bad", slider(0, nodes, 1));
    const shownLayer = field(model, "layer", "Histogram of",
      choice([["", "all layers"], ...layers.map(([name]) => [name, name])]));

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const bars = h("svg", { role: "img" });
    const breadthNow = breadth(el, () => draw());
    const body = h("tbody", {});
    const map = squares(layers, el, (layer, i) => {
      const { votes, ranks: places, kept } = shown.now[layer];
      const was = shown.clean[layer].kept[i];
      return `${votes[i]} of ${nodes} votes; number ${places[i] + 1} of ${votes.length} by its size in w0; `
        + (kept[i] ? "stays" : "goes") + (kept[i] === was ? "" : " because of the bad nodes");
    });

    let before = null;
    let moved = null; // by the reader's last move of the vote; a page that is drawn anew is none
    let shown = null;

    function draw(move = false) {
      const state = { layers, ballots, ranks };
      for (const name of ["rule", "tau", "percentile", "sparsity", "bad", "faulty", "layer"]) {
        state[name] = model.get(name);
      }
      const { now, clean } = (shown = consensus(state));
      const flat = now.flatMap((layer) => layer.kept);
      const flatClean = clean.flatMap((layer) => layer.kept);
      const kept = flat.filter(Boolean).length;
      const flipped = flat.filter((bit, i) => bit !== flatClean[i]).length;
      if (move) moved = flat.filter((bit, i) => bit !== before[i]).length;
      before = flat;
      el.dataset.mask = hexOf(flat);

      tau.box.hidden = state.rule !== "share";
      percentile.box.hidden = state.rule !== "published_percentile";
      sparsity.box.hidden = ["share", "published_percentile"].includes(state.rule);
      tau.shown.value = `${Math.round(state.tau * nodes)} of ${nodes}`;
      sparsity.shown.value = percent(state.sparsity, 0);
      percentile.shown.value = state.percentile.toFixed(2);
      faulty.shown.value = `${state.faulty} of ${nodes}`;

      const sides = { honest: [], bad: [] };
      for (let node = 0; node < nodes; node++) {
        const isBad = node < state.faulty;
        const ballot = isBad ? ballots[state.bad][node] : ballots.honest[node];
        sides[isBad ? "bad" : "honest"].push(agreement(ballot, flat));
      }
      const mean = (list) => list.reduce((sum, each) => sum + each, 0) / list.length;
      const told = [
        h("strong", {}, `${whole(kept)} of ${whole(filters)} filters stay`),
        ` (${percent(1 - kept / filters)} gone). `,
      ];
      told.push(sides.honest.length
        ? `Honest nodes agree with the consensus on ${percent(mean(sides.honest))} of all filters`
          + (sides.bad.length ? `, bad ones on ${percent(mean(sides.bad))}` : "")
        : `All nodes are bad, and agree with the consensus on ${percent(mean(sides.bad))} of all filters`);
      if (sides.bad.length) {
        told.push(". The bad ballots decide the fate of ",
          h("strong", {}, `${whole(flipped)} filter${flipped === 1 ? "" : "s"}`));
      }
      told.push(moved === null ? "." : `. Your last move flipped ${whole(moved)}.`);
      said.replaceChildren(...told);

      map.drawn.forEach(({ name, cells, title }, layer) => {
        const mask = now[layer].kept;
        const was = clean[layer].kept;
        cells.forEach((cell, i) => {
          const look = mask[i] === was[i] ? (mask[i] ? "stay" : "go") : mask[i] ? "won" : "lost";
          cell.setAttribute("class", `mpfl-${look}`);
        });
        title.textContent = `${name}: ${mask.filter(Boolean).length} of ${mask.length} stay`;
      });

      body.replaceChildren(...layers.map(([name, size], layer) => {
        const stay = now[layer].kept.filter(Boolean).length;
        const other = now[layer].kept.filter((bit, i) => bit !== clean[layer].kept[i]).length;
        return h("tr", { "data-layer": name, "data-kept": stay }, h("td", {}, name),
          ...[size, stay, percent(1 - stay / size), other].map((each) => h("td", {}, String(each))));
      }));

      // The histogram: how many filters got 0, 1, ... votes; below, those that stay.
      const chosen = now.filter((_, i) => !state.layer || layers[i][0] === state.layer);
      const stay = new Array(nodes + 1).fill(0);
      const go = new Array(nodes + 1).fill(0);
      for (const layer of chosen) {
        layer.votes.forEach((count, i) => (layer.kept[i] ? stay : go)[count]++);
      }
      histogram(bars, breadthNow(), [["stay", "stay", stay], ["go", "go", go]]);
      map.tell();
    }

    frame(el, model, "Vote explorer",
      h("div", { class: "mpfl-fields" }, rule.box, tau.box, sparsity.box, percentile.box),
      h("div", { class: "mpfl-fields" }, bad.box, faulty.box, shownLayer.box),
      said, bars, h("p", { class: "mpfl-notes" }, SCALE),
      h("ul", { class: "mpfl-key" }, keyed("mpfl-stay", "stays"), keyed("mpfl-go", "goes"),
        keyed("mpfl-won", "stays because of bad nodes"), keyed("mpfl-lost", "goes because of them")),
      map.node,
      h("details", {}, h("summary", {}, "The same as a table"),
        sideways("The vote by layer", h("table", {}, h("thead", {}, h("tr", {},
          ...["layer", "filters", "stay", "gone", "decided by bad nodes"].map((text) =>
            h("th", { scope: "col" }, text)))), body))),
    );
    for (const name of ["rule", "tau", "percentile", "sparsity", "bad", "faulty"]) {
      model.on(`change:${name}`, () => draw(true));
    }
    model.on("change:layer", () => draw());
    draw();
  },
};
