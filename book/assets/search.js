// The search page: chapters before pages of the package, titles before text, and a few words around
// what was found. The words are in searchtexts.js, as a page opened from disk may not fetch others.
const SUMMARY = 180;
const MOST = 40; // results that are shown

// A name of the package, as most_votes or mpfl.vote, is looked up in the package.
const asksForCode = (query) => /[_.]|\(/.test(query);

function rank([page, title, , about, score], query) {
  const reference = page.startsWith("book/api") || page.startsWith("_modules");
  const first = reference === asksForCode(query) ? 1000 : 0;
  const named = title.toLowerCase().includes(query.toLowerCase().trim()) ? 100 : 0;
  const phrase = (TEXTS[page] ?? "").toLowerCase().includes(query.toLowerCase().trim()) ? 20 : 0;
  return first + named + phrase + score + (about ? 1 : 0);
}

function summary(page, words) {
  const text = TEXTS[page] ?? "";
  const low = text.toLowerCase();
  const places = words.map((word) => low.indexOf(word)).filter((place) => place >= 0);
  let start = Math.max(0, Math.min(...places, low.length) - SUMMARY / 3);
  if (!places.length) start = 0;
  if (start > 0) start = text.indexOf(" ", start) + 1;
  const end = start + SUMMARY < text.length ? text.lastIndexOf(" ", start + SUMMARY) : text.length;
  return (start > 0 ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
}

// Text with the words looked for in <mark>; nothing in it is read as HTML.
function marked(text, words) {
  const line = document.createElement("p");
  const parts = words.length
    ? text.split(new RegExp(`(${words.map(_escapeRegExp).join("|")})`, "gi")) : [text];
  parts.forEach((part, place) => {
    if (place % 2) line.appendChild(document.createElement("mark")).textContent = part;
    else line.append(part);
  });
  return line;
}

Search.query = (query) => {
  const [, stems, without, words, objects] = Search._parseQuery(query);
  localStorage.removeItem("sphinx_highlight_terms");
  const seen = new Set();
  const found = Search._performSearch(query, stems, without, words, objects)
    .map((item) => [rank(item, query), item])
    .sort(([one], [other]) => other - one)
    // Of a page its best place, and of a function its own line.
    .filter(([, [page, , , about]]) => {
      const what = about ? `${page} ${about}` : page;
      return !seen.has(what) && seen.add(what);
    });
  const results = found.slice(0, MOST);
  const phrase = query.toLowerCase().trim();
  for (const [, [page, title, anchor, about]] of results) {
    const item = document.createElement("li");
    const link = item.appendChild(document.createElement("a"));
    link.href = page + DOCUMENTATION_OPTIONS.LINK_SUFFIX + anchor;
    link.innerHTML = title;
    if (about) item.append(` (${about})`);
    else {
      const whole = (TEXTS[page] ?? "").toLowerCase().includes(phrase);
      const looked = whole ? [phrase] : [...words];
      item.append(marked(summary(page, looked), looked));
    }
    Search.output.append(item);
  }
  _finishSearch(results.length);
  if (found.length) {
    Search.status.textContent = found.length > MOST ? `The first ${MOST} of ${found.length} places that match:`
      : found.length > 1 ? `${found.length} places match:` : "One place matches:";
  }
};
