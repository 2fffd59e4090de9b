// A vote as mpfl.vote decides it, and its histogram: for the widgets that vote.
const RULES = [
  ["most_votes", "the most-voted, as many as asked"],
  ["share", "a share of the votes (tau)"],
  ["relaxed", "relaxed: the lowest tau that removes enough"],
  ["published_threshold", "published: dynamic threshold"],
  ["published_percentile", "published: percentile"],
];

/**
 * For every filter of a layer, whether it stays. A layer has votes, nodes, keep, ranks (0 is the
 * largest filter), weights per filter; a written rule looks at its norms too.
 */
function decide(rule, layer, { tau, percentile, condition }) {
  const { votes, nodes, keep, ranks, weights } = layer;
  const size = votes.length;
  const share = Array.from(votes, (count) => count / nodes);
  const at = (threshold) => share.map((each) => each >= threshold);
  const gone = (kept) => kept.filter((bit) => !bit).length;
  const order = [...share.keys()].sort((a, b) => share[b] - share[a] || ranks[a] - ranks[b]);
  const best = (count) => {
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
  } else if (rule === "written") {
    kept = writtenKeeps(condition, { ...layer, best: order });
  } else {
    const every = nodes * size * weights;
    const zeros = every - votes.reduce((sum, count) => sum + count, 0) * weights;
    const place = (every - 1) * ((100 * percentile) / 100);
    const before = Math.floor(place);
    const step = place - before;
    const between = step < 0.5 ? step : 1 - (1 - step);
    if (before !== zeros - 1 || zeros === every) kept = at(before >= zeros ? 1 : 0);
    else kept = at(between);
  }
  return kept.some(Boolean) ? kept : best(1); // an empty layer computes nothing
}

/** How many votes each filter of a layer has, which begins at `start` of the ballots. */
function counted(cast, start, size) {
  const votes = new Array(size).fill(0);
  for (const ballot of cast) for (let i = 0; i < size; i++) votes[i] += ballot[start + i];
  return votes;
}

/**
 * How many filters got 0, 1, ... votes. `parts` are `[look, words, numbers by votes]`, from below.
 * A bar is as high as the square root of its number: a thousand filters without a vote do not
 * flatten the others. Its parts are shares of it.
 */
function histogram(svg, across, parts) {
  const bars = parts[0][2].length;
  const all = Array.from({ length: bars }, (_, votes) => total(parts.map(([, , numbers]) => numbers[votes])));
  const top = Math.sqrt(Math.max(...all, 1));
  const step = (across - 8) / bars;
  const drawn = [];
  all.forEach((number, votes) => {
    const x = 4 + votes * step;
    const high = (140 * Math.sqrt(number)) / top;
    let y = 160;
    for (const [look, , numbers] of parts) {
      const part = number ? (high * numbers[votes]) / number : 0;
      y -= part;
      if (part) drawn.push(h("rect", { x, y, width: step * 0.8, height: part, class: `mpfl-${look}` }));
    }
    const text = number ? whole(number) : "";
    drawn.push( // a letter is some 6 pixels wide: a long number over the first bar begins at the edge
      h("text", { x: x + step * 0.4, y: 174, "text-anchor": "middle" }, String(votes)),
      h("text", { x: Math.max(x + step * 0.4, 3.2 * text.length), y: y - 5, "text-anchor": "middle" }, text));
  });
  svg.setAttribute("viewBox", `0 0 ${across} 190`);
  svg.setAttribute("width", across);
  svg.replaceChildren(...drawn,
    h("line", { x1: 0, x2: across, y1: 160, y2: 160, class: "axis" }),
    h("text", { x: across / 2, y: 188, "text-anchor": "middle" }, "votes to keep a filter"));
  svg.setAttribute("aria-label", all.map((_, votes) =>
    `${votes} votes: ` + parts.map(([, words, numbers]) => `${numbers[votes]} ${words}`).join(", ")).join("; "));
}

/** What the bars of a histogram mean. */
const SCALE = "A bar is as high as the square root of the number above it, so that many filters "
  + "without a vote do not flatten the rest.";
