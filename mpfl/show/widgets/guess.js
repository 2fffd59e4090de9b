/** Whether a guess is right, as Guess.right decides it. */
function isRight({ answer, shown, within, choices }, guess) {
  if (choices.length) return guess === answer;
  const seen = Number(shown.replaceAll(",", ""));
  return Math.min(Math.abs(guess - answer), Math.abs(guess - seen)) <= within * (1 + 1e-9);
}

/**
 * The number that a text says, as a reader may write it: 1,376 and 1 376 as well as 1376, with an
 * exponent, a sign, the unit or its first word behind it. `undefined` if it says none: a comma that
 * parts no thousands may be a decimal one, and is not guessed at.
 */
function numberIn(text, unit) {
  let said = text.normalize("NFKC").replaceAll("\u2212", "-").trim();
  const end = [unit, unit.split(" ")[0]].find((each) => each && said.endsWith(each));
  if (end) said = said.slice(0, -end.length).trim();
  const found = /^([+-]?)(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d*)(\.\d*)?(e[+-]?\d+)?$/i.exec(said);
  if (!found || !/\d/.test(found[2] + (found[3] ?? ""))) return undefined;
  const number = Number(said.replace(/[, ]/g, ""));
  return Number.isFinite(number) ? number : undefined;
}

export default {
  render({ model, el }) {
    const names = ["question", "answer", "shown", "because", "within", "unit", "choices"];
    const asked = Object.fromEntries(names.map((name) => [name, model.get(name)]));
    const id = `mpfl-guess-${Math.random().toString(36).slice(2)}`;
    const unit = asked.unit && ` ${asked.unit}`;

    // A field of numbers would drop a comma, and make 5 of 0,5. Telephones' keys for decimals have no minus.
    const number = h("input", { type: "text", inputmode: asked.answer < 0 ? "text" : "decimal", id, autocomplete: "off" });
    const options = asked.choices.map((value) => h("input", { type: "radio", name: id, value }));
    const question = options.length
      ? h("fieldset", {}, h("legend", {}, asked.question),
        ...options.map((option) => h("label", { class: "mpfl-option" }, option, option.value)))
      : h("div", {}, h("label", { for: id }, asked.question),
        h("span", { class: "mpfl-answer" }, number, unit));
    const verdict = h("p", { class: "mpfl-verdict", "aria-live": "polite" });

    const guessed = () => (options.length
      ? options.find((option) => option.checked)?.value
      : numberIn(number.value, asked.unit));

    function check(event) {
      event.preventDefault();
      const guess = guessed();
      if (guess === undefined) {
        forget();
        verdict.textContent = options.length ? "Choose an answer first."
          : number.value.trim() === "" ? "Type a number first." : "That is no number here; write one such as 0.5 or 1,376.";
        (options[0] ?? number).focus();
        return;
      }
      model.set("guess", guess);
      model.save_changes();
      draw();
    }

    /** How the guess compares with the page's answer, in words. */
    function compared(guess, right) {
      const answer = h("strong", {}, `${asked.shown}${unit}`);
      if (options.length) return right ? ["Yes: ", answer, ". "] : ["No, it is ", answer, ". "];
      const size = Math.abs(guess);
      const yours = size >= 1e15 || (size && size < 1e-6) ? String(guess)
        : guess.toLocaleString("en", { maximumFractionDigits: 9 });
      const near = asked.within.toLocaleString("en", { maximumSignificantDigits: 4 });
      const told = ["The page finds ", answer, "; you said ", yours, ". "];
      if (right && (yours === asked.shown || !asked.within)) return ["Yes: ", answer, ". "];
      if (right) return ["Yes, within ", near, ". ", ...told];
      return [`No, too ${guess > asked.answer ? "high" : "low"}. `, ...told];
    }

    /** A verdict goes with its guess: beside another answer it would judge that one. */
    function forget() {
      delete el.dataset.right;
      verdict.replaceChildren();
    }

    function draw() {
      const guess = model.get("guess");
      if (guess === null || guess === undefined) {
        forget();
        return;
      }
      for (const option of options) option.checked = option.value === guess;
      if (!options.length && numberIn(number.value, asked.unit) !== guess) number.value = guess;
      const right = isRight(asked, guess);
      el.dataset.right = right;
      verdict.replaceChildren(...compared(guess, right), asked.because);
    }

    frame(el, model, "Predict, then check",
      h("form", { class: "mpfl-guess", novalidate: true, onsubmit: check, oninput: forget },
        h("p", { class: "mpfl-notes", "aria-hidden": "true" }, "Predict, then check"),
        question, h("button", { type: "submit" }, "Check"), verdict));
    model.on("change:guess", draw);
    draw();
  },
};
