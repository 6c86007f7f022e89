// A list to choose one thing from: a page of rows, the chosen one marked, previous and next across pages.
import { h } from "./dom.js";
import { pager } from "./table.js";

export function mountPicker({ element, props, trigger, watch }) {
  function choose(id) {
    props.value = { ...props.value, selected: id };
    for (const button of element.querySelectorAll(".rs-pick")) button.setAttribute("aria-pressed", String(button.dataset.id === id));
    trigger("pick", { id });
  }
  function row(option, selected) {
    const button = h(
      "button.rs-pick",
      { type: "button", "aria-pressed": String(option.id === selected), onclick: () => choose(option.id) },
      h("span.rs-pick-name", { title: option.name }, option.name),
      h("span.rs-sub", {}, option.note),
    );
    button.dataset.id = option.id;
    return h("li", {}, button);
  }
  function draw() {
    const list = props.value;
    if (!list) return element.replaceChildren();
    const held = element.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const rows = list.rows.map((option) => row(option, list.selected));
    element.replaceChildren(
      h(
        "div.rs-picker",
        {},
        rows.length ? h("ul.rs-picks", { "aria-label": list.label }, rows) : h("p.rs-empty-line", {}, list.empty),
        list.total > 0 && pager(list, (offset) => trigger("turn", { offset }), true),
      ),
    );
    if (held) element.querySelector(`[aria-label="${held}"]`)?.focus();
    return undefined;
  }
  watch("value", draw);
  draw();
}
