// How the desk looks: the task's head, the ranking, the label, the why, the steps, and the foot with what can be done.
// Draws what it is given and says what a person did; keeps nothing that is handed in.
import { clip, h, icon, plural, setText } from "./dom.js";
import { origin } from "./board_head.js";
import { makeSortable } from "./sortable.js";
import { makeStepReview } from "./step_review.js";
import { HISTORY_LABEL } from "./words.js";
import { summary } from "./work.js";

const LONG_QUERY = 420;
const FROM = {
  model: (trace) => `Starts from the ranking of ${trace.model}, ${trace.mode}. Put right what is wrong.`,
  blank: () => "Nothing is ranked yet: drag the best ones above the line. What stays below, you say nothing about.",
  blind: () => "Blind: rank by your own judgement. The model’s ranking is shown when you have handed in.",
};

/** @param {object} on what a person does: order, label, reason, step, drag, submit, skip, flag, back, undo, line */
export function makeDeskView(on) {
  const eyebrow = h("p.rs-eyebrow");
  const query = h("h2.rs-query");
  const context = h("div.rs-context");
  const from = h("p.rs-quiet");
  const sortable = makeSortable(on.order, on.drag);
  const review = makeStepReview(on.step);
  const label = makeLabel(on.label);
  const reason = h("textarea.rs-input.rs-area", { id: "rs-reason", rows: "2", maxlength: "20000", oninput: () => on.reason(reason.value) });
  const undo = tool("Undo", "z", on.undoChange);
  const line = tool("Only the top ones matter", "c", on.line);
  const says = h("span.rs-quiet", { "aria-live": "polite" });
  const problem = h("p.rs-error", { role: "alert", hidden: true });
  const submit = h("button.rs-button.is-primary", { type: "button", id: "rs-submit", onclick: on.submit }, "Hand in", h("kbd", {}, "Enter"));
  const state = h("span.rs-draft-state", { role: "status" });
  const head = h("header.rs-board-head", {}, h("div.rs-board-title", {}, h("div", {}, eyebrow, query), h("div.rs-actions", {}, tool("Back", "b", on.back), tool("Skip", "s", on.skip), tool("Flag", "f", on.flag))), context);
  const left = h("div.rs-left", {}, h("div.rs-rank-head", {}, h("h3.rs-section-title", {}, "Ranking, best first"), h("div.rs-actions", {}, line, undo)), from, sortable.node, label.node, h("div.rs-field", {}, h("label.rs-label", { for: "rs-reason" }, "Why (optional)", h("kbd", {}, "r")), reason));
  const foot = h("div.rs-foot", {}, problem, h("div.rs-foot-line", {}, submit, says, state));
  const node = h("article.rs-desk-task", { hidden: true }, head, h("div.rs-columns", {}, left, review.node), foot);
  let shown = null;

  function show(desk, work, canUndo) {
    if (desk !== shown) {
      shown = desk;
      setText(eyebrow, [origin({ ...desk.task, dataset: desk.dataset }), desk.num_others && `${plural(desk.num_others, "other person", "other people")} on it`].filter(Boolean).join("  ·  "));
      setText(query, desk.task.query ? clip(desk.task.query, LONG_QUERY) : "What comes next after this history?");
      context.replaceChildren(...contextOf(desk.task));
      setText(from, desk.said.length ? "You have handed this in before: what you hand in now takes its place." : FROM[desk.start](desk.trace));
      reason.value = work.reason;
      fail("");
    }
    if (document.activeElement !== reason) reason.value = work.reason;
    const ranks = desk.trace?.ranking && desk.start !== "blind" ? new Map(desk.trace.ranking.map((id, position) => [id, position + 1])) : null;
    sortable.show(desk.task, work.order, ranks);
    label.show(desk, work);
    review.show(desk, work);
    undo.disabled = !canUndo;
    setText(says, `Says: ${summary(work)}`);
  }
  function fail(words) {
    setText(problem, words);
    problem.hidden = !words;
  }
  return {
    node,
    show,
    fail,
    busy: (isBusy) => (submit.disabled = isBusy),
    draftState(kind, words) {
      state.className = `rs-draft-state is-${kind}`;
      setText(state, words);
    },
    toggleLine: sortable.toggleLine,
    focusFirst: sortable.focusFirst,
    isBusy: sortable.isBusy,
    goStep: review.go,
    openLabel: label.open,
    focusReason: () => reason.focus(),
  };
}

const tool = (words, key, onclick) => h("button.rs-button.is-small", { type: "button", onclick }, words, h("kbd", {}, key));

function contextOf(task) {
  const parts = [];
  if (task.query.length > LONG_QUERY) parts.push(h("details.rs-details", {}, h("summary", {}, "Whole query"), h("p.rs-prose", {}, task.query)));
  if (task.history.length) parts.push(h("details.rs-details", { open: !task.query || task.history.length <= 12 }, h("summary", {}, `${HISTORY_LABEL[task.domain] ?? "History"} (${task.history.length})`), h("ol.rs-history", {}, task.history.map((line) => h("li", {}, line)))));
  if (task.criterion) parts.push(h("p.rs-criterion", {}, h("span.rs-quiet", {}, "Best means "), task.criterion));
  return parts;
}

/** The label of the data: shown only when somebody asks for it, so that it does not lead their order. */
function makeLabel(onChange) {
  const boxes = h("div.rs-checks");
  const keep = h("button.rs-more", { type: "button", onclick: () => onChange(null) }, "Say nothing about the label");
  const known = h("p.rs-quiet");
  const node = h("details.rs-details.rs-label-box", {}, h("summary", {}, "The label is wrong …", h("kbd", {}, "l")), known, boxes, keep);
  let shown = null;

  function show(desk, work) {
    const { candidates, relevant } = desk.task;
    if (desk !== shown) {
      shown = desk;
      node.open = work.label !== null;
      setText(known, relevant ? "The data says that these are relevant. Mark those that really are." : "The data does not say what is relevant. Mark what is.");
      boxes.replaceChildren(
        ...candidates.map((candidate) => {
          const box = h("input", { type: "checkbox", value: candidate.id, onchange: () => onChange([...boxes.querySelectorAll("input:checked")].map((input) => input.value)) });
          return h("label.rs-check", {}, box, clip(candidate.title, 90));
        }),
      );
    }
    const marked = new Set(work.label ?? relevant ?? []);
    for (const box of boxes.querySelectorAll("input")) box.checked = marked.has(box.value);
    keep.hidden = work.label === null;
  }
  function open() {
    node.open = true;
    boxes.querySelector("input")?.focus();
  }
  return { node, show, open };
}

/** A page of words where there is no task: {title, words, actions: [{text, href} | {text, onclick, key}]} */
export function placard({ title, words, actions = [] }) {
  const made = actions.map(({ text, href, onclick, key }) => (href ? h("a.rs-button", { href }, text) : h("button.rs-button", { type: "button", onclick }, text, key && h("kbd", {}, key))));
  return h("div.rs-empty", {}, h("h2", {}, title), h("p", {}, words), made.length > 0 && h("div.rs-actions", {}, made));
}

/** The first question: who corrects? */
export function nameForm(onName) {
  const name = h("input.rs-input", { id: "rs-name", type: "text", maxlength: "80", required: true, autocomplete: "nickname" });
  const form = h("form.rs-empty", {}, h("h2", {}, "Who corrects?"), h("p", {}, "Your name stands beside what you say, so that you find it again and agreement can be measured. It stays on this machine."), h("label.rs-label", { for: "rs-name" }, "Your name"), name, h("button.rs-button.is-primary", { type: "submit" }, icon("check"), "Start"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (name.value.trim()) onName(name.value.trim());
  });
  return { node: form, focus: () => name.focus() };
}
