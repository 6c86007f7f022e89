// The curves of a job: which metrics belong on one chart, smoothed, with the random floor and another job's curves drawn in.
import { h } from "./dom.js";
import { draw, plain, token } from "./figure.js";

const WINDOW = 8;
/** A step that took so many times as long as a typical one was interrupted. */
const PAUSE = 20;
const COLOURS = ["accent-ink", "good", "warn", "person", "bad", "ink-3"];
const POOL = /^exclusion(?:\/grade|_grade)\/pool_(\d+)$/;

/** [title, unit, [metric, label]..., floor metric]. A chart is drawn where one of its metrics was logged. */
const CHARTS = [
  { title: "Reward", unit: "mean", lines: [["objective/score", "score"], ["reward", "score"], ["rewards/exclusion/mean", "exclusion"], ["rewards/ranking/mean", "ranking"], ["rewards/format/mean", "format"], ["rewards/tags/mean", "tags"], ["rewards/length/mean", "length"]], drop: "rewards/ranking/mean" },
  { title: "Right exclusions", unit: "grade", lines: [["exclusion/grade", "grade"], ["exclusion_grade", "grade"], ["answers/parsed", "valid answers"]], floors: ["exclusion/random_floor", "exclusion_floor"] },
  { title: "Right exclusions by pool size", unit: "grade", pools: true },
  { title: "Loss", unit: "loss", lines: [["loss", "loss"]] },
  { title: "Preferred over rejected", unit: "share, margin", lines: [["rewards/accuracies", "right way round"], ["rewards/margins", "margin"]] },
  { title: "KL to the reference", unit: "nats", lines: [["objective/kl", "a decision"], ["kl", "KL"], ["policy/approx_kl", "one update"]] },
  { title: "Entropy", unit: "nats", lines: [["entropy", "entropy"]] },
  { title: "Clip fraction", unit: "share", lines: [["clip_ratio/region_mean", "policy"], ["value/clip_fraction", "value"]] },
  { title: "Value loss", unit: "loss", lines: [["value/loss", "value loss"]] },
  { title: "Explained variance", unit: "share", lines: [["value/explained_variance", "critic"]] },
  { title: "Token accuracy", unit: "share", lines: [["mean_token_accuracy", "accuracy"]] },
  { title: "Length", unit: "tokens", lines: [["completions/mean_length", "completion"]] },
  { title: "Gradient norm", unit: "norm", lines: [["grad_norm", "norm"]] },
  { title: "Time", unit: "s a step", lines: [["seconds_per_step", "step"]] },
];

/**
 * The charts of a job in one grid; keep the object and call `update`: charts stay where they are, and so does their zoom.
 */
export function makeCurves() {
  const node = h("div.rs-plots.rs-curves");
  const boxes = new Map();

  function boxFor(title) {
    if (!boxes.has(title)) {
      const figure = h("div.rs-figure", { "data-figure": true });
      const key = h("p.rs-key");
      boxes.set(title, { panel: h("section.rs-panel", { "data-curve": title }, h("h3.rs-section-title", {}, title), key, figure), figure, key });
    }
    return boxes.get(title);
  }

  function update(rows, other = null) {
    const timed = withSeconds(rows);
    const otherRows = other ? withSeconds(other.rows) : null;
    const shown = CHARTS.map((chart) => [chart, linesOf(chart, timed), otherRows ? linesOf(chart, otherRows) : []]).filter(([, lines]) => lines.length > 0);
    const panels = shown.map(([chart, lines, others]) => {
      const box = boxFor(chart.title);
      box.key.replaceChildren(...keyOf(lines, others.length ? other.name : ""));
      draw(box.figure, () => figureOf(chart, lines, others));
      return box.panel;
    });
    const same = panels.length === node.children.length && panels.every((panel, k) => node.children[k] === panel);
    if (!same) node.replaceChildren(...panels);
    node.hidden = panels.length === 0;
  }
  return { node, update };
}

function withSeconds(rows) {
  const timed = rows.map((row, k) => {
    if (row.step_time !== undefined) return { ...row, seconds_per_step: row.step_time };
    const before = rows[k - 1];
    const steps = before ? row.optimizer_step - before.optimizer_step : 0;
    return steps > 0 && row.time > before.time ? { ...row, seconds_per_step: (row.time - before.time) / steps } : { ...row };
  });
  const sorted = timed.map((row) => row.seconds_per_step).filter(Number.isFinite).sort((a, b) => a - b);
  const longest = PAUSE * (sorted[Math.floor(sorted.length / 2)] ?? Infinity);
  for (const row of timed) if (row.seconds_per_step > longest) delete row.seconds_per_step; // it was stopped in between
  return timed;
}

function linesOf(chart, rows) {
  const wanted = chart.pools ? poolsIn(rows) : chart.lines;
  const lines = wanted.map(([metric, label]) => ({ label, points: pointsOf(rows, metric), metric })).filter((line) => line.points.length > 0 && !(line.metric === chart.drop && line.points.every(([, y]) => y === 0)));
  lines.forEach((line, k) => Object.assign(line, { colour: COLOURS[k % COLOURS.length] }));
  const floor = (chart.floors ?? []).map((metric) => pointsOf(rows, metric)).find((points) => points.length > 0);
  if (lines.length > 0 && floor) lines.push({ label: "random", points: floor, colour: "heat-mark", isFloor: true });
  return lines;
}

function poolsIn(rows) {
  const found = new Map();
  for (const row of rows) for (const name of Object.keys(row)) if (POOL.test(name)) found.set(name, Number(POOL.exec(name)[1]));
  return [...found].sort((a, b) => a[1] - b[1]).slice(0, 6).map(([name, size]) => [name, `${size}`]);
}

const pointsOf = (rows, metric) => rows.filter((row) => Number.isFinite(row[metric])).map((row) => [row.optimizer_step, row[metric]]);

/** The mean of the last few values: a single batch says little. */
function smooth(points) {
  return points.map((_, k) => {
    const seen = points.slice(Math.max(0, k + 1 - WINDOW), k + 1);
    return seen.reduce((sum, [, y]) => sum + y, 0) / seen.length;
  });
}

function figureOf(chart, lines, others) {
  const data = [];
  const single = lines.filter((line) => !line.isFloor).length === 1;
  for (const line of lines) {
    const x = line.points.map(([step]) => step);
    const raw = line.points.map(([, y]) => y);
    const hover = `${plain(line.label)} %{y:.3g}<br>step %{x}<extra></extra>`;
    if (single && !line.isFloor && x.length > 2) data.push({ type: "scatter", mode: "lines", x, y: raw, line: { color: token("line-strong"), width: 1 }, hoverinfo: "skip" });
    data.push({ type: "scatter", mode: x.length < 3 ? "lines+markers" : "lines", x, y: smooth(line.points), line: { color: token(line.colour), width: 2, dash: line.isFloor ? "dot" : "solid" }, hovertemplate: hover });
  }
  for (const line of others.filter((one) => !one.isFloor)) {
    const colour = lines.find((one) => one.label === line.label)?.colour ?? "ink-3";
    data.push({ type: "scatter", mode: "lines", x: line.points.map(([step]) => step), y: smooth(line.points), line: { color: token(colour), width: 1.5, dash: "dash" }, hovertemplate: `other job, ${plain(line.label)} %{y:.3g}<extra></extra>` });
  }
  return { alt: inWords(chart, lines), data, layout: { height: 190, margin: { l: 48, r: 12, t: 6, b: 36 }, xaxis: { title: { text: "optimizer step", standoff: 6 }, tickformat: "d", nticks: 6 }, yaxis: { title: { text: chart.unit, standoff: 6 }, nticks: 5 } } };
}

function keyOf(lines, otherName) {
  const keys = lines.map((line) => h("span", {}, swatch(line), line.label));
  if (otherName) keys.push(h("span.rs-quiet", {}, `dashed: ${otherName}`));
  return keys;
}

function swatch(line) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `rs-swatch is-${line.colour}`);
  svg.setAttribute("viewBox", "0 0 14 4");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M0 2h14");
  if (line.isFloor) path.setAttribute("stroke-dasharray", "2 2");
  svg.append(path);
  return svg;
}

function inWords(chart, lines) {
  const said = lines.map((line) => {
    const values = smooth(line.points);
    return `${line.label} from ${values[0].toPrecision(3)} to ${values.at(-1).toPrecision(3)}`;
  });
  return `Line chart, ${chart.title.toLowerCase()} by optimizer step: ${said.join("; ")}`;
}
