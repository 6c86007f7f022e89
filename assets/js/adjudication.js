// All versions of one task side by side: choose one, say why. Names, reasons and candidates are other people's text.
import { clip, h, plural } from "./dom.js";

const NAME_KEY = "ranking-studio.author";

export function mountAdjudication({ element, props, trigger, watch }) {
  function draw() {
    const value = props.value;
    if (!value?.task) return element.replaceChildren();
    const form = makeForm(value, trigger);
    element.replaceChildren(form);
    form.querySelector("h2").focus({ preventScroll: true });
    form.scrollIntoView({ block: "nearest" });
    return form;
  }
  watch("value", draw);
  draw();
}

function makeForm(value, trigger) {
  let chosen = 0;
  const reason = h("textarea", { id: "why", rows: 2, maxlength: 20000, required: true, placeholder: "What makes this order right?" });
  const name = value.needs_name && h("input", { id: "decider", value: localStorage.getItem(NAME_KEY) ?? "", maxlength: 80, required: true, autocomplete: "name" });
  const cards = value.versions.map((version, index) => card(value, version, index, () => choose(index)));
  const versions = h("fieldset.rs-versions", {}, h("legend.rs-hidden", {}, "Versions"), cards);

  function choose(index) {
    chosen = index;
    const levels = levelsOf(value.versions[index].order);
    cards.forEach((node, number) => {
      node.classList.toggle("is-chosen", number === index);
      node.querySelector("input").checked = number === index;
      for (const item of node.querySelectorAll("li[data-level]")) item.classList.toggle("is-apart", levels.get(item.dataset.id) !== Number(item.dataset.level));
    });
  }
  const form = h(
    "form.rs-panel.rs-adjudication",
    { "aria-label": "Decide between versions" },
    head(value, trigger),
    context(value.task),
    value.decided && h("p.rs-decided", {}, h("span.rs-chip.is-good", {}, "decided"), ` by ${value.decided.author}: ${value.decided.reason}`),
    cards.length ? versions : h("p.rs-quiet", {}, "Nobody has given an order for this task yet."),
    cards.length > 0 && h("div.rs-decision", {}, name && h("label", {}, "Your name", name), h("label", {}, "Reason", reason), h("div.rs-actions", {}, h("button.rs-button.is-primary", { type: "submit" }, "Keep as the gold answer"), h("span.rs-sub", {}, "Nobody’s word is changed."))),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (name) localStorage.setItem(NAME_KEY, name.value.trim());
    trigger("decide", { dataset_id: value.dataset_id, task_id: value.task.task_id, order: value.versions[chosen].order, reason: reason.value, author: name ? name.value : "" });
  });
  if (cards.length) choose(0);
  return form;
}

function head(value, trigger) {
  const left = value.following ? `${plural(value.following, "other task")} to decide` : "the last one to decide";
  return h(
    "div.rs-summary-head",
    {},
    h("div", {}, h("h2.rs-query", { tabindex: "-1" }, value.task.query ? clip(value.task.query, 400) : value.task.task_id), h("p.rs-sub", {}, `${value.dataset}, ${value.task.task_id}; ${left}`)),
    h("button.rs-button.is-small", { type: "button", onclick: () => trigger("close", {}) }, "Close"),
  );
}

function context(task) {
  const facts = [
    ["Best means", task.criterion],
    ["History", task.history.map((entry) => clip(entry, 80)).join(" · ")],
  ].filter(([, text]) => text);
  return facts.length > 0 && h("dl.rs-facts", {}, facts.map(([label, text]) => h("div", {}, h("dt", {}, label), h("dd", {}, text))));
}

function card(value, version, index, choose) {
  const radio = h("input", { type: "radio", name: "version", value: index, onchange: choose });
  const titled = h("label.rs-version-head", {}, radio, h("span", {}, h("span", { class: `rs-chip ${version.kind === "person" ? "is-person" : "is-accent"}` }, version.title), version.note && h("span.rs-sub", {}, version.note)));
  const tiers = version.order.map((tier, level) => h("li", {}, h("span.rs-num.rs-level", {}, `${level + 1}`), h("ul", { "aria-label": tier.length > 1 ? "Equal" : `Place ${level + 1}` }, tier.map((id) => candidate(value.task, id, level)))));
  const reasons = version.reasons.map((said) => h("p.rs-quiet", {}, `“${clip(said, 300)}”`));
  return h("div.rs-version", {}, titled, h("ol", {}, tiers), reasons);
}

function candidate(task, id, level) {
  const known = task.candidates[id];
  return h("li", { "data-id": id, "data-level": level, title: known?.text ?? "" }, known?.title || id);
}

function levelsOf(order) {
  return new Map(order.flatMap((tier, level) => tier.map((id) => [id, level])));
}
