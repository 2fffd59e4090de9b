const TICK = 900; // milliseconds per round

/**
 * Play, step and back over the model's `round`, 0 to `last()`. It is played by a timer, and stopped by any
 * other move and by the end. `said` is read aloud, but not while it plays: nobody can listen that fast.
 */
function turns(model, el, slide, said, last) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;
  function go(to) {
    model.set("round", Math.max(0, Math.min(last(), to)));
    model.save_changes();
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    said.setAttribute("aria-live", "polite");
  }
  function start() {
    if (model.get("round") >= last()) go(0);
    said.setAttribute("aria-live", "off");
    play.textContent = "Pause";
    timer = setInterval(() => {
      if (!el.isConnected) return stop();
      go(model.get("round") + 1);
      if (model.get("round") >= last()) stop();
    }, TICK);
  }
  const button = (text, press) => h("button", { type: "button", onclick: press }, text);
  const play = button("Play", () => (timer ? stop() : start()));
  const back = button("Back", () => (stop(), go(model.get("round") - 1)));
  const step = button("Step", () => (stop(), go(model.get("round") + 1)));
  slide.addEventListener("input", stop);
  const ease = () => {
    play.hidden = calm.matches;
    if (calm.matches) stop();
  };
  calm.addEventListener("change", ease);
  ease();

  /** A button that is disabled loses the focus, and who plays by keyboard their place. */
  function mark() {
    back.setAttribute("aria-disabled", String(model.get("round") === 0));
    step.setAttribute("aria-disabled", String(model.get("round") === last()));
  }
  return { node: h("div", { class: "mpfl-buttons" }, play, back, step), stop, mark };
}
