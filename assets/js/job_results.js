// What came out of a job: before and after with intervals, the tasks that changed most, two jobs side by side, provenance.
import { count, h, plural, seconds } from "./dom.js";

const number = (value) => value.toFixed(3);
const signed = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}`;
const interval = (value) => `${number(value.mean)} [${number(value.low)}, ${number(value.high)}]`;
const METRICS = { agreement: "agreement with people", mrr: "MRR" };

/** The comparison of one job, or words on why there is none yet. */
export function results(view) {
  const comparison = view.comparison;
  if (!comparison?.sets.length) {
    const isOver = ["done", "failed", "stopped", "interrupted"].includes(view.status.state);
    return h("p.rs-empty-line", {}, isOver ? "Nothing was ranked before and after: no task was held out, or the job did not get that far." : "When the training is over, held-out tasks are ranked with the model as it was and as it is.");
  }
  const rows = comparison.sets.map((set) => [set.name, METRICS[set.metric] ?? set.metric, count(set.num_tasks), number(set.floor), interval(set.before), interval(set.after), difference(set.after_minus_before)]);
  return h("div", {}, grid("Before and after", ["Held out", "Measure", "Tasks", "Random", "Before", "After", "Difference"], rows), h("p.rs-sub", {}, "95% intervals over tasks, bootstrap; differences are paired, p by permutation."), comparison.sets.map(changed));
}

function difference(gain) {
  const tone = gain.low > 0 ? "is-good" : gain.high < 0 ? "is-bad" : "";
  return h("span", {}, h("span", { class: `rs-chip ${tone}` }, `${signed(gain.difference)} [${signed(gain.low)}, ${signed(gain.high)}]`), h("span.rs-sub", {}, ` p = ${gain.p_value.toFixed(4)}`));
}

function changed(set) {
  if (!set.tasks.length) return h("p.rs-sub", {}, `${set.name}: no ranking changed.`);
  const items = set.tasks.map((task) =>
    h(
      "li.rs-changed",
      {},
      h("p", {}, h("span.rs-num", {}, `${number(task.before)} → ${number(task.after)} `), task.query || task.task_id),
      h("div.rs-sides", {}, order("Before", task.ranking_before), order("After", task.ranking_after)),
    ),
  );
  return h("details.rs-details", {}, h("summary", {}, `${set.name}: ${plural(set.num_moved, "task")} ranked differently, the ${items.length} that changed most`), h("ul.rs-changes", {}, items));
}

const order = (name, titles) => h("div", {}, h("p.rs-eyebrow", {}, name), h("ol.rs-order", {}, titles.map((title) => h("li", {}, title))));

function grid(label, columns, rows) {
  const head = h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)));
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, k) => h("td.rs-num", { "data-label": columns[k] }, cell))));
  return h("div.rs-table-scroll", {}, h("table.rs-table", { "aria-label": label }, h("thead", {}, head), h("tbody", {}, body)));
}

/** Two jobs: settings that differ, and the paired difference on the tasks that both ranked. */
export function sideBySide(found) {
  const [left, right] = found.jobs.map((job) => job.name);
  const sets = found.sets.map((set) => [set.name, METRICS[set.metric] ?? set.metric, interval(set.left), interval(set.right), difference(set.difference)]);
  const settings = found.settings.map((one) => [one.name, show(one.left), show(one.right)]);
  return h(
    "div",
    {},
    sets.length ? grid("Results of both", ["Held out", "Measure", left, right, "Difference"], sets) : h("p.rs-empty-line", {}, "The two have ranked no set in common yet."),
    settings.length ? grid("Settings that differ", ["Setting", left, right], settings) : h("p.rs-empty-line", {}, "Both have the same settings."),
  );
}

const show = (value) => (value === null || value === undefined ? "–" : Array.isArray(value) ? value.join(", ") || "–" : String(value));

/** What the newest checkpoint carries. */
export function provenance(view) {
  const from = view.provenance;
  if (!from) return h("p.rs-empty-line", {}, "There is no checkpoint yet.");
  const ids = from.correction_ids;
  const facts = [
    ["Base model", `${from.base_model}${from.base_sha256 ? `, sha256 ${from.base_sha256.slice(0, 16)}…` : ""}`],
    ["Checkpoint", `after ${count(from.optimizer_step)} optimizer steps; kept: ${view.checkpoints.join(", ")}`],
    ["Prompt", from.prompt_version],
    ["Code", from.code_version],
    ["Data", Object.entries(from.data_sha256).map(([name, hash]) => `${name} ${hash.slice(0, 12)}…`).join("; ")],
    ["Corrections", ids.length ? `${count(ids.length)}: ${ids.slice(0, 6).join(", ")}${ids.length > 6 ? ", …" : ""}` : "none"],
  ];
  const result = view.result;
  if (result) facts.push(["Cost", `${seconds(result.seconds)} of training, ${count(Math.round(result.cpu_seconds))} CPU seconds in all, at most ${(result.peak_rss_bytes / 1e9).toFixed(1)} GB`]);
  return h("dl.rs-facts.is-long", {}, facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
}
