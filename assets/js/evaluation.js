// What an evaluation is and how far it has come: name, state, progress, command, exports; and lines of facts.
import { count, h, plural, seconds, setShare, shareBar } from "./dom.js";
import { STATES } from "./words.js";

const WORDS = { ...STATES, starting: { label: "Starting", tone: "is-accent is-live" }, stopping: { label: "Stopping", tone: "is-warn is-live" }, example: { label: "Read only", tone: "" } };
const GOES_ON = new Set(["stopped", "interrupted", "failed"]);
const LIVE = new Set(["starting", "running", "stopping"]);

export function mountEvaluationHead({ element, props, trigger, watch }) {
  let drawn = null;

  function draw() {
    const value = props.value;
    if (!value?.id) {
      drawn = null;
      return element.replaceChildren();
    }
    if (drawn?.matches(value)) return drawn.update(value);
    const held = element.contains(document.activeElement) ? document.activeElement.textContent : null;
    drawn = view(value, trigger);
    element.replaceChildren(drawn.node);
    if (held) [...element.querySelectorAll("button, summary")].find((node) => node.textContent === held)?.focus();
    return remember(value.id);
  }
  watch("value", draw);
  draw();
}

/** Progress is updated in place, so that focus and open details stay. */
function view(value, trigger) {
  const bar = shareBar(0);
  const words = h("p.rs-quiet.rs-num", { role: "status" });
  const progress = h("div.rs-eval-progress", { hidden: !value.progress }, bar, words);
  const state = WORDS[value.example ? "example" : value.state] ?? { label: value.state, tone: "" };
  const button = (name, event, kind = "") => h(`button.rs-button.is-small${kind}`, { type: "button", onclick: () => trigger(event, {}) }, name);
  const actions = value.example ? [] : [LIVE.has(value.state) ? button("Stop", "stop") : GOES_ON.has(value.state) ? button("Resume", "resume", ".is-primary") : null, LIVE.has(value.state) ? null : button("Delete", "remove")];
  const exports = value.exports.map((link) => h("a.rs-button.is-small", { href: link.href, download: true }, link.text));
  const facts = value.facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd.rs-num", {}, text)));
  const node = h(
    "section.rs-summary",
    { "aria-label": "Evaluation" },
    h("div.rs-summary-head", {}, h("div.rs-eval-title", {}, h("h2.rs-query", {}, value.name), h("span", { class: `rs-chip ${state.tone}` }, state.label)), h("div.rs-actions", {}, actions)),
    value.message && h(value.state === "failed" ? "p.rs-error" : "p.rs-quiet", {}, value.message),
    progress,
    facts.length > 0 && h("dl.rs-facts", {}, facts),
    exports.length > 0 && h("div.rs-eval-exports", {}, h("span.rs-quiet", {}, "Export"), exports),
    h("details.rs-details", {}, h("summary", {}, value.commands.length > 1 ? `Made by ${plural(value.commands.length, "command")}` : "Made by this command"), h("pre.rs-command", { tabindex: 0 }, value.commands.join("\n"))),
  );
  function update(now) {
    if (!now.progress) return;
    setShare(bar, now.progress.all ? now.progress.done / now.progress.all : 0);
    const left = now.progress.left ? `, about ${seconds(now.progress.left)} left` : "";
    const counted = now.progress.all ? `${count(now.progress.done)} of ${count(now.progress.all)} rankings, ${seconds(now.progress.seconds)} so far${left}` : "Opening datasets and models";
    words.textContent = now.progress.words ? `${counted}: ${now.progress.words}` : counted;
  }
  update(value);
  const key = (v) => JSON.stringify([v.id, v.name, v.state, v.message, v.facts, v.exports, Boolean(v.progress)]);
  return { node, update, matches: (now) => key(now) === key(value) };
}

/** The address bar is a permalink of the evaluation that is shown. */
function remember(id) {
  const query = new URLSearchParams(location.search);
  if (query.get("evaluation") === id) return;
  if (query.has("evaluation")) for (const name of ["dataset", "a", "b"]) query.delete(name);
  query.set("evaluation", id);
  history.replaceState(history.state, "", `${location.pathname}?${query}`);
}

export function mountFacts({ element, props, watch }) {
  function draw() {
    const value = props.value;
    if (!value) return element.replaceChildren();
    const facts = value.facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd.rs-num", {}, text)));
    return element.replaceChildren(h("section.rs-summary", { "aria-label": value.title }, h("h3.rs-section-title", {}, value.title), facts.length > 0 && h("dl.rs-facts", {}, facts), value.words && h("p.rs-quiet", {}, value.words)));
  }
  watch("value", draw);
  draw();
}
