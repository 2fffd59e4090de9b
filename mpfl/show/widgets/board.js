export default {
  render({ model, el }) {
    // A published page has the rows already; beside a kernel they come with the state.
    if (!el.querySelector(".mpfl-claims")) el.innerHTML = model.get("markup");
    const written = [...el.childNodes];
    const rows = [...el.querySelectorAll(".mpfl-claim")];
    const sections = [...el.querySelectorAll("section[data-whose]")];
    const verdicts = model.get("verdicts");

    const chip = (verdict, sign, count) => h("button", {
      type: "button", class: "mpfl-badge", "data-verdict": verdict || false,
      onclick: () => choose({ verdict }),
    }, h("span", { "aria-hidden": "true" }, sign), ` ${verdict || "all"}: ${count}`);
    const chips = [["", "", rows.length], ...verdicts].map((each) => [each[0], chip(...each)]);
    const whose = field(model, "whose", "Whose claim",
      choice([["", "anybody's"], ...model.get("groups")]));
    const said = h("p", { class: "mpfl-notes", "aria-live": "polite" });

    function choose(values) {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      model.save_changes();
    }
    /** A link to a row that is hidden shows all rows. */
    function follow() {
      const row = rows.find(({ id }) => `#${id}` === location.hash);
      if (row?.closest("[hidden]")) {
        choose({ verdict: "", whose: "" });
        row.scrollIntoView();
      }
    }

    function draw() {
      const [verdict, group] = [model.get("verdict"), model.get("whose")];
      for (const [name, button] of chips) button.setAttribute("aria-pressed", name === verdict);
      for (const row of rows) row.hidden = verdict !== "" && row.dataset.verdict !== verdict;
      for (const section of sections) {
        section.hidden = (group !== "" && section.dataset.whose !== group)
          || !section.querySelector(".mpfl-claim:not([hidden])");
      }
      const shown = rows.filter((row) => !row.closest("[hidden]"));
      said.textContent = `${shown.length} of ${rows.length} claims ${shown.length === 1 ? "is" : "are"} shown.`;
      el.dataset.shown = JSON.stringify(shown.map(({ id }) => id.replace("claim-", "")));
    }

    frame(el, model, "Verdict board",
      h("div", { class: "mpfl-board-controls" },
        h("div", { class: "mpfl-chips", role: "group", "aria-label": "Verdict" }, ...chips.map(([, button]) => button)),
        whose.box),
      said, ...written);
    for (const name of ["verdict", "whose"]) model.on(`change:${name}`, draw);
    addEventListener("hashchange", follow);
    draw();
    return () => removeEventListener("hashchange", follow);
  },
};
