const WAYS = [
  ["mpfl", "MPFL"],
  ["lottery", "lottery"],
  ["one-bit", "1 bit per weight"],
  ["pruning-fl", "pruning-FL"],
  ["fedavg", "dense FedAvg"],
];
const FIELDS = ["start", "mask_rounds_down", "mask_rounds_up", "final_start", "final_down", "final_up"];
const SETTING = ["network", "own", "nodes", "rounds", "share", "coding", "w0", "final_rounds", "final_by"];
const OWN = "your own";
const LENGTHS = { lengths: "tensor", channels: "channel" };

/** A bill as it is drawn: w0, the rounds, the final training. */
function phases([start, down, up, begin, late, up_], w0) {
  // Those without rounds get w0 at the end; the others get the small network then.
  const first = start || Math.min(begin, w0);
  return [["w0", first], ["rounds", down + up], ["final training", begin - (first - start) + late + up_]];
}

export default {
  render({ model, el }) {
    const networks = model.get("networks");
    const pick = (name, label, options) => field(model, name, label, choice(options));
    const network = pick("network", "Network", [...Object.keys(networks).map((name) => [name, name]),
      [OWN, "your own: write it below"]]);
    const own = field(model, "own", "Your network, one line per layer",
      h("textarea", { rows: 7, spellcheck: "false", autocapitalize: "off", autocomplete: "off" }));
    own.box.classList.add("mpfl-lines");
    own.box.append(h("p", { class: "mpfl-notes" }, "images: how many all nodes hold (optional). input: channels of an image. "
      + "Then one line per layer: name, filters, weights of a filter per channel that it reads (3x3), norm if a batch norm "
      + "follows. Each layer reads the one above; the last one is the output and stays whole."));
    const nodes = typed(model, "nodes", "Nodes", 1, 1000);
    const rounds = field(model, "rounds", "Mask rounds", slider(1, 30, 1));
    const share = field(model, "share", "Pruned per round", slider(0, 0.5, 0.01));
    const coding = pick("coding", "A vote is written", [
      ["shortest", "in the fewest bytes"], ["packed", "packed: one bit per filter"]]);
    const w0 = pick("w0", "w0 travels as", [["seed", "its seed"], ["weights", "weights"]]);
    const final = field(model, "final_rounds", "Final federated rounds", slider(0, 50, 1));
    const by = pick("final_by", "They train by", [["weights", "averages of weights"],
      ["votes", "votes on directions"], ["lengths", "votes, and a length per tensor"],
      ["channels", "votes, and a length per channel"]]);

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const dots = h("svg", { role: "img" });
    const notes = h("div", { class: "mpfl-notes" });
    const body = h("tbody", {});
    const formula = h("div", {});
    const rows = h("tbody", {});
    const heads = (...texts) =>
      h("thead", {}, h("tr", {}, ...texts.map((text) => h("th", { scope: "col" }, text))));
    const results = h("div", {});

    const breadthNow = breadth(el, () => draw());

    /** A dot for each phase, on a logarithmic axis: every line is ten times the one before. */
    function chart(bills, first, part) {
      const across = breadthNow();
      const all = WAYS.flatMap(([way]) => phases(bills[way], first).map(([, bytes]) => bytes)).filter(Boolean);
      const [low, high] = [Math.floor(Math.log10(Math.min(...all))), Math.ceil(Math.log10(Math.max(...all, 10)))];
      const x = (bytes) => 18 + ((across - 44) * (Math.log10(bytes) - low)) / (high - low || 1);
      const drawn = [];
      let y = 4;
      for (const [way, name] of WAYS) {
        y += 16;
        const of = way === "fedavg" ? "" : `, ${part(way)}${across < 420 ? "" : " of dense FedAvg"}`;
        drawn.push(h("text", { x: 0, y, class: "mpfl-strong mpfl-over" }, `${name}: ${sized(total(bills[way]))}${of}`));
        y += 6;
        phases(bills[way], first).forEach(([phase, bytes], kind) => {
          if (!bytes) return;
          const left = x(bytes) > across / 2;
          drawn.push(
            h("circle", { cx: x(bytes), cy: y + 6, r: 5, class: `mpfl-phase-${kind}` }),
            h("text", { x: x(bytes) + (left ? -10 : 10), y: y + 10, class: "mpfl-over",
              "text-anchor": left ? "end" : "start" }, `${phase} ${sized(bytes)}`));
          y += 16;
        });
        y += 4;
      }
      const grid = [];
      for (let power = low; power <= high; power++) {
        const place = x(10 ** power);
        const number = `${10 ** (power % 3)} ${["B", "kB", "MB", "GB", "TB", "PB"][Math.floor(power / 3)]}`;
        grid.push(h("line", { x1: place, x2: place, y1: 4, y2: y, class: "mpfl-decade" }));
        if (across / (high - low || 1) > 44 || power % 3 === 0) {
          grid.push(h("text", { x: place, y: y + 13, "text-anchor": "middle" }, number));
        }
      }
      dots.setAttribute("viewBox", `0 0 ${across} ${y + 18}`);
      dots.setAttribute("width", across);
      dots.replaceChildren(...grid, ...drawn);
      dots.setAttribute("aria-label", "Bytes by phase, on a logarithmic scale. " + WAYS.map(([way, name]) =>
        `${name}: ` + phases(bills[way], first).filter(([, bytes]) => bytes)
          .map(([phase, bytes]) => `${phase} ${sized(bytes)}`).join(", ")).join("; "));
    }

    function explain(state, found) {
      const [start, down, up, begin, late, last] = found.bills.mpfl;
      const sub = (letter, index) => [h("i", {}, letter), h("sub", {}, index)];
      const n = () => h("i", {}, "N");
      const parts = [[start, "w0"], [down, "consensus"], [up, "votes"], [begin, "last consensus"],
        [late, "final, down"], [last, "final, up"]].filter(([bytes]) => bytes);
      formula.replaceChildren(
        h("p", {}, "MPFL = ", n(), " · ", h("i", {}, "w"), " + ", n(), " · Σ", h("sub", {}, "r = 1 … R"),
          " (", ...sub("c", "r"), " + ", ...sub("v", "r"), ")",
          ...(state.final_rounds ? [" + ", n(), " · ", ...sub("c", "R + 1"), " + ", n(), " · (",
            h("i", {}, "e"), " + (", h("i", {}, "F"), " − 1) · ", h("i", {}, "m"), " + ",
            h("i", {}, "F"), " · ", h("i", {}, "m′"), ")"] : [])),
        h("p", {}, parts.map(([bytes, what]) => `${whole(bytes)} (${what})`).join(" + "),
          " = ", h("strong", {}, `${whole(total(found.bills.mpfl))} bytes`)),
        h("ul", {},
          h("li", {}, n(), ` = ${state.nodes} nodes, `, h("i", {}, "R"), ` = ${state.rounds} mask rounds, `,
            h("i", {}, "F"), ` = ${state.final_rounds} final rounds.`),
          h("li", {}, h("i", {}, "w"), ` = ${whole(start / state.nodes)}: w0, as `,
            state.w0 === "seed" ? "a seed of 8 bytes." : "4 bytes per weight and the tensors' names."),
          h("li", {}, ...sub("v", "r"), state.coding === "packed"
            ? ": a vote, one bit per filter of the full model, rounded up to bytes."
            : ": a vote, log₂ Π C(kept before, pruned now) bits over the layers, rounded up to bytes."),
          h("li", {}, ...sub("c", "r"), ": the consensus, log₂ Π (filters + 1) · C(filters, kept) bits for "
            + "a node that missed all before, or one bit per filter where that is shorter."),
          ...(state.final_rounds ? [h("li", {}, h("i", {}, "m"), " and ", h("i", {}, "m′"),
            state.final_by !== "weights"
            ? ": a direction for each weight of the small network, one bit; "
              + (LENGTHS[state.final_by] ? `how far for each of its ${LENGTHS[state.final_by]}s, 4 bytes; ` : "")
              + `up, each ${EVERY}th round and the last one bring the statistics of batch norm, 4 bytes each. `
            : ": the small network down and up, 4 bytes per weight; up it says how many images are behind it. ",
            h("i", {}, "e"), ` = ${framed(0)}: go on from what you have.`)] : []),
          h("li", {}, "Every message has a frame of 14 bytes, 15 from 128 bytes on and so forth.")));
      rows.replaceChildren(...found.masks.slice(0, state.rounds).map((mask, i) =>
        h("tr", {}, ...[i + 1, mask.left, mask.down, found.masks[i + 1].left, mask.up].map((each) =>
          h("td", {}, whole(each))))));
    }

    function draw() {
      const state = Object.fromEntries(SETTING.map((name) => [name, model.get(name)]));
      rounds.shown.value = String(state.rounds);
      share.shown.value = percent(state.share, 0);
      final.shown.value = String(state.final_rounds);
      own.box.hidden = state.network !== OWN;
      const fail = (what, why) => {
        el.dataset.bills = "";
        results.hidden = true;
        said.replaceChildren(h("strong", {}, what), why);
      };
      let network = networks[state.network];
      try {
        if (state.network === OWN) network = writtenNetwork(state.own);
      } catch (error) {
        if (!(error instanceof NoNetwork)) throw error;
        return fail("Your network cannot be read: ", `${error.message}.`);
      }
      const found = count(network, state);
      if ("empty" in found) {
        const [layer, filters] = found.empty;
        return fail("That cannot be done: ", `round ${found.round} would leave layer ${layer} with none of its `
          + `${filters} filters. Prune less a round, or for fewer rounds.`);
      }
      results.hidden = false;
      const { bills } = found;
      el.dataset.bills = JSON.stringify(bills);
      const first = state.nodes * (state.w0 === "seed" ? found.seed
        : weightsLength(network.tensors));
      const dense = total(bills.fedavg);
      const part = (way) => {
        const share = total(bills[way]) / dense;
        return `${(100 * share).toLocaleString("en", { maximumSignificantDigits: 3 })} %`;
      };
      said.replaceChildren(h("strong", {}, `MPFL sends ${sized(total(bills.mpfl))}`), ", ",
        h("strong", {}, part("mpfl")), ` of what dense FedAvg sends (${sized(dense)}). w0 is ${sized(bills.mpfl[0])} of it, `,
        `the masks are ${sized(bills.mpfl[1] + bills.mpfl[2])}, `, state.final_rounds
          ? `the final training is ${sized(total(bills.mpfl.slice(3)))}.`
          : "and nothing is trained at the end.");

      const joined = network.tensors.some(([, , , read]) => read.length > 1);
      notes.replaceChildren(...[
        state.final_by !== "weights" && state.final_rounds && "The final training of MPFL, of the lottery and of "
          + `pruning-FL goes by votes: one bit per weight ${LENGTHS[state.final_by] ? `and a length per ${LENGTHS[state.final_by]} ` : ""}`
          + `both ways, and in each ${EVERY}th round and the last one the statistics of batch norm up. Dense FedAvg and `
          + "1 bit per weight stay as they are.",
        !state.final_rounds && "Without final rounds, dense FedAvg and 1 bit per weight are given as many "
          + "rounds as there are mask rounds.",
        joined && state.final_rounds && "A ResNet adds layers up. Here layers that are added up keep the "
          + "same channels: the least that the final training can cost. Which filters stay decides "
          + "what it does cost.",
        "Bytes alone: the ways do not end at equal accuracy.",
      ].filter(Boolean).map((text) => h("p", {}, text)));

      body.replaceChildren(...WAYS.map(([way, name]) => h("tr", { "data-way": way },
        h("th", { scope: "row" }, name),
        h("td", { "data-field": "total" }, whole(total(bills[way]))),
        h("td", { "data-field": "share" }, part(way)),
        ...bills[way].map((bytes, i) => h("td", { "data-field": FIELDS[i] }, whole(bytes))))));
      chart(bills, first, part);
      explain(state, found);
    }

    results.append(dots, h("p", { class: "mpfl-notes" }, "Each grey line is ten times the one to its left: "
      + "two dots that look close may differ several times. Read the numbers."), notes,
      h("details", {}, h("summary", {}, "Every byte as a table"), sideways("Bytes of every way",
        h("table", {}, heads("way", "all", "of dense FedAvg", "w0", "rounds, down", "rounds, up",
          "before the final", "final, down", "final, up"), body))),
      h("details", {}, h("summary", {}, "How MPFL is counted"), formula, sideways("Masks of every round",
        h("table", {}, heads("round", "filters before", "consensus", "filters after", "vote"), rows))));
    frame(el, model, "Bandwidth calculator",
      h("div", { class: "mpfl-fields" }, network.box, nodes.box, rounds.box, share.box, coding.box,
        w0.box, final.box, by.box), own.box,
      said, results);
    for (const name of SETTING) model.on(`change:${name}`, draw);
    draw();
  },
};
