// The board of the Rank page: one task and, while or after it is ranked, its trace. Live view, replay, what-if.
import { bumpChart, heatMap } from "./charts.js";
import { h } from "./dom.js";
import { draw } from "./figure.js";
import { makeCards } from "./cards.js";
import { makeHead } from "./board_head.js";
import { makeScrubber } from "./scrubber.js";
import { makeTranscript } from "./transcript.js";
import { follow } from "./live.js";

export function mountBoard({ element, props, trigger, watch }) {
  let trace = null;
  let stopFollowing = null;
  let cursor = 0;
  let drawnKey = "";

  const send = (name, more = {}) => trigger(name, { trace_id: trace?.trace_id ?? "", ...more });
  const head = makeHead(send);
  const scrubber = makeScrubber((position) => {
    cursor = position;
    paint();
  });
  const cards = makeCards();
  const transcript = makeTranscript(
    (step_index, excluded_id) => send("branch", { step_index, excluded_id }),
    (stepIndex) => scrubber.goTo(stepIndex + 1),
  );
  const [heat, bump] = [h("div.rs-figure", { "data-figure": true }), h("div.rs-figure", { "data-figure": true })];
  const figures = h(
    "div.rs-figures",
    { hidden: true },
    h("section.rs-panel", {}, h("h3.rs-section-title", {}, "Probability of exclusion"), h("p.rs-quiet", {}, "Per step; a cross marks the candidate that went."), heat),
    h("section.rs-panel", {}, h("h3.rs-section-title", {}, "Rank, step by step"), h("p.rs-quiet", {}, "Lines end where a candidate is excluded."), bump),
  );
  const board = h("section.rs-board", { hidden: true }, head.node, scrubber.node, h("div.rs-columns", {}, h("div.rs-left", {}, cards.node, figures), transcript.node));
  const empty = h("div.rs-empty", {}, h("h2", {}, "Nothing to rank yet"), h("p", {}, "Choose a task on the left, or write one by hand. Datasets are imported on the Data page."));
  element.replaceChildren(board, empty);

  function paint() {
    board.hidden = !trace;
    empty.hidden = Boolean(trace);
    if (!trace) return;
    board.classList.toggle("is-live", trace.state === "running");
    head.show(trace, cursor);
    cards.show(trace, cursor);
    transcript.show(trace, cursor);
    paintFigures();
  }
  /** Figures change at the end of a step only. */
  function paintFigures() {
    const key = `${trace.trace_id}\u0000${trace.steps.length}\u0000${cursor}\u0000${trace.state}`;
    if (key === drawnKey) return;
    drawnKey = key;
    figures.hidden = trace.steps.length === 0 || trace.candidates.length > 60;
    if (figures.hidden) return;
    const [now, at] = [trace, cursor];
    draw(heat, () => heatMap(now, at));
    draw(bump, () => bumpChart(now, at));
  }
  function onTrace(next) {
    const isNew = next.trace_id !== trace?.trace_id;
    trace = next;
    if (isNew) props.value = { trace_id: trace.trace_id, dataset_id: trace.dataset_id, task_id: trace.task_id };
    scrubber.show(trace, isNew);
    cursor = scrubber.position();
    paint();
  }
  /** On a narrow screen the board is below the controls: show it when something starts on it. */
  function intoView() {
    const { top } = board.getBoundingClientRect();
    if (top < 0 || top > window.innerHeight * 0.6) board.scrollIntoView({ behavior: "smooth", block: "start" });
  }
  function load() {
    const value = props.value;
    stopFollowing?.();
    stopFollowing = null;
    if (value?.trace_id) {
      if (trace) intoView();
      stopFollowing = follow(value.trace_id, onTrace, head.showNet);
      address({ trace: value.trace_id });
      return;
    }
    trace = value?.task ? { state: "ready", steps: [], totals: {}, dataset_id: value.dataset_id, task_id: value.task_id, ...value.task } : null;
    if (trace) {
      scrubber.show(trace, true);
      address({ dataset: value.dataset_id, task: value.task_id });
    }
    cursor = 0;
    paint();
  }
  watch("value", load);
  load();
}

/** Keep the address bar a permalink of what is shown, so that reloading and sharing work. */
function address(parameters) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null));
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  if ([...query].length) history.replaceState(history.state, "", `${location.pathname}?${query}`);
}
