// What the model thought, step by step, newest first; the running step streams at the top.
import { count, h, icon, seconds, setText } from "./dom.js";
import { titleOf } from "./cards.js";
import { exclusions, isOver } from "./trace.js";
import { decision, dispute, noThought } from "./words.js";

/**
 * @param {(stepIndex: number, excludedId: string) => void} onBranch a person wants another exclusion at this step
 * @param {(stepIndex: number) => void} onOpen a person opened a step
 */
export function makeTranscript(onBranch, onOpen) {
  const live = makeLive();
  const list = h("ol.rs-steps", { reversed: true });
  const hint = h("div.rs-hint");
  const node = h("section.rs-transcript", { "aria-label": "Reasoning" }, h("h3.rs-section-title", {}, "Reasoning"), live.node, list, hint);
  let entries = [];
  let owner = null;

  function show(trace, cursor) {
    if (trace.trace_id !== owner) {
      owner = trace.trace_id;
      entries = [];
      list.replaceChildren();
    }
    for (let index = entries.length; index < trace.steps.length; index += 1) {
      entries.push(makeStep(trace, trace.steps[index], onBranch, onOpen));
      list.prepend(entries[index].node);
    }
    const isReading = cursor < trace.steps.length || isOver(trace);
    entries.forEach((entry, index) => entry.select(index === cursor - 1, isReading));
    list.hidden = !entries.length;
    live.show(trace.current);
    hint.hidden = Boolean(trace.trace_id && (entries.length || trace.current));
    if (!hint.hidden) hint.replaceChildren(...hintFor(trace));
  }
  return { node, show };
}

function hintFor(trace) {
  if (trace.state === "queued") return [h("p", {}, "The ranking starts as soon as the model is loaded and free. The first answer of a session takes a few seconds longer.")];
  if (trace.trace_id) return [h("p", {}, "No step was finished.")];
  const steps = [
    ["Read", "The model reads the query and the whole pool."],
    ["Think", "It reasons within the budget; you see every token as it comes."],
    ["Exclude", "The least likely candidate goes out. Repeat until one is left."],
  ];
  return [
    h("ol.rs-how", {}, steps.map(([name, text]) => h("li", {}, h("strong", {}, name), h("span", {}, text)))),
    h("p", {}, "The reverse order of exclusion is the ranking."),
  ];
}

function makeLive() {
  const label = h("p.rs-live-label");
  const text = document.createTextNode("");
  const reasoning = h("pre.rs-thought", { tabindex: "0", "aria-label": "Reasoning of the running step" }, text);
  const node = h("div.rs-live", {}, label, reasoning);

  /** Append what is new; keep to the end of the text unless somebody scrolled up to read. */
  function show(current) {
    node.hidden = !current;
    if (!current) {
      text.data = "";
      return;
    }
    setText(label, `Step ${current.step_index + 1}, ${current.reasoning ? "thinking" : "reading the pool"}`);
    const atEnd = reasoning.scrollHeight - reasoning.scrollTop - reasoning.clientHeight < 48;
    const grown = current.reasoning;
    if (grown.startsWith(text.data)) {
      if (grown.length > text.data.length) text.appendData(grown.slice(text.data.length));
    } else text.data = grown;
    if (atEnd) reasoning.scrollTop = reasoning.scrollHeight;
  }
  return { node, show };
}

function makeStep(trace, step, onBranch, onOpen) {
  const words = decision(step);
  const gone = exclusions(step);
  const names = gone.length > 3 ? `${gone.length} candidates` : gone.map((id) => titleOf(trace, id, 60)).join(", ");
  const body = h("div.rs-step-body");
  let openedHere = false;
  const details = h(
    "details.rs-step",
    {},
    h(
      "summary",
      {},
      h("span.rs-step-no", {}, `Step ${step.step_index + 1}`),
      h("span.rs-step-out", {}, names),
      h("span.rs-chips", {}, h(`span.rs-chip${words.tone ? `.${words.tone}` : ""}`, {}, words.label), dispute(step) && h("span.rs-chip.is-warn", { title: dispute(step) }, "disputed")),
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    if (details.open && !body.childElementCount) body.append(...stepBody(trace, step, words, onBranch));
  });
  details.querySelector("summary").addEventListener("click", (event) => {
    event.preventDefault();
    openedHere = false;
    details.open = !details.open;
    if (details.open) onOpen(step.step_index);
  });
  const node = h("li", { value: step.step_index + 1 }, details);

  /** Open the step that is shown, unless the run goes on above it; close again only what was opened here. */
  function select(isSelected, isReading) {
    if (details.classList.toggle("is-selected", isSelected) && isReading) {
      if (!details.open) details.open = openedHere = true;
    } else if (openedHere) details.open = openedHere = false;
  }
  return { node, select };
}

function stepBody(trace, step, words, onBranch) {
  return [
    step.reasoning ? h("pre.rs-thought", { tabindex: "0", "aria-label": `Reasoning of step ${step.step_index + 1}` }, step.reasoning.trim()) : h("p.rs-quiet", {}, noThought(step)),
    step.answer && h("p.rs-answer", {}, h("span.rs-quiet", {}, exclusions(step).length > 1 ? "Excluded, worst first " : "Answer "), step.answer),
    dispute(step) && h("p.rs-quiet", {}, `${dispute(step)}: ${step.disputed_ids.map((id) => titleOf(trace, id, 60)).join(", ")}.`),
    h("details.rs-why", {}, h("summary", {}, `Why “${words.label}”?`), h("p", {}, words.why)),
    step.decided_by !== "person" && h("p.rs-quiet.rs-num", {}, `${count(step.prompt_tokens)} prompt tokens, ${count(step.completion_tokens)} written, ${seconds(step.latency_s)}`),
    trace.trace_id && step.pool.length > 1 && whatIf(trace, step, onBranch),
  ].filter(Boolean);
}

/** Pick another candidate to exclude here; the model goes on from there as a new trace. */
function whatIf(trace, step, onBranch) {
  const gone = exclusions(step);
  const options = step.pool.filter((id) => !gone.includes(id)).map((id) => h("option", { value: id }, titleOf(trace, id, 60)));
  const select = h("select.rs-select", {}, options);
  const form = h(
    "form.rs-what-if",
    {},
    h("label", {}, h("span.rs-label", {}, "What if another one went here?"), select),
    h("button.rs-button", { type: "submit" }, icon("branch"), "Branch"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onBranch(step.step_index, select.value);
  });
  return form;
}
