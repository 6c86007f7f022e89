// One line that says what went wrong or what was done, sometimes with a way back ("Undo"). Its text is text.
import { h } from "./dom.js";

export function mountNotice({ element, props, trigger, watch }) {
  const box = h("div.rs-notice-box", { "aria-live": "polite" });
  element.replaceChildren(box);

  function draw() {
    const notice = props.value;
    if (!notice?.text) return box.replaceChildren();
    const close = h("button.rs-more", { type: "button", onclick: () => box.replaceChildren() }, "Dismiss");
    const action = notice.action && h("button.rs-button.is-small", { type: "button", onclick: () => trigger("act", { id: notice.id }) }, notice.action);
    return box.replaceChildren(h("div.rs-notice", { class: `rs-notice is-${notice.kind}`, role: notice.kind === "error" ? "alert" : "status" }, h("p", {}, notice.text), h("div", {}, action, close)));
  }
  watch("value", draw);
  draw();
}
