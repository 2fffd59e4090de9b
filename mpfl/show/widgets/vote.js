const RULES = [
  ["most_votes", "the most-voted, as many as asked"],
  ["share", "a share of the votes (tau)"],
  ["relaxed", "relaxed: the lowest tau that removes enough"],
  ["published_threshold", "published: dynamic threshold"],
  ["published_percentile", "published: percentile"],
];

/** For every filter of a layer, whether it stays: as mpfl.vote decides it. */
function decide(rule, votes, nodes, keep, ranks, weights, tau, p) {
  const size = votes.length;
  const share = Array.from(votes, (count) => count / nodes);
  const at = (threshold) => share.map((each) => each >= threshold);
  const gone = (kept) => kept.filter((bit) => !bit).length;
  const best = (count) => {
    const order = [...share.keys()].sort((a, b) => share[b] - share[a] || ranks[a] - ranks[b]);
    const kept = new Array(size).fill(false);
    for (const i of order.slice(0, count)) kept[i] = true;
    return kept;
  };
  let kept;
  if (rule === "most_votes") {
    kept = best(keep);
  } else if (rule === "share") {
    kept = at(tau);
  } else if (rule === "relaxed") {
    const levels = [...new Set(share.filter((each) => each > 0))].sort((a, b) => a - b);
    for (const level of [0, ...levels, 1]) {
      kept = at(level);
      if (gone(kept) >= size - keep) break;
    }
  } else if (rule === "published_threshold") {
    kept = at(1);
    if (gone(kept) / size < 1 - keep / size - 1e-12) kept = at(1 / nodes);
  } else {
    const every = nodes * size * weights;
    const zeros = every - votes.reduce((sum, count) => sum + count, 0) * weights;
    const place = (every - 1) * ((100 * p) / 100);
    const before = Math.floor(place);
    const step = place - before;
    const between = step < 0.5 ? step : 1 - (1 - step);
    if (before !== zeros - 1 || zeros === every) kept = at(before >= zeros ? 1 : 0);
    else kept = at(between);
  }
  return kept.some(Boolean) ? kept : best(1); // an empty layer computes nothing
}

/** The consensus of the whole network, its votes, and what the honest nodes would have made. */
function consensus(state) {
  const { layers, ballots, ranks, rule, tau, percentile, sparsity, bad, faulty } = state;
  const nodes = ballots.honest.length;
  const made = (count) => {
    const cast = ballots.honest.map((own, node) => (node < count ? ballots[bad][node] : own));
    let start = 0;
    return layers.map(([, size, weights]) => {
      const votes = new Array(size).fill(0);
      for (const ballot of cast) for (let i = 0; i < size; i++) votes[i] += ballot[start + i];
      const keep = Math.max(1, size - roundedUp(sparsity, size));
      const ours = ranks.slice(start, start + size);
      start += size;
      return { votes, kept: decide(rule, votes, nodes, keep, ours, weights, tau, percentile) };
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
    const histogram = h("svg", { role: "img" });
    const breadthNow = breadth(el, () => draw());
    const body = h("tbody", {});
    const map = squares(layers, el);

    let before = null;

    function draw() {
      const state = { layers, ballots, ranks };
      for (const name of ["rule", "tau", "percentile", "sparsity", "bad", "faulty", "layer"]) {
        state[name] = model.get(name);
      }
      const { now, clean } = consensus(state);
      const flat = now.flatMap((layer) => layer.kept);
      const flatClean = clean.flatMap((layer) => layer.kept);
      const kept = flat.filter(Boolean).length;
      const flipped = flat.filter((bit, i) => bit !== flatClean[i]).length;
      const moved = before ? flat.filter((bit, i) => bit !== before[i]).length : 0;
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
      if (sides.honest.length) {
        told.push(`Honest nodes agree with the consensus on ${percent(mean(sides.honest))} of them`);
      }
      if (sides.bad.length) {
        told.push(`${sides.honest.length ? ", bad ones on " : "Bad nodes agree on "}`
          + `${percent(mean(sides.bad))}. The bad ballots decide the fate of `,
          h("strong", {}, `${whole(flipped)} filters`));
      }
      told.push(`. Your last move flipped ${whole(moved)}.`);
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
      const top = Math.max(...stay.map((count, i) => count + go[i]), 1);
      const across = breadthNow();
      const step = (across - 8) / (nodes + 1);
      const bars = [];
      for (let count = 0; count <= nodes; count++) {
        const x = 4 + count * step;
        const [low, high] = [stay[count], go[count]].map((each) => (140 * each) / top);
        bars.push(
          h("rect", { x, y: 160 - low, width: step * 0.8, height: low, class: "mpfl-stay" }),
          h("rect", { x, y: 160 - low - high, width: step * 0.8, height: high, class: "mpfl-go" }),
          h("text", { x: x + step * 0.4, y: 174, "text-anchor": "middle" }, String(count)),
          h("text", { x: x + step * 0.4, y: 155 - low - high, "text-anchor": "middle" },
            stay[count] + go[count] ? String(stay[count] + go[count]) : ""),
        );
      }
      histogram.setAttribute("viewBox", `0 0 ${across} 190`);
      histogram.setAttribute("width", across);
      histogram.replaceChildren(...bars,
        h("line", { x1: 0, x2: across, y1: 160, y2: 160, class: "axis" }),
        h("text", { x: across / 2, y: 188, "text-anchor": "middle" }, "votes to keep a filter"));
      histogram.setAttribute("aria-label", stay.map((count, votes) =>
        `${votes} votes: ${count} stay, ${go[votes]} go`).join("; "));
    }

    frame(el, model, "Vote explorer",
      h("div", { class: "mpfl-fields" }, rule.box, tau.box, sparsity.box, percentile.box),
      h("div", { class: "mpfl-fields" }, bad.box, faulty.box, shownLayer.box),
      said, histogram,
      h("ul", { class: "mpfl-key" }, keyed("mpfl-stay", "stays"), keyed("mpfl-go", "goes"),
        keyed("mpfl-won", "stays because of bad nodes"), keyed("mpfl-lost", "goes because of them")),
      map.node,
      h("details", {}, h("summary", {}, "The same as a table"),
        sideways("The vote by layer", h("table", {}, h("thead", {}, h("tr", {},
          ...["layer", "filters", "stay", "gone", "decided by bad nodes"].map((text) =>
            h("th", { scope: "col" }, text)))), body))),
    );
    for (const name of ["rule", "tau", "percentile", "sparsity", "bad", "faulty", "layer"]) {
      model.on(`change:${name}`, draw);
    }
    draw();
  },
};
