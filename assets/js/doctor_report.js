// What the dataset doctor says: a count by severity, then every finding with its examples and what to do about it.
import { count, h, plural } from "./dom.js";

const SEVERITIES = { error: { label: "Error", tone: "is-bad" }, warning: { label: "Warning", tone: "is-warn" }, note: { label: "Note", tone: "" } };

export function mountDoctorReport({ element, props, trigger, watch }) {
  function draw() {
    const value = props.value;
    if (!value) return element.replaceChildren();
    return element.replaceChildren(h("section.rs-report", {}, head(value), body(value)));
  }
  function head(value) {
    const label = { ready: "Check again", empty: "Check this dataset", failed: "Try again" }[value.state];
    const button = value.state === "checking" ? action("Cancel", "cancel") : action(label, "check");
    return h("div.rs-report-head", {}, h("h2.rs-section-title", {}, "Doctor’s report"), value.state === "ready" && tally(value.findings), h("div.rs-actions", {}, button));
  }
  function action(label, event) {
    return h("button.rs-button.is-small", { type: "button", onclick: () => trigger(event, {}) }, label);
  }
  watch("value", draw);
  draw();
}

function body(value) {
  if (value.state === "checking") return h("p.rs-quiet", { role: "status" }, h("span.rs-chip.is-accent.is-live", {}, "Checking"), ` ${value.words}`);
  if (value.state === "failed") return h("p.rs-error", { role: "alert" }, value.words);
  if (value.state === "empty") return h("p.rs-quiet", {}, value.words);
  return [findingList(value.findings) ?? h("p.rs-quiet", {}, "A clean bill of health: the doctor found nothing."), h("p.rs-sub", {}, value.words)];
}

/** "1 error", "2 warnings" ... as chips; a clean bill of health says so. */
export function tally(findings) {
  const chips = Object.entries(SEVERITIES).map(([severity, { label, tone }]) => {
    const number = findings.filter((finding) => finding.severity === severity).length;
    return number > 0 && h("span", { class: `rs-chip ${tone}` }, plural(number, label.toLowerCase()));
  });
  return h("span.rs-tally", {}, findings.length ? chips : h("span.rs-chip.is-good", {}, "no findings"));
}

/** The findings, or null where there are none. Messages, examples and fixes hold dataset text. */
export function findingList(findings) {
  if (!findings?.length) return null;
  return h("ul.rs-findings", {}, findings.map(findingItem));
}

function findingItem(finding) {
  const { label, tone } = SEVERITIES[finding.severity] ?? SEVERITIES.note;
  const examples = finding.examples.map((example) => h("li", {}, example));
  const isSaid = finding.count === 0 || finding.message.includes(count(finding.count));
  return h(
    "li.rs-finding",
    {},
    h("span", { class: `rs-chip ${tone}` }, label),
    h("div", {}, h("p.rs-finding-said", {}, finding.message, !isSaid && h("span.rs-num.rs-quiet", {}, ` × ${count(finding.count)}`)), examples.length > 0 && h("ul.rs-examples", { "aria-label": "Examples" }, examples), h("p.rs-quiet", {}, finding.fix)),
  );
}
