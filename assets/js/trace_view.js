// A stored trace in full: every step with its prompt; or two traces of one task side by side, where they part marked.
import { ago, count, h, icon, percent, plural, seconds, shareBar } from "./dom.js";
import { correctPath, origin } from "./board_head.js";
import { titleOf } from "./cards.js";
import { exclusions, firstParting, rankOfRelevant } from "./trace.js";
import { HISTORY_LABEL, STATES, decision, dispute, noThought } from "./words.js";

export function mountTraceView({ element, props, watch }) {
  function draw() {
    const traces = props.value?.traces ?? [];
    if (!traces.length) return element.replaceChildren();
    return element.replaceChildren(traces.length === 1 ? single(traces[0], props.value.siblings ?? [], props.value.back) : pair(traces[0], traces[1], props.value.back));
  }
  watch("value", draw);
  draw();
}

function single(trace, siblings, back) {
  return h(
    "article.rs-trace",
    {},
    taskHead(trace, back),
    h("div.rs-trace-bar", {}, facts(trace), h("div.rs-actions", {}, !trace.href && trace.state === "finished" && h("a.rs-button", { href: correctPath(trace) }, icon("grip"), "Correct this ranking"), !trace.href && h("a.rs-button", { href: `/?trace=${encodeURIComponent(trace.trace_id)}` }, icon("play"), "Replay on the board"), siblings.length > 0 && compareForm(trace, siblings))),
    trace.error && h("p.rs-error", {}, trace.error),
    h("div.rs-columns", {}, h("div", {}, h("h3.rs-section-title", {}, "Ranking"), ranking(trace)), h("section", { "aria-label": "Steps" }, h("h3.rs-section-title", {}, "Steps"), stepList(trace))),
  );
}

function pair(left, right, back) {
  const parting = firstParting(left, right);
  const words = parting === null ? "The two exclude the same candidates in every step that both have." : `They part at step ${parting + 1}: one excludes “${outOf(left, parting)}”, the other “${outOf(right, parting)}”.`;
  const side = (trace, name) => h("div.rs-side", {}, h("h3.rs-side-name", {}, `${name}: `, h("a", { href: addressOf(trace) }, `${trace.model}, ${trace.mode}`)), facts(trace));
  const rows = Array.from({ length: Math.max(left.steps.length, right.steps.length) }, (_, index) => {
    const cells = [left, right].map((trace) => h("div.rs-side", {}, trace.steps[index] ? stepView(trace, trace.steps[index]) : h("p.rs-quiet.rs-no-step", {}, "No such step")));
    return h(`li.rs-pair${index === parting ? ".is-parting" : ""}`, {}, index === parting && h("p.rs-parting", {}, "They part here"), h("div.rs-sides", {}, cells));
  });
  return h(
    "article.rs-trace",
    {},
    taskHead(left, back),
    h("p.rs-headline", {}, words),
    h("div.rs-sides.is-head", {}, side(left, "Left"), side(right, "Right")),
    h("ol.rs-pairs", {}, rows),
    h("div.rs-sides", {}, [left, right].map((trace) => h("div.rs-side", {}, h("h3.rs-section-title", {}, "Ranking"), ranking(trace)))),
  );
}

const outOf = (trace, index) => exclusions(trace.steps[index]).map((id) => titleOf(trace, id, 60)).join(", ");

const addressOf = (trace) => trace.href ?? `/traces?trace=${encodeURIComponent(trace.trace_id)}`;

function taskHead(trace, from) {
  const history = trace.history?.length ? h("details.rs-details", {}, h("summary", {}, `${HISTORY_LABEL[trace.domain] ?? "History"} (${trace.history.length})`), h("ol.rs-history", {}, trace.history.map((line) => h("li", {}, line)))) : null;
  const back = h("a.rs-back", { href: from?.href ?? "/traces" }, icon("left"), from?.text ?? "All traces");
  return h("header.rs-trace-head", {}, back, h("p.rs-eyebrow", {}, origin(trace)), h("h2.rs-query", {}, trace.query || "What comes next after this history?"), history);
}

/** The facts of a trace as a definition list. */
function facts(trace) {
  const rank = rankOfRelevant(trace);
  const random = typeof trace.random_mrr === "number" ? ` (random ${trace.random_mrr.toFixed(2)})` : "";
  const outcomes = Object.entries(trace.totals.outcomes ?? {}).map(([name, number]) => `${number} ${name.replaceAll("_", " ")}`);
  const pairs = [
    ["State", STATES[trace.state]?.label ?? trace.state],
    ["Model", trace.model],
    ["Mode", trace.mode],
    ["Thinking", trace.think_tokens === undefined || trace.think_tokens === null ? null : plural(trace.think_tokens, "token")],
    ["Seed", String(trace.seed)],
    ["Steps", count(trace.steps.length)],
    ["Outcomes", outcomes.join(", ")],
    ["Tokens", `${count(trace.totals.prompt_tokens)} read, ${count(trace.totals.completion_tokens)} written`],
    ["Time", seconds(trace.totals.latency_s ?? 0)],
    ["Relevant one", rank === null ? null : `rank ${rank} of ${trace.candidates.length}, MRR ${(1 / rank).toFixed(2)}${random}`],
    ["Made", trace.created_at ? ago(trace.created_at) : null],
  ].filter(([, value]) => value);
  const parent = trace.parent_trace_id && h("div", {}, h("dt", {}, "Branched from"), h("dd", {}, h("a", { href: `/traces?trace=${encodeURIComponent(trace.parent_trace_id)}` }, trace.parent_trace_id.slice(0, 8)), ` at step ${trace.branch_step_index + 1}`));
  return h("dl.rs-facts", {}, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd.rs-num", {}, value))), parent);
}

function compareForm(trace, siblings) {
  const select = h("select.rs-select", {}, siblings.map((other) => h("option", { value: other.id }, other.name)));
  const form = h("form.rs-compare", {}, h("label.rs-quiet", {}, "Compare with ", select), h("button.rs-button", { type: "submit" }, "Compare"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.assign(`/traces?left=${encodeURIComponent(trace.trace_id)}&right=${encodeURIComponent(select.value)}`);
  });
  return form;
}

function ranking(trace) {
  if (!trace.ranking) return h("p.rs-quiet", {}, "There is no ranking: the trace did not finish.");
  return h("ol.rs-ranking", {}, trace.ranking.map((id, position) => h(`li${trace.relevant?.includes(id) ? ".is-relevant" : ""}`, {}, h("span.rs-rank", {}, `#${position + 1}`), h("span", {}, titleOf(trace, id, 120)), trace.relevant?.includes(id) && h("span.rs-relevant", {}, "relevant"))));
}

function stepList(trace) {
  if (!trace.steps.length) return h("p.rs-quiet", {}, "No step was finished.");
  return h("ol.rs-step-list", {}, trace.steps.map((step) => h("li", {}, stepView(trace, step))));
}

function stepView(trace, step) {
  const words = decision(step);
  const gone = exclusions(step);
  return h(
    "section.rs-step-card",
    {},
    h("header", {}, h("span.rs-step-no", {}, `Step ${step.step_index + 1}`), h("h4.rs-step-out", {}, gone.length > 3 ? `${gone.length} candidates` : gone.map((id) => titleOf(trace, id, 90)).join(", ")), h("span.rs-chips", {}, h("span.rs-chip", { class: `rs-chip ${words.tone}` }, words.label), dispute(step) && h("span.rs-chip.is-warn", { title: dispute(step) }, "disputed"))),
    step.reasoning ? h("pre.rs-thought", { tabindex: "0", "aria-label": `Reasoning of step ${step.step_index + 1}` }, step.reasoning.trim()) : h("p.rs-quiet", {}, noThought(step)),
    step.answer && h("p.rs-answer", {}, h("span.rs-quiet", {}, gone.length > 1 ? "Order of this step " : "Answer "), step.answer),
    dispute(step) && h("p.rs-quiet", {}, `${dispute(step)}: ${step.disputed_ids.map((id) => titleOf(trace, id, 60)).join(", ")}.`),
    step.probabilities && h("details.rs-details", { open: step.pool.length <= 10 }, h("summary", {}, "Probability of exclusion"), bars(trace, step)),
    step.prompt && h("details.rs-details", {}, h("summary", {}, `Exact prompt (${count(step.prompt.length)} characters)`), h("pre.rs-prompt", { tabindex: "0", "aria-label": `Prompt of step ${step.step_index + 1}` }, step.prompt)),
    h("details.rs-details", {}, h("summary", {}, `Why “${words.label}”?`), h("p.rs-prose", {}, words.why)),
    step.prompt && h("p.rs-quiet.rs-num", {}, `${count(step.prompt_tokens)} prompt tokens (${count(step.cached_prompt_tokens)} cached), ${count(step.completion_tokens)} written, ${seconds(step.latency_s)}`),
  );
}

function bars(trace, step) {
  const ranked = [...step.pool].sort((a, b) => (step.probabilities[b] ?? 0) - (step.probabilities[a] ?? 0));
  const gone = exclusions(step);
  return h("ul.rs-bars", {}, ranked.map((id) => h(`li${gone.includes(id) ? ".is-out" : ""}`, {}, h("span.rs-bars-name", {}, titleOf(trace, id, 60)), shareBar(step.probabilities[id], gone.includes(id) ? "is-out" : ""), h("span.rs-num", {}, percent(step.probabilities[id] ?? 0)))));
}
