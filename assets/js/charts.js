// The two figures of a trace: exclusion probabilities as a heat map, and the rank of every candidate step by step.
import { clip, percent } from "./dom.js";
import { titleOf } from "./cards.js";
import { plain, token } from "./figure.js";
import { exclusions, frameAt, trajectories } from "./trace.js";

const MAX_LABEL = 26;

const narrow = () => window.matchMedia("(max-width: 640px)").matches;
const stepTicks = (count) => ({ tickmode: "array", tickvals: Array.from({ length: count }, (_, i) => i).filter((i) => count <= 12 || i % 2 === 0) });
const withText = (axis) => ({ ...axis, ticktext: axis.tickvals.map((i) => String(i + 1)) });

/** What a figure says to somebody who cannot see it. */
function inWords(trace, what) {
  const titles = new Map(trace.candidates.map((candidate) => [candidate.id, candidate.title]));
  const gone = trace.steps.map((step, index) => `step ${index + 1}: ${exclusions(step).map((id) => titles.get(id)).join(", ")}`);
  return `${what}. Excluded in ${gone.join("; ") || "no step yet"}.`;
}

/** Rows = candidates, best rank on top; columns = steps; a cross marks the one that went. */
export function heatMap(trace, cursor) {
  const { order } = frameAt(trace, trace.steps.length);
  const titles = new Map(trace.candidates.map((candidate) => [candidate.id, titleOf(trace, candidate.id, 400)]));
  const steps = trace.steps;
  const rows = [...order].reverse();
  const z = rows.map((id) => steps.map((step) => step.probabilities?.[id] ?? null));
  const hover = rows.map((id) =>
    steps.map((step, index) => {
      const p = step.probabilities?.[id];
      return `${plain(clip(titles.get(id), 60))}<br>step ${index + 1}: ${p === undefined ? "not in the pool" : `${percent(p)} to be excluded`}`;
    }),
  );
  const marks = steps.flatMap((step, index) => exclusions(step).map((id) => ({ x: index, y: rows.indexOf(id) })));
  const relevant = new Set(trace.relevant ?? []);
  return {
    alt: inWords(trace, "Heat map of the probability of exclusion, candidates by steps"),
    data: [
      {
        type: "heatmap", x: steps.map((_, index) => index), z, text: hover, hovertemplate: "%{text}<extra></extra>", hoverongaps: false,
        xgap: 2, ygap: 2, zmin: 0, colorscale: [[0, token("heat-0")], [0.5, token("heat-1")], [1, token("heat-2")]],
        colorbar: { thickness: 8, len: 0.6, y: 0.7, outlinewidth: 0, tickformat: ".0%", nticks: 4, tickfont: { size: 11 } }, showscale: !narrow(),
      },
      {
        type: "scatter", mode: "markers", x: marks.map((m) => m.x), y: marks.map((m) => m.y), hoverinfo: "skip",
        marker: { symbol: "x-thin", size: 8, line: { width: 2, color: token("heat-mark") } },
      },
    ],
    layout: {
      height: Math.max(200, 24 * rows.length + 56),
      margin: { l: 8, r: 8, t: 4, b: 40 },
      xaxis: { ...withText(stepTicks(steps.length)), title: { text: "step", standoff: 6 }, showgrid: false, zeroline: false, range: [-0.52, steps.length - 0.48], fixedrange: true },
      yaxis: {
        tickmode: "array", tickvals: rows.map((_, index) => index), showgrid: false, zeroline: false, automargin: true, ticks: "", range: [-0.5, rows.length - 0.5], fixedrange: true,
        ticktext: rows.map((id) => `${relevant.has(id) ? "◆ " : ""}${plain(clip(titles.get(id), narrow() ? 14 : MAX_LABEL))} `),
      },
      shapes: cursorShape(trace, cursor),
    },
  };
}

/** Marks the step that the board shows; none where it shows the result. */
function cursorShape(trace, cursor) {
  if (cursor < 1 || cursor >= trace.steps.length) return [];
  return [{ type: "rect", xref: "x", yref: "paper", x0: cursor - 1.5, x1: cursor - 0.5, y0: 0, y1: 1, line: { color: token("accent-ink"), width: 1.5 } }];
}

/** One line per candidate; only the relevant ones and the winner carry colour. */
export function bumpChart(trace, cursor) {
  const lines = trajectories(trace);
  const relevant = new Set(trace.relevant ?? []);
  const winner = trace.ranking?.[0];
  const count = trace.steps.length;
  const data = trace.candidates.map((candidate) => {
    const ranks = lines.get(candidate.id);
    const colour = relevant.has(candidate.id) ? token("good") : candidate.id === winner ? token("accent") : token("line-strong");
    const strong = relevant.has(candidate.id) || candidate.id === winner;
    const ended = ranks.length < count || (trace.state === "finished" && candidate.id !== winner) || exclusions(trace.steps[count - 1] ?? { excluded_id: "" }).includes(candidate.id);
    return {
      type: "scatter", mode: "lines+markers", name: plain(clip(candidate.title, 60)), x: ranks.map((_, index) => index), y: ranks,
      line: { color: colour, width: strong ? 3 : 1.5, shape: "linear" },
      marker: { color: colour, line: { width: 0 }, size: ranks.map((_, index) => (index === ranks.length - 1 ? 8 : strong ? 5 : 3.5)), symbol: ranks.map((_, index) => (ended && index === ranks.length - 1 ? "x" : "circle")) },
      hovertemplate: `%{fullData.name}<br>step %{customdata}: rank %{y}<extra></extra>`, customdata: ranks.map((_, index) => index + 1),
    };
  });
  data.sort((a, b) => a.line.width - b.line.width);
  const size = trace.candidates.length;
  return {
    alt: inWords(trace, "Bump chart of the rank of every candidate after each step"),
    data,
    layout: {
      height: Math.max(200, 24 * size + 56),
      margin: { l: 36, r: 12, t: 4, b: 40 },
      hovermode: "closest",
      xaxis: { ...withText(stepTicks(count)), title: { text: "step", standoff: 6 }, range: [-0.4, Math.max(count - 0.6, 0.4)], showgrid: false, zeroline: false },
      yaxis: { range: [size + 0.5, 0.5], dtick: size > 12 ? 2 : 1, tick0: 1, zeroline: false, title: { text: "rank", standoff: 4 } },
      shapes: cursorShape(trace, cursor),
    },
  };
}
