// The head of the board: the query, where the ranking stands, what it cost so far, and what can be done with it.
import { clip, count, h, icon, plural, seconds, setText } from "./dom.js";
import { poolInWords, titleOf } from "./cards.js";
import { exclusions, frameAt, isOver, numSteps, rankOfRelevant } from "./trace.js";
import { DOMAINS, HISTORY_LABEL, STATES } from "./words.js";

const LONG_QUERY = 420;

/** @param {(name: string, more?: object) => void} send asks the server to stop, resume, or show the task beside this one */
export function makeHead(send) {
  const eyebrow = h("p.rs-eyebrow");
  const query = h("h2.rs-query");
  const more = h("div.rs-context");
  const parent = h("p.rs-parent");
  const state = h("span.rs-chip");
  const headline = h("p.rs-headline", { "aria-live": "polite" });
  const error = h("p.rs-error", { role: "alert", hidden: true });
  const net = h("p.rs-net", { hidden: true }, "Connection lost, trying again …");
  const stats = makeStats();
  const actions = makeActions(send);
  const arrow = (name, label, direction) => h("button.rs-button.is-icon.is-quiet.is-small", { type: "button", "aria-label": label, onclick: () => send("move", { direction }) }, icon(name));
  const arrows = h("div.rs-arrows", {}, arrow("left", "Previous task", -1), arrow("right", "Next task", 1));
  const node = h(
    "header.rs-board-head",
    {},
    h("div.rs-board-title", {}, h("div", {}, h("div.rs-eyebrow-line", {}, eyebrow, arrows), query), actions.node),
    more,
    parent,
    h("div.rs-status", {}, h("div.rs-status-line", {}, state, headline), stats.node),
    error,
    net,
  );
  let owner = "";

  function show(trace, cursor) {
    const identity = `${trace.trace_id}\u0000${trace.dataset_id}\u0000${trace.task_id}`;
    if (identity !== owner) {
      owner = identity;
      setText(eyebrow, origin(trace));
      setText(query, trace.query ? clip(trace.query, LONG_QUERY) : "What comes next after this history?");
      more.replaceChildren(...context(trace));
      parent.replaceChildren(...lineage(trace));
      parent.hidden = !trace.parent_trace_id;
    }
    const words = STATES[trace.state] ?? STATES.ready;
    state.className = `rs-chip ${words.tone}`;
    setText(state, words.label);
    setText(headline, headlineOf(trace, cursor));
    setText(error, trace.error ?? "");
    error.hidden = !trace.error;
    stats.show(trace, cursor);
    actions.show(trace);
  }
  const showNet = (how) => {
    net.hidden = how === "on";
    setText(net, how === "gone" ? "This trace is not to be had from the server. Trying again …" : "Connection lost, trying again …");
  };
  return { node, show, showNet };
}

/** Where a person puts this ranking right. */
export const correctPath = (trace) => `/correct?${new URLSearchParams({ dataset: trace.dataset_id, task: trace.task_id, trace: trace.trace_id ?? "" })}`;

/** Where the task is from; the domain is left out where the dataset is named after it. */
export function origin(trace) {
  const domain = trace.dataset?.toLowerCase() === trace.domain ? null : (DOMAINS[trace.domain] ?? trace.domain);
  return [domain, trace.dataset, trace.task_id].filter(Boolean).join("  ·  ");
}

/** A model that decides by likelihood writes nothing, whatever budget was given. */
const howAsked = (trace) => (trace.answer_format === "likelihood" ? "by likelihood" : trace.think_tokens && `${trace.think_tokens} thinking tokens`);

function context(trace) {
  const parts = [];
  if (trace.query.length > LONG_QUERY) parts.push(h("details.rs-details", {}, h("summary", {}, "Whole query"), h("p.rs-prose", {}, trace.query)));
  if (trace.history?.length) {
    const items = trace.history.map((line) => h("li", {}, line));
    const label = `${HISTORY_LABEL[trace.domain] ?? "History"} (${trace.history.length})`;
    parts.push(h("details.rs-details", { open: !trace.query }, h("summary", {}, label), h("ol.rs-history", {}, items)));
  }
  if (trace.criterion) parts.push(h("p.rs-criterion", {}, h("span.rs-quiet", {}, "Best means "), trace.criterion));
  if (trace.model) {
    const settings = [trace.model, trace.mode, howAsked(trace), `seed ${trace.seed}`];
    parts.push(h("p.rs-quiet", {}, settings.filter(Boolean).join("  ·  ")));
  }
  return parts;
}

function lineage(trace) {
  if (!trace.parent_trace_id) return [];
  const link = h("a", { href: `/?trace=${encodeURIComponent(trace.parent_trace_id)}` }, trace.parent_trace_id.slice(0, 8));
  const both = h("a", { href: `/traces?left=${encodeURIComponent(trace.parent_trace_id)}&right=${encodeURIComponent(trace.trace_id)}` }, "Compare the two");
  return [icon("branch"), "Branched from ", link, ` at step ${trace.branch_step_index + 1}. `, both];
}

function headlineOf(trace, cursor) {
  const total = numSteps(trace);
  if (cursor < trace.steps.length || (trace.state === "running" && !trace.current && cursor)) {
    if (cursor === 0) return `The whole pool: ${plural(trace.candidates.length, "candidate")}`;
    const step = trace.steps[cursor - 1];
    const gone = exclusions(step);
    const what = gone.length > 1 ? plural(gone.length, "candidate") : `“${titleOf(trace, gone[0], 48)}”`;
    return `Step ${cursor} of ${total}: ${what} excluded`;
  }
  if (trace.current) return `Step ${trace.current.step_index + 1} of ${total}: ${poolInWords(frameAt(trace, cursor))}`;
  if (trace.state === "finished") return trace.ranking?.length ? `“${titleOf(trace, trace.ranking[0], 48)}” is ranked first` : "Ranking complete";
  if (trace.state === "queued") return "Waiting for the model";
  if (trace.state === "running") return "Starting";
  if (trace.state === "ready") return `${plural(trace.candidates.length, "candidate")} to rank. Press Rank.`;
  return `${trace.state === "failed" ? "Failed" : trace.state === "stopped" ? "Stopped" : "The studio was closed"} after ${plural(trace.steps.length, "step")}`;
}

function makeStats() {
  const value = (label) => {
    const dd = h("dd.rs-num");
    return { dd, node: h("div", {}, h("dt", {}, label), dd) };
  };
  const [steps, tokens, time, relevant] = ["Steps", "Tokens written", "Time", "Relevant one"].map(value);
  const node = h("dl.rs-stats", {}, steps.node, tokens.node, time.node, relevant.node);

  function show(trace, cursor) {
    const ran = Boolean(trace.trace_id);
    for (const stat of [steps, tokens, time]) stat.node.hidden = !ran;
    if (ran) {
      setText(steps.dd, `${trace.totals.num_steps ?? trace.steps.length} / ${numSteps(trace)}`);
      setText(tokens.dd, count(trace.totals.completion_tokens));
      setText(time.dd, seconds(trace.totals.latency_s ?? 0));
    }
    relevant.node.hidden = !trace.relevant?.length;
    if (!relevant.node.hidden) setText(relevant.dd, relevanceInWords(trace, cursor));
  }
  return { node, show };
}

/** Where the relevant candidate ended, with the floor that a random order would reach. */
function relevanceInWords(trace, cursor) {
  const rank = trace.trace_id ? rankOfRelevant(trace, cursor) : null;
  const floor = typeof trace.random_mrr === "number" ? `, random ${trace.random_mrr.toFixed(2)}` : "";
  if (rank === null) return trace.trace_id ? "still in play" : `known${floor && ` (random MRR ${trace.random_mrr.toFixed(2)})`}`;
  return `rank ${rank} of ${trace.candidates.length}: MRR ${(1 / rank).toFixed(2)}${floor}`;
}

function makeActions(send) {
  const stop = h("button.rs-button.is-danger", { type: "button", onclick: () => send("stop") }, icon("stop"), "Stop");
  const resume = h("button.rs-button", { type: "button", onclick: () => send("resume") }, icon("play"), "Resume");
  const copy = h("button.rs-button", { type: "button" }, icon("copy"), h("span", {}, "Copy link"));
  const open = h("a.rs-button", { href: "#" }, icon("open"), "Full trace");
  const correct = h("a.rs-button", { href: "#" }, icon("grip"), "Correct this ranking");
  let traceId = "";
  copy.addEventListener("click", async () => {
    const link = new URL(`/?trace=${encodeURIComponent(traceId)}`, location.href).href;
    const label = copy.lastChild;
    try {
      await navigator.clipboard.writeText(link);
      setText(label, "Copied");
    } catch {
      window.prompt("Copy this link", link);
    }
    setTimeout(() => setText(label, "Copy link"), 1600);
  });
  function show(trace) {
    traceId = trace.trace_id ?? "";
    stop.hidden = !["queued", "running"].includes(trace.state);
    resume.hidden = !["stopped", "interrupted", "failed"].includes(trace.state);
    copy.hidden = open.hidden = !traceId;
    open.setAttribute("href", traceId ? `/traces?trace=${encodeURIComponent(traceId)}` : "#");
    correct.hidden = trace.state !== "finished";
    correct.setAttribute("href", correctPath(trace));
    node.hidden = !traceId && isOver(trace) === false && trace.state === "ready";
  }
  const node = h("div.rs-actions", {}, stop, resume, correct, copy, open);
  return { node, show };
}
