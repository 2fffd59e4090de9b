// The grammar of mpfl/analysis/written.py, read in the same way: same names, same sentences.
const FACTS = ["votes", "N", "share", "norm", "median", "rank", "keep", "filters"];
const LONGEST = 200;
const DEEPEST = 20;
const TOKEN = /[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[A-Za-z_][A-Za-z_0-9]*|[<>=!]=|[<>()+*/≥≤-]/y;
const SAME = new Map([["≥", ">="], ["≤", "<="]]);
const OPERATIONS = {
  "or": (a, b) => a || b, "and": (a, b) => a && b,
  ">=": (a, b) => a >= b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, "<": (a, b) => a < b,
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
};

/** A line that is no rule: `place` counts its characters from 1. */
class NoRule extends Error {
  constructor(place, what) {
    super(`place ${place}: ${what}`);
    this.place = place;
  }
}

/** The condition that a line says, as a function of a filter's facts; throws `NoRule`. */
function written(text) {
  const words = [];
  let at = 0;
  let depth = 0;
  const fail = (place, what) => {
    throw new NoRule(place, what);
  };
  if ([...text].length > LONGEST) fail(LONGEST + 1, `a rule has at most ${LONGEST} characters`);
  for (let place = 0; place < text.length;) {
    TOKEN.lastIndex = place;
    const found = TOKEN.exec(text);
    if (" \t".includes(text[place])) place += 1;
    else if (found) {
      words.push([place + 1, SAME.get(found[0]) ?? found[0]]);
      place = TOKEN.lastIndex;
    } else fail(place + 1, `"${String.fromCodePoint(text.codePointAt(place))}" is not part of a rule`);
  }
  words.push([text.length + 1, ""]);

  const take = (...these) => (these.includes(words[at][1]) ? words[at++] : null);
  const both = (word, parts, takes, gives) => {
    for (const { place, holds } of parts) {
      const [what, needed] = holds ? ["a condition", "numbers"] : ["a number", "conditions"];
      if (holds !== takes) fail(place, `${what} stands here, but "${word}" takes ${needed}`);
    }
    const [one, other] = parts;
    const operation = OPERATIONS[word];
    return { place: one.place, holds: gives, value: (facts) => operation(one.value(facts), other.value(facts)) };
  };
  const chain = (part, signs, takes) => () => {
    let joined = part();
    for (let found; (found = take(...signs));) joined = both(found[1], [joined, part()], takes, takes);
    return joined;
  };
  const deeper = (place, part) => {
    depth += 1;
    if (depth > DEEPEST) fail(place, `this is nested more than ${DEEPEST} deep`);
    const found = part();
    depth -= 1;
    return found;
  };

  function single() {
    const [place, word] = words[at];
    if (take("-")) {
      const part = deeper(place, single);
      if (part.holds) fail(part.place, 'a condition stands here, but "-" takes numbers');
      return { place, holds: false, value: (facts) => -part.value(facts) };
    }
    if (take("(")) {
      const part = deeper(place, either);
      if (!take(")")) fail(words[at][0], `the bracket of place ${place} is not closed`);
      return { ...part, place };
    }
    if (/^[0-9.]/.test(word)) {
      at += 1;
      return { place, holds: false, value: () => Number(word) };
    }
    if (FACTS.includes(word)) {
      at += 1;
      return { place, holds: false, value: (facts) => facts[word] };
    }
    if (/^[A-Za-z]/.test(word) && !["and", "or", "not"].includes(word)) {
      fail(place, `there is no "${word}"; the names are ${FACTS.join(", ")}`);
    }
    const here = word ? `not "${word}"` : "not the end";
    return fail(place, `a name, a number or a bracket must stand here, ${here}`);
  }
  const product = chain(single, ["*", "/"], false);
  const sum = chain(product, ["+", "-"], false);
  function compared() {
    const part = sum();
    const found = take(">=", ">", "<=", "<", "==", "!=");
    return found ? both(found[1], [part, sum()], false, true) : part;
  }
  function negated() {
    const found = take("not");
    if (!found) return compared();
    const part = deeper(found[0], negated);
    if (!part.holds) fail(part.place, 'a number stands here, but "not" takes conditions');
    return { place: found[0], holds: true, value: (facts) => !part.value(facts) };
  }
  const every = chain(negated, ["and"], true);
  const either = chain(every, ["or"], true);

  const whole = either();
  const [place, word] = words[at];
  if (word) fail(place, `"${word}" is one too many here; join conditions by and, or`);
  if (!whole.holds) fail(whole.place, "this is a number; compare it, as in votes >= 0.7*N");
  return whole.value;
}

/** Which filters of a layer a written rule keeps; `best` holds them by votes, then by norm. */
function writtenKeeps(condition, { votes, nodes, keep, norms, best }) {
  const size = votes.length;
  const sorted = [...norms].sort((a, b) => a - b);
  const median = (sorted[(size - 1) >> 1] + sorted[size >> 1]) / 2;
  const rank = new Array(size);
  best.forEach((filter, place) => (rank[filter] = place + 1));
  return votes.map((count, i) => condition({
    votes: count, N: nodes, share: count / nodes, norm: norms[i], median, rank: rank[i], keep, filters: size,
  }));
}
