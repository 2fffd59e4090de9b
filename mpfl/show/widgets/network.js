// A network that a reader writes, as mpfl/show/widgets/network.py reads it: same sentences.
const MOST = { images: 10000000, channels: 4096, filters: 4096, weights: 65536, layers: 60 };
const LARGEST = 8000000000; // a message holds 32 GB at most, and sums of bytes stay exact

/** A line that describes no layer. */
class NoNetwork extends Error {}

/** The network that lines of text describe, as plain numbers; throws `NoNetwork`. */
function writtenNetwork(text) {
  const fail = (place, what) => {
    throw new NoNetwork(`line ${place}: ${what}`);
  };
  const short = (word) => ([...word].length > 30 ? `${[...word].slice(0, 30).join("")}…` : word);
  const number = (place, word, what) => {
    if (!/^[1-9][0-9]{0,7}$/.test(word) || Number(word) > MOST[what]) {
      fail(place, `"${short(word)}" is no number of ${what}; give a whole number from 1 to ${MOST[what]}`);
    }
    return Number(word);
  };
  const row = (place, [name, ...more]) => {
    if (!/^[A-Za-z][A-Za-z0-9_-]{0,29}$/.test(name)) {
      fail(place, `"${short(name)}" is no name; give letters, digits, - and _, a letter first`);
    }
    if (rows.some((other) => other.name === name)) {
      fail(place, `there is a layer ${name} above; give each a name of its own`);
    }
    if (!more.length) fail(place, `give ${name} a number of filters, such as ${name} 64 3x3`);
    const filters = number(place, more[0], "filters");
    let kernel = [];
    let rest = more.slice(1);
    if (rest.length && rest[0] !== "norm") {
      if (!/^[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,2}$/.test(rest[0])) {
        fail(place, `"${short(rest[0])}" is no kernel; give a size such as 3x3, or norm`);
      }
      kernel = rest[0].split("x").map(Number);
      if (product(kernel) > MOST.weights) fail(place, `a kernel has at most ${MOST.weights} weights here`);
      rest = rest.slice(1);
    }
    if (rest.length && !(rest.length === 1 && rest[0] === "norm")) {
      const wrong = rest[0] === "norm" ? rest[1] : rest[0];
      fail(place, `"${short(wrong)}" is one word too many; a kernel and norm may follow the filters`);
    }
    return { name, filters, kernel, norm: rest.length > 0 };
  };

  let images = 50000;
  let channels = 0;
  const rows = [];
  const said = new Set();
  const lines = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
  lines.forEach((line, index) => {
    const place = index + 1;
    const words = line.replace(/[\t\u00a0\ufeff]/g, " ").split(" ").filter(Boolean);
    if (!words.length) return;
    if (words[0] === "images" || words[0] === "input") {
      if (rows.length) fail(place, `${words[0]} stands above the layers`);
      if (said.has(words[0])) fail(place, `${words[0]} stands above already; say it once`);
      said.add(words[0]);
      if (words.length !== 2) fail(place, `give ${words[0]} and one number, such as ${words[0]} 3`);
      if (words[0] === "images") images = number(place, words[1], "images");
      else channels = number(place, words[1], "channels");
      return;
    }
    if (!channels) fail(place, "say first how many channels the images have, such as input 3");
    rows.push(row(place, words));
    if (rows.length > MOST.layers) fail(place, `a network has at most ${MOST.layers} layers here`);
  });
  if (rows.length < 2) fail(lines.length, "give at least two layers; the last one is the output");

  const last = rows.length - 1;
  const tensors = rows.flatMap(({ name, filters, kernel, norm }, i) => {
    const own = i < last ? i : -1;
    const read = i ? [i - 1] : [];
    const inputs = i ? rows[i - 1].filters : channels;
    const beside = (end, voted) => [`${name}.${end}`, [filters], own, [], 1, voted];
    return [
      [`${name}.weight`, [filters, inputs, ...kernel], own, read, 1, true], beside("bias", true),
      ...(norm ? [beside("norm.weight", true), beside("norm.bias", true),
        beside("norm.running_mean", false), beside("norm.running_var", false)] : []),
    ];
  }).sort(([a], [b]) => (a < b ? -1 : 1));
  const size = total(tensors.map(([, shape]) => product(shape)));
  if (size > LARGEST) fail(lines.length, `a network has at most ${whole(LARGEST)} weights here, and this has ${whole(size)}`);
  return { layers: rows.slice(0, last).map(({ name, filters }) => [name, filters]), tensors, images };
}
