// Two rows compared: the difference on every dataset with its interval and corrected p, the tasks where they part, and contrasts.
import { count, h } from "./dom.js";
import { make } from "./leaderboard.js";

const signed = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`;
const p = (value) => (value < 0.001 ? "< .001" : value.toFixed(3).replace(/^0/, ""));

export function mountComparison({ element, props, watch }) {
  function draw() {
    const value = props.value;
    if (!value) return element.replaceChildren();
    return element.replaceChildren(
      h(
        "div.rs-comparison",
        {},
        value.words && h("p.rs-quiet", {}, value.words),
        value.rows.length > 0 && differences("Difference on every dataset", value.rows, false),
        value.tasks.length > 0 && taskTable(value),
        value.contrasts.length > 0 && h("section", {}, h("h3.rs-section-title", {}, "Contrasts"), h("p.rs-quiet", {}, value.contrast_words), differences("Contrasts", value.contrasts, true)),
      ),
    );
  }
  watch("value", draw);
  draw();
}

function differences(label, rows, isContrast) {
  const most = Math.max(0.02, ...rows.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]));
  const head = [isContrast && "Contrast", "Dataset", "Queries", "Difference × 100 [95%]", "p", "p, Holm"].filter(Boolean);
  const lines = rows.map((row) =>
    h(
      "tr",
      {},
      isContrast && h("td.is-text", {}, h("span.rs-row-text", {}, row.family), h("span.rs-sub", {}, `${row.a} less ${row.b}`)),
      h("td.is-text", {}, row.dataset, h("span.rs-sub", {}, row.metric)),
      h("td.is-number", { "data-label": "Queries" }, count(row.n)),
      h("td.is-value", { "data-label": "Difference" }, h("span.rs-value", {}, h("span.rs-num", {}, h("b", {}, signed(row.difference)), h("span.rs-quiet", {}, ` [${signed(row.low)}, ${signed(row.high)}]`)), interval(row, most))),
      h("td.is-number", { "data-label": "p" }, p(row.p)),
      h("td.is-number", { "data-label": "p, Holm over datasets" }, p(row.p_holm)),
    ),
  );
  return table(label, head, lines);
}

function taskTable(value) {
  const lines = value.tasks.map((task) =>
    h(
      "tr",
      {},
      h("td.is-text", {}, task.href ? h("a.rs-row-link", { href: task.href }, task.name) : h("span.rs-row-text", {}, task.name), task.sub && h("span.rs-sub", {}, task.sub)),
      h("td.is-number", { "data-label": "A" }, (100 * task.a).toFixed(1)),
      h("td.is-number", { "data-label": "B" }, (100 * task.b).toFixed(1)),
      h("td.is-number", { "data-label": "A less B" }, signed(task.a - task.b)),
      h("td.is-action", {}, task.href ? h("a", { href: task.href }, "Both traces") : h("span.rs-quiet", {}, "not kept")),
    ),
  );
  return h("section", {}, h("h3.rs-section-title", {}, `Tasks of ${value.dataset} that differ most`), value.task_words && h("p.rs-quiet", {}, value.task_words), table("Tasks that differ most", ["Task", "A", "B", "A less B", ""], lines));
}

function table(label, head, lines) {
  const isLeft = (name) => name === "Dataset" || name.startsWith("Difference");
  const cells = head.map((name, index) => h(`th${index > 0 && !isLeft(name) ? ".is-number" : ""}`, { scope: "col" }, name || h("span.rs-hidden", {}, "Traces")));
  return h("div.rs-table-scroll", { tabindex: 0, role: "region", "aria-label": label }, h("table.rs-table", { "aria-label": label }, h("thead", {}, h("tr", {}, cells)), h("tbody", {}, lines)));
}

/** The difference around zero: left of the middle B is better, right of it A. */
function interval(row, most) {
  const x = (value) => 60 + (58 * value) / most;
  const svg = make("svg", { class: "rs-interval", viewBox: "0 0 120 12", width: 120, height: 12, "aria-hidden": "true" });
  svg.append(make("line", { class: "is-floor", x1: 60, x2: 60, y1: 0, y2: 12 }), make("line", { class: "is-range", x1: x(row.low), x2: x(row.high), y1: 6, y2: 6 }), make("circle", { class: "is-mean", cx: x(row.difference), cy: 6, r: 3.5 }));
  return svg;
}
