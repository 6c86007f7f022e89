// One completion as the reward sees it: what was read out of it, and every component under every preset.
import { h } from "./dom.js";

const PRESETS = ["studio", "paper", "reference"];
const COMPONENTS = ["exclusion", "ranking", "format", "tags", "length", "total"];
const OUTCOMES = { parsed: ["names one candidate", "is-good"], no_answer: ["no answer", "is-bad"], several_answers: ["several answers", "is-bad"], not_in_pool: ["names nobody of the pool", "is-bad"] };
const number = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

/** The pool with what is known of each exclusion. */
export function poolList(example) {
  const items = example.pool.map((one) => h("li", {}, h("span.rs-num", {}, `[${one.label}] `), one.title, " ", h("span", { class: `rs-chip ${tone(one.grade)}` }, one.grade === null ? "open" : `excluding it earns ${one.grade.toFixed(2)}`)));
  return h("ul.rs-pool", { "aria-label": "Candidates and what excluding them earns" }, items);
}

const tone = (grade) => (grade === null ? "" : grade === 1 ? "is-good" : grade === 0 ? "is-bad" : "is-warn");

/** What matched: the outcome, the answer, who is excluded, the tags. */
export function matched(found) {
  const [words, colour] = OUTCOMES[found.outcome] ?? [found.outcome, ""];
  const own = found.rewards.paper;
  const tags = found.tags.map(({ tag, count }) => h("span", { class: `rs-chip ${count === 1 ? "" : "is-bad"}` }, `${tag} × ${count}`));
  const repaired = found.rewards.reference.is_repaired && h("p.rs-sub", {}, `The released code would have taken this for “${found.rewards.reference.excluded}” by likeness, and told nobody.`);
  return h(
    "div.rs-matched",
    {},
    h("p", {}, h("span", { class: `rs-chip ${colour}` }, words), own.excluded && ` excludes ${own.excluded}`, own.grade !== null && own.grade !== undefined && ` (grade ${own.grade.toFixed(2)}, a random exclusion ${own.floor.toFixed(2)})`),
    h("p.rs-tally", {}, tags, h("span.rs-chip", {}, `${found.num_words} words`)),
    repaired || null,
  );
}

/** Components by presets; `advantage` and `stored` are of a kept rollout. */
export function partsTable(found, stored = null) {
  const columns = stored ? ["as scored then", ...PRESETS] : PRESETS;
  const rows = COMPONENTS.map((name) => {
    const cells = PRESETS.map((preset) => found.rewards[preset][name]);
    if (stored) cells.unshift(stored[name]);
    return h("tr", { class: name === "total" ? "is-total" : null }, h("th", { scope: "row" }, name), cells.map((value, k) => h("td.rs-num", { "data-label": columns[k] }, number(value))));
  });
  const head = h("tr", {}, h("th", { scope: "col" }, "Component"), columns.map((name) => h("th", { scope: "col" }, name)));
  return h("div.rs-table-scroll", {}, h("table.rs-table.rs-parts", { "aria-label": "Reward, component by component" }, h("thead", {}, head), h("tbody", {}, rows)));
}
