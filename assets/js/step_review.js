// The model's steps, one under the other, each with what can be said of it: right, wrong reason, not this one, any of these,
// cannot be decided; a rating of the reasoning, and the reasoning as it should be.
import { h, setText } from "./dom.js";
import { titleOf } from "./cards.js";
import { exclusions } from "./trace.js";
import { noThought } from "./words.js";
import { saysStep } from "./work.js";

const VERDICTS = [
  ["right", "Right"],
  ["right_wrong_reason", "Right one, wrong reason"],
  ["not_this", "Not this one"],
  ["any", "Any of these"],
  ["undecidable", "Cannot be decided"],
];
const NAMES = Object.fromEntries(VERDICTS);

/** @param {(index: number, said: object) => void} onChange */
export function makeStepReview(onChange) {
  const list = h("ol.rs-steps.rs-review");
  const hint = h("p.rs-quiet");
  const node = h("section.rs-transcript", { "aria-label": "The model’s steps" }, h("h3.rs-section-title", {}, "The model’s steps"), hint, list);
  let entries = [];
  let shown = null;

  function show(desk, work) {
    if (desk !== shown) {
      shown = desk;
      entries = (desk.trace?.steps ?? []).map((step) => makeEntry(desk, step, (said) => onChange(step.step_index, said)));
      list.replaceChildren(...entries.map((entry) => entry.node));
      const none = desk.start === "blind" ? "Hidden until you have handed in your own order." : "No model has ranked this task yet: your order stands on its own.";
      setText(hint, desk.trace ? "Open a step to say something about it." : none);
      list.hidden = !entries.length;
    }
    entries.forEach((entry, index) => entry.show(work.steps[index]));
  }
  /** Open the step after (or before) the open one, and put the focus on its verdicts. */
  function go(by) {
    if (!entries.length) return;
    const open = entries.findIndex((entry) => entry.node.firstChild.open);
    const index = Math.max(0, Math.min(entries.length - 1, open < 0 ? (by > 0 ? 0 : entries.length - 1) : open + by));
    entries.forEach((entry, at) => (entry.node.firstChild.open = at === index));
    entries[index].focus();
  }
  return { node, show, go };
}

function makeEntry(desk, step, say) {
  const gone = exclusions(step);
  const said = h("span.rs-chip.is-person");
  const body = h("div.rs-step-body");
  const names = gone.length > 3 ? `${gone.length} candidates` : gone.map((id) => titleOf(desk.task, id, 60)).join(", ");
  const details = h("details.rs-step", {}, h("summary", {}, h("span.rs-step-no", {}, `Step ${step.step_index + 1}`), h("span.rs-step-out", {}, names), said), body);
  let form = null;
  let now = null;
  const build = () => {
    if (form) return;
    form = makeForm(desk, step, () => now, say);
    body.append(...form.nodes);
    form.show(now);
  };
  details.addEventListener("toggle", () => details.open && build());

  function show(value) {
    now = value ?? { verdict: null, ids: [], rating: null, reasoning: null };
    said.hidden = !saysStep(now);
    setText(said, now.verdict ? NAMES[now.verdict] : now.reasoning ? "reasoning edited" : "rated");
    form?.show(now);
  }
  function focus() {
    build();
    const chosen = body.querySelector("input[type=radio]:checked") ?? body.querySelector("input[type=radio]");
    chosen?.focus({ preventScroll: true });
    details.scrollIntoView({ block: "nearest" });
  }
  return { node: h("li", {}, details), show, focus };
}

function makeForm(desk, step, now, say) {
  const name = `rs-verdict-${step.step_index}`;
  const gone = exclusions(step);
  const set = (change) => say({ ...now(), ...change });
  const radios = VERDICTS.map(([value, words]) => {
    const input = h("input", { type: "radio", name, value, onchange: () => set({ verdict: value, ids: value === "any" ? [...gone] : [] }) });
    return { value, input, node: h("label.rs-check", {}, input, words) };
  });
  const others = step.pool.filter((id) => !gone.includes(id));
  const instead = h("select.rs-select", { onchange: () => set({ ids: instead.value ? [instead.value] : [] }) }, h("option", { value: "" }, "left open"), others.map((id) => h("option", { value: id }, titleOf(desk.task, id, 60))));
  const insteadBox = h("label.rs-field", {}, h("span.rs-label", {}, "Exclude instead"), instead);
  const boxes = step.pool.map((id) => {
    const input = h("input", { type: "checkbox", onchange: () => set({ ids: boxes.filter((box) => box.input.checked).map((box) => box.id) }) });
    return { id, input, node: h("label.rs-check", {}, input, titleOf(desk.task, id, 60)) };
  });
  const anyBox = h("fieldset.rs-checks", {}, h("legend.rs-label", {}, "These could all go"), boxes.map((box) => box.node));
  const stars = [1, 2, 3, 4, 5].map((value) => {
    const input = h("input", { type: "radio", name: `rs-rating-${step.step_index}`, value, onchange: () => set({ rating: value }) });
    return { value, input, node: h("label.rs-check", {}, input, String(value)) };
  });
  const rating = h("fieldset.rs-checks.is-line", {}, h("legend.rs-label", {}, "The reasoning, from 1 (poor) to 5 (good)"), stars.map((star) => star.node));
  const thought = step.reasoning ? h("pre.rs-thought", { tabindex: "0", "aria-label": `Reasoning of step ${step.step_index + 1}` }, step.reasoning.trim()) : h("p.rs-quiet", {}, noThought(step));
  const edited = h("textarea.rs-input.rs-area", { rows: "5", maxlength: "20000", oninput: () => set({ reasoning: edited.value.trim() && edited.value !== step.reasoning ? edited.value : null }) });
  const editBox = h("label.rs-field", { hidden: true }, h("span.rs-label", {}, "As it should be"), edited);
  const edit = h("button.rs-more", { type: "button", onclick: () => openEdit(true) }, "Edit the reasoning");
  const clear = h("button.rs-more", { type: "button", onclick: () => set({ verdict: null, ids: [], rating: null, reasoning: null }) }, "Say nothing about this step");
  function openEdit(isAsked) {
    editBox.hidden = false;
    edit.hidden = true;
    edited.value = now().reasoning ?? step.reasoning ?? "";
    if (isAsked) edited.focus();
  }
  function show(said) {
    const { verdict } = said;
    for (const radio of radios) radio.input.checked = radio.value === verdict;
    for (const star of stars) star.input.checked = star.value === said.rating;
    for (const box of boxes) box.input.checked = said.ids.includes(box.id);
    insteadBox.hidden = verdict !== "not_this";
    instead.value = verdict === "not_this" ? (said.ids[0] ?? "") : "";
    anyBox.hidden = verdict !== "any";
    clear.hidden = !saysStep(said);
    if (said.reasoning && editBox.hidden) openEdit(false);
  }
  const verdicts = h("fieldset.rs-checks", {}, h("legend.rs-label", {}, "This exclusion is"), radios.map((radio) => radio.node));
  return { nodes: [thought, edit, editBox, verdicts, insteadBox, anyBox, rating, clear], show };
}
