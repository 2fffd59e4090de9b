const WAYS = [
  ["mpfl", "MPFL"],
  ["lottery", "lottery"],
  ["one-bit", "1 bit a weight"],
  ["pruning-fl", "pruning-FL"],
  ["fedavg", "dense FedAvg"],
];
const FIELDS = ["start", "mask_rounds_down", "mask_rounds_up", "final_start", "final_down", "final_up"];
const SETTING = ["network", "nodes", "rounds", "share", "coding", "w0", "final_rounds"];

const product = (numbers) => numbers.reduce((all, each) => all * each, 1);

/** The number of ways to choose k of n things, as a whole number of any size. */
const chosen = new Map();
function choose(n, k) {
  const key = `${n} ${k}`;
  if (!chosen.has(key)) {
    let ways = 1n;
    for (let i = 1n; i <= BigInt(k); i++) ways = (ways * (BigInt(n) - i + 1n)) / i;
    chosen.set(key, ways);
  }
  return chosen.get(key);
}

/** How many bytes hold one of so many possibilities. */
function width(possibilities) {
  const last = possibilities - 1n;
  return last === 0n ? 0 : Math.ceil(last.toString(16).length / 2);
}

/** The length of a message with a body of so many bytes: frame, length, body, checksum. */
function framed(body) {
  return 13 + Math.ceil(body.toString(2).length / 7) + body;
}

/** The length of a message of float32 tensors: safetensors, whose header says where each lies. */
function weightsLength(tensors, samples) {
  const header = samples === undefined ? [] : [`"__metadata__":{"samples":"${samples}"}`];
  let end = 0;
  for (const [name, shape] of tensors) {
    const offsets = [end, (end += 4 * product(shape))];
    const told = { dtype: "F32", shape, data_offsets: offsets };
    header.push(`${JSON.stringify(name)}:${JSON.stringify(told)}`);
  }
  const text = `{${header.join(",")}}`;
  return framed(8 + 8 * Math.ceil(new TextEncoder().encode(text).length / 8) + end);
}

/** The tensors of the network that is left when every layer keeps its first filters. */
function cut(tensors, keep) {
  return tensors.map(([name, shape, own, read, block]) => {
    const left = [...shape];
    if (own >= 0) left[0] = keep[own];
    if (read.length) left[1] = block * Math.max(...read.map((layer) => keep[layer]));
    return [name, left];
  });
}

/** How many of a layer's filters the geometric schedule leaves after a round. */
function asked(filters, share, round) {
  const sparsity = Math.min(1 - (1 - share) ** round, 1 - 2 ** -53);
  return filters - roundedUp(sparsity, filters);
}

/** What each way sends, by phase: as mpfl.analysis.ledger counts it. */
function count({ layers, tensors, images }, { nodes, rounds, share, coding, w0, final_rounds }) {
  const sizes = layers.map(([, filters]) => filters);
  const packed = Math.ceil(total(sizes) / 8);
  const keep = [sizes];
  for (let round = 1; round <= rounds; round++) {
    keep.push(sizes.map((filters, i) => Math.min(keep[round - 1][i], asked(filters, share, round))));
    const empty = keep[round].findIndex((left) => left <= 0);
    if (empty >= 0) return { empty: layers[empty], round };
  }
  const masks = [];
  for (let round = 1; round <= rounds + 1; round++) {
    const alive = keep[round - 1];
    // The consensus, for a node that missed every round before: its counts, then its choice.
    const nested = sizes.map((filters, i) => BigInt(filters + 1) * choose(filters, alive[i]));
    const down = framed(Math.min(width(nested.reduce((a, b) => a * b)), packed));
    // A vote: what goes of what is left; how many go is known.
    const known = () => alive.map((left, i) => choose(left, keep[round][i])).reduce((a, b) => a * b);
    const up = round > rounds ? 0 : framed(coding === "packed" ? packed : Math.min(width(known()), packed));
    masks.push({ left: total(alive), down, up });
  }

  const [each, more] = [Math.floor(images / nodes), images % nodes];
  const exchange = (times, down, up) =>
    times ? [nodes * (framed(0) + (times - 1) * down), times * up] : [0, 0];
  const averaging = (times, shapes) => exchange(times, weightsLength(shapes),
    (more && more * weightsLength(shapes, each + 1)) + (nodes - more) * weightsLength(shapes, each));

  const start = nodes * (w0 === "seed" ? framed(8) : weightsLength(tensors));
  const late = final_rounds ? start : 0;
  const alone = final_rounds || rounds;
  const small = cut(tensors, keep[rounds]);
  const bits = framed(Math.ceil(total(tensors.map(([, shape]) => product(shape))) / 8));
  const final = averaging(final_rounds, small);
  const after = (message) => (final_rounds ? nodes * message : 0);
  const votes = ["down", "up"].map((way) => nodes * total(masks.slice(0, rounds).map((of) => of[way])));
  return {
    masks,
    seed: framed(8),
    bills: {
      "mpfl": [start, ...votes, after(masks[rounds].down), ...final],
      "lottery": [0, 0, 0, late, ...final],
      "one-bit": [0, 0, 0, start, ...exchange(alone, bits, nodes * bits)],
      "pruning-fl": [start, ...averaging(rounds, tensors), after(weightsLength(small)), ...final],
      "fedavg": [0, 0, 0, start, ...averaging(alone, tensors)],
    },
  };
}

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
    const network = pick("network", "Network", Object.keys(networks).map((name) => [name, name]));
    const nodes = typed(model, "nodes", "Nodes", 1, 1000);
    const rounds = field(model, "rounds", "Mask rounds", slider(1, 30, 1));
    const share = field(model, "share", "Pruned a round", slider(0, 0.5, 0.01));
    const coding = pick("coding", "A vote is written", [
      ["shortest", "in the fewest bytes"], ["packed", "packed: one bit a filter"]]);
    const w0 = pick("w0", "w0 travels as", [["seed", "its seed"], ["weights", "weights"]]);
    const final = field(model, "final_rounds", "Final federated rounds", slider(0, 50, 1));

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const bars = h("svg", { role: "img" });
    const notes = h("div", { class: "mpfl-notes" });
    const body = h("tbody", {});
    const formula = h("div", {});
    const rows = h("tbody", {});
    const heads = (...texts) =>
      h("thead", {}, h("tr", {}, ...texts.map((text) => h("th", { scope: "col" }, text))));
    const results = h("div", {});

    const breadthNow = breadth(el, () => draw());

    function chart(bills, first, part) {
      const across = breadthNow();
      const room = 150;
      const most = Math.max(10, ...WAYS.flatMap(([way]) => phases(bills[way], first).map(([, bytes]) => bytes)));
      const x = (bytes) => ((across - room) * Math.log10(Math.max(bytes, 1))) / Math.log10(most);
      const drawn = [];
      let y = 4;
      for (const [way, name] of WAYS) {
        y += 16;
        const all = `${sized(total(bills[way]))}${way === "fedavg" ? "" : `, ${part(way)}${
          across < 420 ? "" : " of dense FedAvg"}`}`;
        drawn.push(h("text", { x: 0, y, class: "mpfl-strong" }, `${name}: ${all}`));
        y += 5;
        phases(bills[way], first).forEach(([phase, bytes], kind) => {
          if (!bytes) return;
          drawn.push(
            h("rect", { x: 0, y, width: Math.max(2, x(bytes)), height: 11, class: `mpfl-phase-${kind}` }),
            h("text", { x: Math.max(2, x(bytes)) + 5, y: y + 10 }, `${phase} ${sized(bytes)}`));
          y += 14;
        });
        y += 4;
      }
      const grid = [];
      for (let power = 0; 10 ** power <= most; power += 3) {
        const place = x(10 ** power) || 0.5;
        grid.push(
          h("line", { x1: place, x2: place, y1: 4, y2: y, class: "mpfl-grid" }),
          h("text", { x: place, y: y + 13, "text-anchor": power ? "middle" : "start" },
            `1 ${["B", "kB", "MB", "GB", "TB"][power / 3]}`));
      }
      bars.setAttribute("viewBox", `0 0 ${across} ${y + 18}`);
      bars.setAttribute("width", across);
      bars.replaceChildren(...grid, ...drawn);
      bars.setAttribute("aria-label", "Bytes by phase, on a logarithmic scale. " + WAYS.map(([way, name]) =>
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
            state.w0 === "seed" ? "a seed of 8 bytes." : "4 bytes a weight and the tensors' names."),
          h("li", {}, ...sub("v", "r"), state.coding === "packed"
            ? ": a vote, one bit a filter of the full model, rounded up to bytes."
            : ": a vote, log₂ Π C(kept before, pruned now) bits over the layers, rounded up to bytes."),
          h("li", {}, ...sub("c", "r"), ": the consensus, log₂ Π (filters + 1) · C(filters, kept) bits for "
            + "a node that missed all before, or one bit a filter where that is shorter."),
          ...(state.final_rounds ? [h("li", {}, h("i", {}, "m"), " and ", h("i", {}, "m′"),
            ": the small network down and up, 4 bytes a weight; up it says how many images are behind it. ",
            h("i", {}, "e"), ` = ${framed(0)}: go on from what you have.`)] : []),
          h("li", {}, "Every message has a frame of 14 bytes, 15 from 128 bytes on and so forth.")));
      rows.replaceChildren(...found.masks.slice(0, state.rounds).map((mask, i) =>
        h("tr", {}, ...[i + 1, mask.left, mask.down, found.masks[i + 1].left, mask.up].map((each) =>
          h("td", {}, whole(each))))));
    }

    function draw() {
      const state = Object.fromEntries(SETTING.map((name) => [name, model.get(name)]));
      const found = count(networks[state.network], state);
      rounds.shown.value = String(state.rounds);
      share.shown.value = percent(state.share, 0);
      final.shown.value = String(state.final_rounds);
      results.hidden = "empty" in found;
      if ("empty" in found) {
        const [layer, filters] = found.empty;
        el.dataset.bills = "";
        said.replaceChildren(h("strong", {}, "That cannot be done: "),
          `round ${found.round} would leave layer ${layer} with none of its ${filters} filters. `
          + "Prune less a round, or for fewer rounds.");
        return;
      }
      const { bills } = found;
      el.dataset.bills = JSON.stringify(bills);
      const first = state.nodes * (state.w0 === "seed" ? found.seed
        : weightsLength(networks[state.network].tensors));
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

      const joined = networks[state.network].tensors.some(([, , , read]) => read.length > 1);
      notes.replaceChildren(...[
        !state.final_rounds && "Without final rounds, dense FedAvg and 1 bit a weight are given as many "
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

    results.append(bars, notes,
      h("details", {}, h("summary", {}, "Every byte as a table"), sideways("Bytes of every way",
        h("table", {}, heads("way", "all", "of dense FedAvg", "w0", "rounds, down", "rounds, up",
          "before the final", "final, down", "final, up"), body))),
      h("details", {}, h("summary", {}, "How MPFL is counted"), formula, sideways("Masks of every round",
        h("table", {}, heads("round", "filters before", "consensus", "filters after", "vote"), rows))));
    frame(el, model, "Bandwidth calculator",
      h("div", { class: "mpfl-fields" }, network.box, nodes.box, rounds.box, share.box, coding.box,
        w0.box, final.box),
      said, results);
    for (const name of SETTING) model.on(`change:${name}`, draw);
    draw();
  },
};
