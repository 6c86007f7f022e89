// The leaderboard: rows with their interval drawn over the random floor, sorted here; the paper's rows greyed and named.
import { count, h, seconds } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const hundred = (value) => (100 * value).toFixed(1);
const signed = (value) => `${value >= 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`;
const share = (value) => `${(100 * value).toFixed(0)}%`;

/** key, heading, what it sorts by, how it is drawn; `costs` are known for models only. */
const COLUMNS = [
  { key: "dataset", label: "Dataset", kind: "text", of: (row) => row.dataset },
  { key: "system", label: "System", kind: "text", of: (row) => row.system, draw: systemCell },
  { key: "mean", label: "× 100 [95%]", kind: "value", of: (row) => row.mean, draw: valueCell },
  { key: "skill", label: "Skill", title: "(value − random floor) / (1 − floor) × 100", kind: "number", of: (row) => row.skill, draw: (row) => signed(row.skill) },
  { key: "n", label: "Queries", kind: "number", of: (row) => row.n, draw: (row) => (row.n < row.wanted ? `${count(row.n)} of ${count(row.wanted)}` : count(row.n)) },
  { key: "spread", label: "Spread", title: "Best less worst mean over the reshuffles of candidate order, × 100", kind: "number", of: (row) => row.spread, draw: (row) => hundred(row.spread) },
  { key: "malformed", label: "Malformed", title: "Steps whose written answer could not be used", kind: "number", of: (row) => row.malformed, draw: (row) => share(row.malformed) },
  { key: "forced", label: "Forced", title: "Steps in which scores decided, because no answer was asked for", kind: "number", of: (row) => row.forced, draw: (row) => share(row.forced) },
  { key: "calls", label: "Requests", kind: "number", of: (row) => row.calls, draw: (row) => row.calls.toFixed(1) },
  { key: "tokens", label: "Tokens in / out", kind: "number", of: (row) => (typeof row.tokens_in === "number" ? row.tokens_in + row.tokens_out : null), draw: (row) => `${count(Math.round(row.tokens_in))} / ${count(Math.round(row.tokens_out))}` },
  { key: "seconds", label: "Time", title: "Seconds a ranking as the clock ran, whatever else the machine did", kind: "number", of: (row) => row.seconds, draw: (row) => (row.seconds < 0.1 ? `${(1000 * row.seconds).toFixed(1)} ms` : seconds(row.seconds)) },
];

export function mountLeaderboard({ element, props, watch }) {
  let order = { key: "mean", down: true };

  function sortBy(column) {
    order = order.key === column.key ? { key: column.key, down: !order.down } : { key: column.key, down: column.kind !== "text" };
    draw();
    element.querySelector(`[data-key="${column.key}"]`)?.focus();
  }
  function draw() {
    const value = props.value;
    if (!value) return element.replaceChildren();
    if (!value.rows.length) return element.replaceChildren(h("div.rs-empty", {}, h("h2", {}, value.empty.title), h("p", {}, value.empty.text)));
    const columns = COLUMNS.filter((column) => column.key !== "dataset" || value.several);
    const scale = scaleOf(value.rows);
    const rows = [...value.rows].sort(comparing(COLUMNS.find((column) => column.key === order.key), order.down));
    const head = h("tr", {}, columns.map((column) => heading(column, value, order, () => sortBy(column))));
    const body = rows.map((row) => h(`tr${row.published ? ".is-published" : ""}`, {}, columns.map((column) => cell(column, row, scale))));
    return element.replaceChildren(
      h(
        "div.rs-table-box.rs-leaderboard",
        {},
        h("div.rs-table-scroll", { tabindex: 0, role: "region", "aria-label": "Leaderboard" }, h("table.rs-table", { "aria-label": value.label }, h("thead", {}, head), h("tbody", {}, body))),
        value.notes.map((note) => h("p.rs-quiet", {}, note)),
      ),
    );
  }
  watch("value", draw);
  draw();
}

function heading(column, value, order, onclick) {
  const isSorted = order.key === column.key;
  const label = column.key === "mean" ? `${value.metric} ${column.label}` : column.label;
  const arrow = h("span.rs-sort-mark", { "aria-hidden": "true" }, isSorted ? (order.down ? "↓" : "↑") : "");
  const button = h("button.rs-sort-by", { type: "button", title: column.title ?? null, "data-key": column.key, onclick }, label, arrow);
  return h(`th.is-${column.kind}`, { scope: "col", "aria-sort": isSorted ? (order.down ? "descending" : "ascending") : "none" }, button);
}

/** What is not known comes last, whichever way. */
function comparing(column, down) {
  return (a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
    if (y === null || y === undefined) return -1;
    const way = typeof x === "string" ? x.localeCompare(y) : x - y;
    return down ? -way : way;
  };
}

function cell(column, row, scale) {
  const known = column.of(row);
  const missing = known === null || known === undefined || Number.isNaN(known);
  const drawn = missing ? h("span.rs-quiet", {}, "–") : column.draw ? column.draw(row, scale) : known;
  return h(`td.is-${column.kind}`, { "data-label": column.label }, drawn);
}

function systemCell(row) {
  const note = row.published ? h("span.rs-chip", {}, "published") : row.note && h("span.rs-sub", {}, row.note);
  return h("span.rs-system", {}, h("span.rs-row-text", { title: row.system }, row.system), note);
}

function valueCell(row, scale) {
  const range = row.published ? "" : ` [${hundred(row.low)}, ${hundred(row.high)}]`;
  return h("span.rs-value", {}, h("span.rs-num", {}, h("b", {}, hundred(row.mean)), h("span.rs-quiet", {}, range)), row.published ? null : interval(row, scale));
}

function scaleOf(rows) {
  const most = Math.max(...rows.map((row) => row.high ?? row.mean), 0.01);
  return (value) => 2 + 116 * Math.min(1, Math.max(0, value / most));
}

/** The mean as a dot, its interval as a line, the random floor as a tick. */
function interval(row, scale) {
  const svg = make("svg", { class: "rs-interval", viewBox: "0 0 120 12", width: 120, height: 12, role: "img", "aria-label": row.floor === null ? "no floor" : `random floor ${hundred(row.floor)}` });
  if (row.floor !== null) svg.append(make("line", { class: "is-floor", x1: scale(row.floor), x2: scale(row.floor), y1: 0, y2: 12 }));
  svg.append(make("line", { class: "is-range", x1: scale(row.low), x2: scale(row.high), y1: 6, y2: 6 }), make("circle", { class: "is-mean", cx: scale(row.mean), cy: 6, r: 3.5 }));
  return svg;
}

export function make(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  return node;
}
