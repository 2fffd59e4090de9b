const SIDES = ["one", "two"];
const CALLED = { one: "First", two: "Second" };
const SETTING = ["ballots", "table", "sparsity", ...SIDES.flatMap((side) => [side, `${side}_level`, `${side}_text`])];
const CHOICES = [...RULES, ["written", "a rule of your own, written"]];
const LINK = "#vote-lab?";

/** What a link says of the setting; what no control could make is left out. */
function linked(hash, model) {
  if (!hash.startsWith(LINK)) return {};
  const there = Object.fromEntries(new URLSearchParams(hash.slice(LINK.length)));
  const between = (low, high) => (text) => /^[0-9.]+$/.test(text) && Number(text) >= low && Number(text) <= high
    && Number(text) === Math.round(20 * Number(text)) / 20; // a slider goes by twentieths
  const rule = (text) => CHOICES.some(([name]) => name === text);
  const line = (text) => [...text].length <= LONGEST && !/[\r\n]/.test(text);
  const known = {
    ballots: (text) => text === model.get("hand").name || Object.hasOwn(model.get("recorded"), text),
    table: (text) => /^[0-9a-f]{16}$/.test(text),
    sparsity: between(0, 0.95), one: rule, two: rule,
    one_level: between(0.05, 1), two_level: between(0.05, 1), one_text: line, two_text: line,
  };
  return Object.fromEntries(SETTING.filter((name) => name in there && known[name](there[name]))
    .map((name) => [name, typeof model.get(name) === "number" ? Number(there[name]) : there[name]]));
}

/** The ballots that are shown, layer by layer, with all that a rule may look at. */
function pictured(model) {
  const hand = model.get("hand");
  const byHand = model.get("ballots") === hand.name;
  const norms = byHand ? hand.norms : model.get("norms");
  const size = norms.length;
  const layers = byHand ? [["hand", size, 1]] : model.get("layers");
  const cut = bitsOf(model.get("table"), hand.nodes * hand.norms.length);
  const cast = byHand
    ? Array.from({ length: hand.nodes }, (_, node) => cut.slice(node * size, (node + 1) * size))
    : model.get("recorded")[model.get("ballots")].map((hex) => bitsOf(hex, size));
  let start = 0;
  const facts = layers.map(([name, filters, weights]) => {
    const own = norms.slice(start, start + filters);
    const ranks = new Array(filters);
    [...own.keys()].sort((a, b) => own[b] - own[a] || a - b).forEach((i, place) => (ranks[i] = place));
    const votes = counted(cast, start, filters);
    start += filters;
    const keep = Math.max(1, filters - roundedUp(model.get("sparsity"), filters));
    return { name, votes, nodes: cast.length, keep, ranks, weights, norms: own };
  });
  return { byHand, cast, facts, nodes: cast.length, filters: size };
}

/** The controls of one rule. `said` holds what is wrong with a written one. */
function ruled(model, side) {
  const name = CALLED[side];
  const rule = field(model, side, `${name} rule`, choice(CHOICES));
  const level = field(model, `${side}_level`, `${name} rule, level`, slider(0.05, 1, 0.05));
  // A longer line is refused by the grammar: cut off here, it would be another rule.
  const line = h("input", { type: "text", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const text = field(model, `${side}_text`, `${name} rule, in one line`, line);
  text.box.classList.add("mpfl-line-of-text");
  const said = h("p", { class: "mpfl-error", "aria-live": "polite" });
  const mark = h("pre", { class: "mpfl-caret", "aria-hidden": "true" });
  const box = h("div", { class: "mpfl-side" }, rule.box, level.box, text.box, mark, said);
  let condition = null; // the last that could be read

  /** The setting of a side, and whether its line could be read. */
  function read(nodes) {
    const chosen = model.get(side);
    const tau = model.get(`${side}_level`);
    level.box.hidden = !["share", "published_percentile"].includes(chosen);
    text.box.hidden = chosen !== "written";
    const needs = Array.from({ length: nodes + 1 }, (_, votes) => votes).find((votes) => votes / nodes >= tau);
    level.shown.value = chosen === "share" ? `${tau.toFixed(2)}: ${needs} of ${nodes} votes` : tau.toFixed(2);
    let wrong = null;
    if (chosen === "written") {
      try {
        condition = written(model.get(`${side}_text`));
      } catch (error) {
        if (!(error instanceof NoRule)) throw error;
        wrong = error;
      }
    }
    line.setAttribute("aria-invalid", String(Boolean(wrong)));
    said.textContent = wrong ? `Place ${wrong.message.slice(6)}.` : "";
    mark.textContent = wrong ? `${model.get(`${side}_text`)}\n${" ".repeat(wrong.place - 1)}^` : "";
    mark.hidden = said.hidden = !wrong;
    // Of a link there may be none yet: then what is decided is not shown.
    return { chosen, setting: { tau, percentile: tau, condition: condition ?? (() => true) }, wrong, none: wrong && !condition };
  }
  return { box, read };
}

export default {
  render({ model, el }) {
    Object.entries(model.still ? linked(location.hash, model) : {}).forEach(([name, value]) => model.set(name, value));
    model.save_changes();
    const hand = model.get("hand");
    const filtersByHand = hand.norms.length;
    const ballots = field(model, "ballots", "Ballots",
      choice([hand.name, ...Object.keys(model.get("recorded"))].map((name) => [name, name])));
    const sparsity = field(model, "sparsity", "Asked to remove", slider(0, 0.95, 0.05));
    const sides = Object.fromEntries(SIDES.map((side) => [side, ruled(model, side)]));
    const button = (text, press, more) => h("button", { type: "button", onclick: press, ...more }, text);

    // A lesson is a setting of everything; it is told of as long as it stands.
    const lessons = model.get("lessons");
    const setOf = ({ name: _, says: __, ...setting }) => ({ ballots: hand.name, ...setting });
    const buttons = lessons.map((lesson) => button(lesson.name, () => {
      for (const [name, value] of Object.entries(setOf(lesson))) model.set(name, value);
      model.save_changes();
    }));
    const lesson = h("p", { class: "mpfl-notes", "aria-live": "polite" });

    // The table by hand: one place of it is reached by Tab, the others by the arrow keys.
    const cells = Array.from({ length: filtersByHand }, (_, filter) => Array.from({ length: hand.nodes }, (_, node) =>
      button("", () => flip(filter, node), { class: "mpfl-ballot", tabindex: filter + node ? -1 : 0,
        onkeydown: (event) => move(event, filter, node) })));
    function flip(filter, node) {
      const bits = bitsOf(model.get("table"), hand.nodes * filtersByHand);
      bits[node * filtersByHand + filter] ^= 1;
      model.set("table", hexOf(bits));
      model.save_changes();
    }
    function move(event, filter, node) {
      const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [];
      const to = down === undefined ? null : cells[filter + down]?.[node + right];
      if (down !== undefined) event.preventDefault();
      if (!to) return;
      event.target.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    }
    const ends = cells.map(() => ["votes", ...SIDES, "norm"].map((what) => h("td", { "data-field": what })));
    const head = (texts) => h("thead", {}, h("tr", {}, ...texts.map((text) => h("th", { scope: "col" }, text))));
    const drawnTable = sideways("Ballots, drawn by hand", h("table", { class: "mpfl-hand" },
      head(["#", ...Array.from({ length: hand.nodes }, (_, node) => `n${node + 1}`), "votes", "first", "second", "norm"]),
      h("tbody", {}, ...cells.map((row, filter) => h("tr", {}, h("th", { scope: "row" }, String(filter + 1)),
        ...row.map((cell) => h("td", {}, cell)), ...ends[filter])))));

    const said = h("p", { class: "mpfl-said", "aria-live": "polite" });
    const bars = h("svg", { role: "img" });
    const body = h("tbody", {});
    const results = h("div", {});
    let now = null;
    const by = (one, two) => (one ? (two ? "both rules keep it" : "only the first rule keeps it")
      : two ? "only the second rule keeps it" : "neither rule keeps it");
    const map = squares(model.get("layers"), el, (layer, i) => {
      const { votes, norms, nodes } = now.facts[layer];
      return `${votes[i]} of ${nodes} votes, norm ${norms[i].toPrecision(3)}; ${by(now.one[layer][i], now.two[layer][i])}`;
    });
    const breadthNow = breadth(el, () => draw());
    const look = (one, two) => (one ? (two ? "stay" : "won") : two ? "third" : "go");

    function draw() {
      const picture = pictured(model);
      const { byHand, facts, filters, nodes } = picture;
      const read = Object.fromEntries(SIDES.map((side) => [side, sides[side].read(nodes)]));
      const made = Object.fromEntries(SIDES.map((side) => [side,
        facts.map((layer) => decide(read[side].chosen, layer, read[side].setting))]));
      now = { ...picture, ...made };
      const flat = Object.fromEntries(SIDES.map((side) => [side, made[side].flat()]));
      const wrong = SIDES.filter((side) => read[side].wrong);
      for (const side of SIDES) el.dataset[side] = read[side].wrong ? "" : hexOf(flat[side]);
      sparsity.shown.value = byHand ? `${filters - facts[0].keep} of ${filters}` : percent(model.get("sparsity"), 0);

      const kept = (side) => total(flat[side].map(Number));
      const alone = (side, other) => total(flat[side].map((bit, i) => Number(bit && !flat[other][i])));
      const [first, second] = [alone("one", "two"), alone("two", "one")];
      results.classList.toggle("mpfl-dim", wrong.length > 0);
      results.hidden = wrong.some((side) => read[side].none);
      said.replaceChildren(...(wrong.length
        ? [h("strong", {}, wrong.length > 1 ? "Neither rule can be read. " : `The ${CALLED[wrong[0]].toLowerCase()} rule cannot be read. `),
          results.hidden ? "Mend it to see what it keeps." : "Below is what the last rule did that could."]
        : [`Of ${whole(filters)} filters the first rule keeps `, h("strong", {}, whole(kept("one"))), ", the second ",
          h("strong", {}, whole(kept("two"))), ". They disagree on ", h("strong", {}, whole(first + second)),
          first + second ? `: ${whole(first)} stay under the first rule alone, ${whole(second)} under the second.` : "."]));
      const here = lessons.find((each) => Object.entries(setOf(each)).every(([name, value]) => model.get(name) === value));
      lesson.textContent = here?.says ?? "";
      buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(lessons[i] === here)));

      drawnTable.hidden = !byHand;
      map.node.hidden = byHand;
      if (byHand) {
        cells.forEach((row, filter) => {
          row.forEach((cell, node) => {
            const bit = Boolean(picture.cast[node][filter]);
            cell.setAttribute("aria-pressed", String(bit));
            cell.setAttribute("aria-label", `Node ${node + 1} keeps filter ${filter + 1}`);
            cell.textContent = bit ? "1" : "0";
          });
          const [one, two] = SIDES.map((side) => flat[side][filter]);
          const fates = [one, two].map((bit) => (bit ? "stays" : "goes"));
          const texts = [facts[0].votes[filter], ...fates, hand.norms[filter].toFixed(1)];
          ends[filter].forEach((cell, i) => {
            cell.textContent = String(texts[i]);
            cell.className = fates.includes(texts[i]) ? `mpfl-fate mpfl-fate-${texts[i]}` : "";
          });
          row[0].closest("tr").classList.toggle("mpfl-differ", one !== two);
        });
      } else {
        map.drawn.forEach(({ name, cells: all, title }, layer) => {
          const [one, two] = SIDES.map((side) => made[side][layer]);
          all.forEach((cell, i) => cell.setAttribute("class", `mpfl-${look(one[i], two[i])}`));
          title.textContent = `${name}: ${total(one.map(Number))} and ${total(two.map(Number))} of ${one.length} stay`;
        });
        map.tell();
      }
      body.replaceChildren(...facts.map(({ name, votes }, layer) => {
        const [one, two] = SIDES.map((side) => made[side][layer]);
        const differ = one.filter((bit, i) => bit !== two[i]).length;
        return h("tr", {}, h("td", {}, byHand ? "the table" : name),
          ...[votes.length, total(one.map(Number)), total(two.map(Number)), differ].map((each) => h("td", {}, whole(each))));
      }));
      const parts = [["stay", "kept by both", [1, 1]], ["won", "by the first alone", [1, 0]],
        ["third", "by the second alone", [0, 1]], ["go", "by neither", [0, 0]]].map(([style, words, [a, b]]) => {
        const numbers = new Array(nodes + 1).fill(0);
        facts.forEach(({ votes }, layer) => votes.forEach((count, i) =>
          (made.one[layer][i] == a && made.two[layer][i] == b ? numbers[count]++ : 0)));
        return [style, words, numbers];
      });
      histogram(bars, breadthNow(), parts);
    }

    // The address follows the setting, a moment later; a link that is opened here sets it.
    let later = null;
    const address = () => {
      const setting = new URLSearchParams(SETTING.map((name) => [name, model.get(name)]));
      return `${location.href.split("#")[0]}${LINK}${setting}`;
    };
    const follow = () => {
      copied.textContent = ""; // what was copied is another picture
      link.value = address();
      clearTimeout(later);
      later = setTimeout(() => {
        try { history.replaceState(history.state, "", address()); } catch { /* a page that may not */ }
      }, 250);
    };
    const arrive = () => {
      const setting = linked(location.hash, model);
      for (const [name, value] of Object.entries(setting)) model.set(name, value);
      model.save_changes();
      if (Object.keys(setting).length) el.scrollIntoView();
    };
    const link = h("input", { type: "text", readonly: true, "aria-label": "Link to this picture", hidden: true });
    const copied = h("span", { "aria-live": "polite" });
    const copy = button("Copy link", async () => {
      link.value = address();
      try {
        await navigator.clipboard.writeText(link.value);
        copied.textContent = " Copied.";
      } catch {
        link.hidden = false;
        link.select();
        copied.textContent = " Copy it from the field.";
      }
    });

    results.append(drawnTable, bars, h("p", { class: "mpfl-notes" }, SCALE),
      h("ul", { class: "mpfl-key" }, keyed("mpfl-stay", "both keep it"), keyed("mpfl-won", "the first alone"),
        keyed("mpfl-third", "the second alone"), keyed("mpfl-go", "neither")),
      map.node,
      h("details", {}, h("summary", {}, "The same as a table"), sideways("Both rules by layer", h("table", {},
        head(["layer", "filters", "first keeps", "second keeps", "disagree"]), body))));
    frame(el, model, "Vote lab",
      h("div", { class: "mpfl-buttons mpfl-lessons", role: "group", "aria-label": "Pictures to begin with" }, ...buttons),
      lesson, h("div", { class: "mpfl-fields" }, ballots.box, sparsity.box),
      h("div", { class: "mpfl-sides" }, sides.one.box, sides.two.box),
      said, results, ...(model.still ? [h("div", { class: "mpfl-copy" }, copy, copied, link)] : []));
    for (const name of SETTING) model.on(`change:${name}`, () => (draw(), model.still && follow()));
    draw();
    if (!model.still) return undefined;
    if (location.hash.startsWith(LINK)) el.scrollIntoView();
    addEventListener("hashchange", arrive);
    return () => removeEventListener("hashchange", arrive);
  },
};
