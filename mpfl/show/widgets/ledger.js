// The bytes of every way, counted as mpfl.analysis.ledger counts them.
const EVERY = 10; // by votes, statistics travel in each tenth round and in the last

const product = (numbers) => numbers.reduce((all, each) => all * each, 1);

/** The number of ways to choose k of n things, as a whole number of any size. */
const chosen = new Map();
function choose(n, k) {
  const key = `${n} ${k}`;
  if (!chosen.has(key)) {
    let ways = 1n;
    for (let i = 1n; i <= BigInt(Math.min(k, n - k)); i++) ways = (ways * (BigInt(n) - i + 1n)) / i;
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
  return tensors.map(([name, shape, own, read, block, voted]) => {
    const left = [...shape];
    if (own >= 0) left[0] = keep[own];
    if (read.length) left[1] = block * Math.max(...read.map((layer) => keep[layer]));
    return [name, left, voted];
  });
}

/** How many of a layer's filters the geometric schedule leaves after a round. */
function asked(filters, share, round) {
  const sparsity = Math.min(1 - (1 - share) ** round, 1 - 2 ** -53);
  return filters - roundedUp(sparsity, filters);
}

/** What each way sends, by phase: as mpfl.analysis.ledger counts it. */
function count({ layers, tensors, images }, { nodes, rounds, share, coding, w0, final_rounds, final_by }) {
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

  // By votes: a direction for each weight both ways, with a length for each tensor or channel if these are
  // told; at times the statistics of batch norm up.
  const signVotes = (times, shapes, by) => {
    const which = (moved) => shapes.filter(([, , voted]) => voted === moved);
    const numbers = (moved) => total(which(moved).map(([, shape]) => product(shape)));
    const channels = total(which(true).map(([, shape]) => (product(shape) ? (shape.length > 1 ? shape[0] : 1) : 0)));
    const told = { votes: 0, lengths: which(true).length, channels };
    const said = Math.ceil(numbers(true) / 8) + 4 * told[by];
    const due = Math.floor(times / EVERY) + (times % EVERY ? 1 : 0);
    const [down, up] = exchange(times, framed(said), nodes * framed(said));
    return [down, up + nodes * due * (framed(said + 4 * numbers(false)) - framed(said))];
  };

  const start = nodes * (w0 === "seed" ? framed(8) : weightsLength(tensors));
  const late = final_rounds ? start : 0;
  const alone = final_rounds || rounds;
  const small = cut(tensors, keep[rounds]);
  const bits = framed(Math.ceil(total(tensors.map(([, shape]) => product(shape))) / 8));
  const final = final_by === "weights" ? averaging(final_rounds, small)
    : signVotes(final_rounds, small, final_by);
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
