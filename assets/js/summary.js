// What a dataset is, in a few facts, with the button that deletes it.
import { h } from "./dom.js";

export function mountSummary({ element, props, trigger, watch }) {
  function draw() {
    const value = props.value;
    if (!value?.title) return element.replaceChildren();
    const remove = value.delete && h("button.rs-button.is-small", { type: "button", onclick: () => trigger("delete", { id: value.delete }) }, "Delete");
    const facts = value.facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd.rs-num", {}, text)));
    if (value.delete) remember(value.delete);
    return element.replaceChildren(
      h("section.rs-summary", {}, h("div.rs-summary-head", {}, h("h2.rs-query", {}, value.title), remove || null), value.words && h("p.rs-quiet", {}, value.words), facts.length > 0 && h("dl.rs-facts", {}, facts)),
    );
  }
  watch("value", draw);
  draw();
}

/** The address bar is a permalink of the dataset that is shown. */
function remember(id) {
  const query = new URLSearchParams(location.search);
  query.set("dataset", id);
  history.replaceState(history.state, "", `${location.pathname}?${query}`);
}
