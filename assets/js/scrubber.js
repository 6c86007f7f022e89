// Replay: a slider over the stored steps. At its right end it follows the run.
import { h, icon, plural, setAttributes, setText } from "./dom.js";

const PLAY_MS = 900;

/** @param {(position: number) => void} onMove position = number of steps shown */
export function makeScrubber(onMove) {
  const range = h("input.rs-range", { type: "range", min: "0", max: "0", step: "1", "aria-label": "Replay: steps shown" });
  const label = h("span.rs-scrub-label.rs-num");
  const play = h("button.rs-button.is-icon", { type: "button", "aria-label": "Replay from the start" }, icon("play"));
  const back = h("button.rs-button.is-icon", { type: "button", "aria-label": "One step back" }, icon("left"));
  const forth = h("button.rs-button.is-icon", { type: "button", "aria-label": "One step forward" }, icon("right"));
  const node = h("div.rs-scrubber", { hidden: true }, play, back, range, forth, label);
  let trace = null;
  let timer = 0;
  let following = true;

  const position = () => Number(range.value);
  const end = () => Number(range.max);

  function pause() {
    clearInterval(timer);
    timer = 0;
    play.replaceChildren(icon("play"));
    play.setAttribute("aria-label", "Replay from the start");
  }
  function goTo(target, byPlayer = false) {
    if (!byPlayer) pause();
    range.value = String(Math.max(0, Math.min(end(), target)));
    following = position() === end();
    paint();
    onMove(position());
  }
  function paint() {
    const words = following ? (trace.state === "finished" ? "Result" : trace.current || trace.state === "running" ? "Live" : "Latest") : `After step ${position()} of ${end()}`;
    setText(label, words);
    range.setAttribute("aria-valuetext", following ? words : `after ${plural(position(), "step")}`);
    setAttributes(back, { disabled: position() === 0 });
    setAttributes(forth, { disabled: position() === end() });
  }
  play.addEventListener("click", () => {
    if (timer) return pause();
    if (position() === end()) goTo(0);
    play.replaceChildren(icon("pause"));
    play.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      goTo(position() + 1, true);
      if (position() === end()) pause();
    }, PLAY_MS);
    return undefined;
  });
  range.addEventListener("input", () => goTo(position()));
  back.addEventListener("click", () => goTo(position() - 1));
  forth.addEventListener("click", () => goTo(position() + 1));

  /** Take over the steps of a trace; a new trace is shown at its end. */
  function show(next, isNew) {
    trace = next;
    if (isNew) {
      pause();
      following = true;
    }
    range.max = String(trace.steps.length);
    if (following) range.value = range.max;
    node.hidden = trace.steps.length === 0;
    paint();
  }
  return { node, show, position, goTo };
}
