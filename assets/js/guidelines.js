// What annotators are told: Markdown as elements, its version, and writing the next one.
import { ago, h } from "./dom.js";
import { request, reasonOf } from "./delivery.js";
import { renderMarkdown } from "./markdown.js";

/** @param {() => {author: string, dataset: string}} whose */
export function makeGuidelines(whose) {
  const words = h("div.rs-markdown");
  const made = h("p.rs-sub");
  const area = h("textarea.rs-input.rs-area", { rows: "12", maxlength: "50000", "aria-label": "Guidelines in Markdown" });
  const forAll = h("input", { type: "checkbox" });
  const failed = h("p.rs-error", { role: "alert", hidden: true });
  const save = h("button.rs-button.is-primary.is-small", { type: "button", onclick: () => store() }, "Save as the next version");
  const cancel = h("button.rs-button.is-small", { type: "button", onclick: () => toggle(false) }, "Cancel");
  const form = h("div.rs-guideline-form", { hidden: true }, area, h("label.rs-check", {}, forAll, "For every dataset"), failed, h("div.rs-actions", {}, save, cancel));
  const edit = h("button.rs-more", { type: "button", onclick: () => toggle(true) }, "Write the next version");
  const node = h("details.rs-details.rs-guidelines", {}, h("summary", {}, "Guidelines"), words, made, edit, form);
  let now = null;

  function show(guideline) {
    if (guideline?.version === now?.version && words.childElementCount) return;
    now = guideline;
    words.replaceChildren(...(now ? renderMarkdown(now.text) : [h("p.rs-quiet", {}, "None are written yet. Say here what “best” means, so that everybody ranks by the same rule.")]));
    made.textContent = now ? `Version ${now.version}${now.dataset ? "" : ", for every dataset"}, ${ago(now.created_at)}` : "";
  }
  function toggle(isOpen) {
    form.hidden = !isOpen;
    edit.hidden = isOpen;
    failed.hidden = true;
    if (!isOpen) return edit.focus();
    area.value = now?.text ?? "";
    forAll.checked = Boolean(now && !now.dataset);
    return area.focus();
  }
  async function store() {
    const { author, dataset } = whose();
    const answer = await request("POST", "/api/guidelines", { author, dataset: forAll.checked ? null : dataset, text: area.value });
    failed.hidden = answer.status === 201;
    failed.textContent = `Not saved: ${reasonOf(answer)}`;
    if (answer.status !== 201) return;
    toggle(false);
    now = null;
    show(answer.data);
  }
  return {
    node,
    show,
    lead: (mayLead) => (edit.hidden = !mayLead),
    version: () => now?.version ?? null,
    toggle() {
      node.open = !node.open;
      node.querySelector("summary").focus();
    },
  };
}
