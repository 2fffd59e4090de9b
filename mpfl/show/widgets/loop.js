/** Indices in the order that ranks them, cut off after `count`: a mask. */
function firstOf(count, size, order) {
  const kept = new Array(size).fill(false);
  for (const i of order.slice(0, count)) kept[i] = true;
  return kept;
}

/** What every node votes by its scores: the best of what is alive, as many as the quota says. */
function honestBallots({ layers, scores, quotas }, round, alive) {
  return scores.map((own) => {
    let start = 0;
    return layers.flatMap(([, size], layer) => {
      const at = start;
      start += size;
      const living = [...Array(size).keys()].filter((i) => alive[at + i]);
      living.sort((a, b) => own[at + b] - own[at + a] || a - b);
      return firstOf(quotas[round - 1][layer], size, living);
    });
  });
}

/** The votes for every filter and what the server makes of them. */
function countBallots({ layers, rules, ranks, quotas }, rule, round, alive, ballots) {
  const votes = counted(ballots, 0, alive.length);
  const [, , tau] = rules.find(([name]) => name === rule);
  const kept = new Array(alive.length).fill(false);
  let start = 0;
  layers.forEach(([, size], layer) => {
    const living = Array.from({ length: size }, (_, i) => start + i).filter((i) => alive[i]);
    const part = (list) => living.map((i) => list[i]);
    decide(tau === null ? "most_votes" : "share",
      { votes: part(votes), nodes: ballots.length, keep: quotas[round - 1][layer], ranks: part(ranks) },
      { tau }).forEach((bit, i) => (kept[living[i]] = bit));
    start += size;
  });
  return { votes, kept, tau };
}

export default {
  render({ model, el }) {
    const fixed = {};
    for (const name of ["layers", "rules", "scores", "ranks", "quotas", "by_counts"]) fixed[name] = model.get(name);
    const { layers, rules, scores, quotas } = fixed;
    const [nodes, filters] = [scores.length, scores[0].length];
    const places = layers.flatMap(([layer, size]) => Array.from({ length: size }, (_, i) => [layer, i + 1]));
    const bits = (text) => Array.from(bitsOf(text, filters), Boolean);
    const counts = (mask) => layers.map(([layer]) => mask.filter((bit, i) => bit && places[i][0] === layer).length);

    function write(values) {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      model.save_changes();
    }
    function begin(round, alive) {
      const ballots = honestBallots(fixed, round, alive).map(hexOf);
      write({ round, alive: hexOf(alive), ballots });
    }
    function flip(node, i) {
      const ballots = model.get("ballots").map(bits);
      ballots[node][i] = !ballots[node][i];
      write({ ballots: ballots.map(hexOf) });
    }

    /** A row of the picture: what it is, then a cell a filter, layer by layer. */
    function row(look, name, note, make, attributes = {}) {
      const cells = places.map((_, i) => make(i));
      let start = 0;
      const parts = layers.map(([, size]) => h("div", { class: "mpfl-loop-layer", style: `--size: ${size}` },
        ...cells.slice(start, start += size)));
      return { cells, node: h("div", { class: `mpfl-loop-row ${look}`, ...attributes },
        h("div", { class: "mpfl-loop-name" }, h("strong", {}, name), note ? h("span", {}, ` ${note}`) : ""), ...parts) };
    }

    // Every square of a ballot is a button. Tab goes to a node's row, the arrows go inside.
    const ballotRows = scores.map((_, node) => row("mpfl-loop-ballot", `Node ${node + 1}`, "own pictures",
      (i) => h("button", { type: "button", class: "mpfl-bit", tabindex: -1, onclick: () => flip(node, i) }),
      { role: "group", "aria-label": `The ballot of node ${node + 1}` }));
    const focusable = scores.map(() => 0);
    function aim(node, i, focus) {
      focusable[node] = i;
      ballotRows[node].cells.forEach((cell, j) => (cell.tabIndex = j === i ? 0 : -1));
      if (focus) ballotRows[node].cells[i].focus();
    }
    function moveBy(event, node, i) {
      const across = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const along = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (across) {
        for (let j = i + across; j >= 0 && j < filters; j += across) {
          if (!ballotRows[node].cells[j].disabled) { aim(node, j, true); break; }
        }
      } else if (along && ballotRows[node + along]) aim(node + along, i, true);
      if (across || along) event.preventDefault();
    }
    ballotRows.forEach(({ cells }, node) => cells.forEach((cell, i) => {
      cell.addEventListener("keydown", (event) => moveBy(event, node, i));
      cell.addEventListener("focus", () => aim(node, i, false));
    }));

    const votesRow = row("mpfl-loop-votes", "Votes", "a block per node", () => h("div", { class: "mpfl-stack" },
      ...scores.map(() => h("i", {})), h("b", {})), { role: "img" });
    const lines = [...votesRow.node.querySelectorAll(".mpfl-loop-layer")].map((layer) => {
      const line = h("div", { class: "mpfl-loop-bar" });
      layer.append(line);
      return line;
    });
    const consensusRow = row("mpfl-loop-consensus", "Consensus", "what stays", () => h("i", { class: "mpfl-bit" }),
      { role: "img" });

    const rule = field(model, "rule", "Rule", choice(rules));
    const up = h("p", { class: "mpfl-loop-wire" });
    const down = h("p", { class: "mpfl-loop-wire" });
    const said = h("p", { class: "mpfl-loop-said", "aria-live": "polite" });
    const bytes = h("p", { class: "mpfl-loop-bytes" });
    const bar = (name) => {
      const [drawn, number] = [h("i", {}), h("b", {})];
      return { drawn, number, node: h("div", {}, h("span", {}, name), h("div", {}, drawn, number)) };
    };
    const [ours, theirs] = [bar("this vote"), bar("dense weights")];
    const bars = h("div", { class: "mpfl-loop-bars" }, ours.node, theirs.node);
    const next = h("button", { type: "button", class: "mpfl-loop-next", onclick: () => {
      const { kept, last } = now();
      flow();
      if (last) begin(1, new Array(filters).fill(true));
      else begin(model.get("round") + 1, kept);
    } });
    const reset = h("button", { type: "button", onclick: () => begin(1, new Array(filters).fill(true)) }, "Reset");

    // The picture changes from top to bottom, as the messages go: dead filters, ballots, counts, consensus.
    let flowing = null;
    function flow() {
      clearTimeout(flowing);
      el.classList.add("mpfl-flow");
      flowing = setTimeout(() => el.classList.remove("mpfl-flow"), 1900);
    }

    function now() {
      const [round, alive, ballots] = [model.get("round"), bits(model.get("alive")), model.get("ballots").map(bits)];
      const honest = honestBallots(fixed, round, alive);
      const made = countBallots(fixed, model.get("rule"), round, alive, ballots);
      const unmoved = countBallots(fixed, model.get("rule"), round, alive, honest);
      return { round, alive, ballots, honest, ...made, unmoved: unmoved.kept, last: round === quotas.length };
    }

    /** A square's look: kept, dropped or gone before; and whether the reader's hand is in it. */
    function paint(cell, alive, bit, moved) {
      cell.dataset.bit = alive ? (bit ? "keep" : "drop") : "gone";
      cell.toggleAttribute("data-moved", moved);
    }

    function draw() {
      const { round, alive, ballots, honest, votes, kept, tau, unmoved, last } = now();
      const listed = (list) => layers.map(([layer]) =>
        `${layer}: ${list.filter((_, i) => places[i][0] === layer).join(", ")}`).join("; ");
      let moves = 0;
      ballotRows.forEach(({ cells }, node) => {
        cells.forEach((cell, i) => {
          const moved = alive[i] && ballots[node][i] !== honest[node][i];
          moves += moved;
          paint(cell, alive[i], ballots[node][i], moved);
          cell.disabled = !alive[i];
          cell.setAttribute("aria-pressed", Boolean(ballots[node][i]));
          cell.setAttribute("aria-label", `Node ${node + 1} keeps ${places[i][0]}, filter ${places[i][1]}`);
        });
        const at = focusable[node];
        aim(node, alive[at] ? at : alive.indexOf(true), false);
      });
      votesRow.cells.forEach((cell, i) => {
        cell.dataset.bit = alive[i] ? (kept[i] ? "keep" : "drop") : "gone";
        cell.querySelectorAll("i").forEach((block, node) => block.toggleAttribute("data-on", alive[i] && node < votes[i]));
        cell.querySelector("b").textContent = alive[i] ? votes[i] : "";
      });
      votesRow.node.setAttribute("aria-label", `Votes to keep, by filter. ${listed(alive.map((is, i) => (is ? votes[i] : "gone")))}`);
      for (const line of lines) {
        line.hidden = tau === null;
        line.style.setProperty("--need", Math.ceil((tau ?? 0) * nodes - 1e-9));
      }
      consensusRow.cells.forEach((cell, i) => paint(cell, alive[i], kept[i], kept[i] !== unmoved[i]));
      consensusRow.node.setAttribute("aria-label", `Consensus, by filter. ${listed(kept.map((bit, i) =>
        (bit ? "stays" : alive[i] ? "goes" : "gone")))}`);

      const stay = kept.filter(Boolean).length;
      const decided = kept.filter((bit, i) => bit !== unmoved[i]).length;
      const [answer, weights] = fixed.by_counts[counts(kept).join(",")];
      const [, allWeights] = fixed.by_counts[layers.map(([, size]) => size).join(",")];
      const [sentUp, sentDown] = [nodes * model.get("up"), nodes * answer];
      const dense = 2 * nodes * model.get("dense");
      const noun = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
      up.replaceChildren(h("span", { "aria-hidden": "true" }, "↓ "),
        `each node sends one bit per filter: ${model.get("up")} bytes`);
      down.replaceChildren(h("span", { "aria-hidden": "true" }, "↻ "), last
        ? `the last consensus, ${answer} bytes, is the shape of the network: now train it`
        : `the consensus goes back to every node: ${answer} bytes`);
      said.replaceChildren(h("strong", {}, `Round ${round} of ${quotas.length}: ${stay} of ${filters} filters stay.`), " ",
        moves ? `You changed ${noun(moves, "vote")}, which ${moves === 1 ? "decides" : "decide"} the fate of ${decided ? noun(decided, "filter") : "no filter"}.`
          : last ? `The small network has ${whole(weights)} of ${whole(allWeights)} weights.`
            : "Press a square of a node to change its vote.");
      bytes.replaceChildren(`On the wire for this vote: ${whole(sentUp)} bytes up, ${whole(sentDown)} down. `
        + `Dense weights would be ${whole(dense / 2)} up, ${whole(dense / 2)} down.`);
      const cost = sentUp + sentDown;
      ours.drawn.style.width = `calc((100% - 7rem) * ${cost / dense})`;
      theirs.drawn.style.width = "calc(100% - 7rem)";
      ours.number.textContent = `${whole(cost)} bytes`;
      theirs.number.textContent = `${whole(dense)} bytes`;
      el.toggleAttribute("data-last", last);
      next.textContent = last ? "Start again" : "Next round";
      Object.assign(el.dataset, { mask: hexOf(kept), votes: votes.join(","), sent: `${sentUp},${sentDown}`, moves });
    }

    frame(el, model, "The loop",
      h("p", { class: "mpfl-loop-wire" }, "Each node trains on its own data, then votes: keep a filter, or drop it."),
      h("div", { class: "mpfl-loop" },
        h("div", { class: "mpfl-loop-row mpfl-loop-head", "aria-hidden": "true" }, h("div", { class: "mpfl-loop-name" }, "one column per filter"),
          ...layers.map(([layer, size]) => h("div", { class: "mpfl-loop-layer", style: `--size: ${size}` }, h("span", {}, layer)))),
        ...ballotRows.map(({ node }) => node), up,
        h("div", { class: "mpfl-loop-server" },
          h("div", { class: "mpfl-loop-title" }, h("div", {}, h("strong", {}, "Server"), " counts, sees no data"), rule.box),
          votesRow.node, consensusRow.node),
        down),
      h("div", { class: "mpfl-loop-foot" }, h("div", { class: "mpfl-buttons" }, next, reset),
        h("ul", { class: "mpfl-key" }, ...[["keep", "keep"], ["drop", "drop"], ["gone", "gone"]].map(([bit, text]) =>
          h("li", {}, h("i", { class: "mpfl-bit", "data-bit": bit }), text)),
          h("li", {}, h("i", { class: "mpfl-bit", "data-bit": "drop", "data-moved": true }), "changed by you"))),
      said, bytes, bars,
      h("details", {}, h("summary", {}, "What is computed, and what is played"),
        h("p", {}, `Played: the training. Each node's scores are those of one set of first weights, moved by noise of its own. `
          + `Computed, as in the package: which filters a node drops, the three rules, and the length of every message. `
          + `A ballot is ${Math.ceil(filters / 8)} bytes of bits in a frame of ${model.get("up") - Math.ceil(filters / 8)} bytes. `
          + `A tie goes to the filter that is larger in the first weights. If a rule would empty a layer, its most-voted filter stays.`)));
    for (const name of ["rule", "round", "alive", "ballots"]) model.on(`change:${name}`, draw);
    draw();
    return () => clearTimeout(flowing);
  },
};
