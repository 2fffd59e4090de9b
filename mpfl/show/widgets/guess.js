/** Whether a guess is right, as Guess.right decides it. */
function isRight({ answer, shown, within, choices }, guess) {
  if (choices.length) return guess === answer;
  const seen = Number(shown.replaceAll(",", ""));
  return Math.min(Math.abs(guess - answer), Math.abs(guess - seen)) <= within * (1 + 1e-9);
}

export default {
  render({ model, el }) {
    const names = ["question", "answer", "shown", "because", "within", "unit", "choices"];
    const asked = Object.fromEntries(names.map((name) => [name, model.get(name)]));
    const id = `mpfl-guess-${Math.random().toString(36).slice(2)}`;
    const unit = asked.unit && ` ${asked.unit}`;

    const number = h("input", { type: "number", step: "any", id, autocomplete: "off" });
    const options = asked.choices.map((value) => h("input", { type: "radio", name: id, value }));
    const question = options.length
      ? h("fieldset", {}, h("legend", {}, asked.question),
        ...options.map((option) => h("label", { class: "mpfl-option" }, option, option.value)))
      : h("div", {}, h("label", { for: id }, asked.question),
        h("span", { class: "mpfl-answer" }, number, unit));
    const verdict = h("p", { class: "mpfl-verdict", "aria-live": "polite" });

    const guessed = () => (options.length
      ? options.find((option) => option.checked)?.value
      : number.value.trim() === "" ? undefined : Number(number.value));

    function check(event) {
      event.preventDefault();
      const guess = guessed();
      if (guess === undefined) {
        verdict.textContent = options.length ? "Choose an answer first." : "Type a number first.";
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
      const yours = guess.toLocaleString("en", { maximumFractionDigits: 6 });
      const near = asked.within.toLocaleString("en", { maximumSignificantDigits: 4 });
      const told = ["The page finds ", answer, "; you said ", yours, ". "];
      if (right && (yours === asked.shown || !asked.within)) return ["Yes: ", answer, ". "];
      if (right) return ["Yes, within ", near, ". ", ...told];
      return [`No, too ${guess > asked.answer ? "high" : "low"}. `, ...told];
    }

    function draw() {
      const guess = model.get("guess");
      if (guess === null || guess === undefined) {
        delete el.dataset.right;
        verdict.replaceChildren();
        return;
      }
      for (const option of options) option.checked = option.value === guess;
      if (!options.length && Number(number.value) !== guess) number.value = guess;
      const right = isRight(asked, guess);
      el.dataset.right = right;
      verdict.replaceChildren(...compared(guess, right), asked.because);
    }

    frame(el, model, "Predict, then check",
      h("form", { class: "mpfl-guess", novalidate: true, onsubmit: check },
        h("p", { class: "mpfl-notes", "aria-hidden": "true" }, "Predict, then check"),
        question, h("button", { type: "submit" }, "Check"), verdict));
    model.on("change:guess", draw);
    draw();
  },
};
