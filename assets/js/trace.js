// A trace in the browser: folding live events into it, and what follows from its steps.
// Pure functions over plain objects; knows no elements.

/** Fold one live event into the trace; a snapshot replaces it, so reconnecting needs nothing else. */
export function fold(trace, event) {
  if (event.k === "snapshot") return event.trace;
  if (!trace) return trace;
  if (event.k === "step") {
    trace.state = "running";
    trace.current = { step_index: event.step_index, pool: event.pool, reasoning: "" };
  } else if (event.k === "tok") {
    if (trace.current) trace.current.reasoning += event.d;
  } else if (event.k === "elim") {
    trace.steps[event.step.step_index] = event.step;
    trace.current = null;
    trace.totals = event.totals;
  } else if (event.k === "done") {
    Object.assign(trace, { state: event.state, ranking: event.ranking ?? trace.ranking, totals: event.totals ?? trace.totals });
    trace.error = event.error ?? null;
    trace.current = null;
  }
  return trace;
}

export const isOver = (trace) => ["finished", "stopped", "interrupted", "failed"].includes(trace.state);

/** Everything a step excludes, worst first. */
export const exclusions = (step) => step.excluded_ids ?? [step.excluded_id];

/** How many decisions the whole ranking takes, as far as can be told. */
export function numSteps(trace) {
  if (trace.state === "finished" || trace.mode === "direct") return Math.max(trace.steps.length, 1);
  const gone = trace.steps.reduce((sum, step) => sum + exclusions(step).length, 0);
  return Math.max(trace.steps.length + trace.candidates.length - 1 - gone, trace.steps.length);
}

/**
 * The board after the first `shown` steps: who is out with which rank, who is in play, and the probabilities last seen.
 * @returns {{out: Map, pool: string[], order: string[], step: object|null}} `order` = in play first, then by rank.
 */
export function frameAt(trace, shown) {
  const out = new Map();
  let rank = trace.candidates.length;
  for (const step of trace.steps.slice(0, shown)) for (const id of exclusions(step)) out.set(id, { rank: rank--, step });
  const pool = trace.candidates.map((candidate) => candidate.id).filter((id) => !out.has(id));
  if (pool.length === 1 && trace.state === "finished") out.set(pool[0], { rank: 1, step: null });
  const byRank = [...out.entries()].sort((a, b) => a[1].rank - b[1].rank).map(([id]) => id);
  const inPlay = pool.filter((id) => !out.has(id));
  return { out, pool, order: [...inPlay, ...byRank], step: shown ? trace.steps[shown - 1] : null };
}

/**
 * Rank of each candidate in each step: 1 = least likely to be excluded. Where a step has no probabilities the order of the
 * step before it stays. The line of a candidate ends in the step that excludes it.
 * @returns {Map<string, number[]>} candidate id -> rank in step 0, 1, ...
 */
export function trajectories(trace) {
  const lines = new Map(trace.candidates.map((candidate) => [candidate.id, []]));
  let order = trace.candidates.map((candidate) => candidate.id);
  for (const step of trace.steps) {
    const gone = exclusions(step);
    const kept = order.filter((id) => step.pool.includes(id) && !gone.includes(id));
    if (step.probabilities) kept.sort((a, b) => step.probabilities[a] - step.probabilities[b]);
    order = [...kept, ...[...gone].reverse()];
    order.forEach((id, position) => lines.get(id).push(position + 1));
  }
  return lines;
}

/** Best rank of a relevant candidate so far; null while all of them are in play. */
export function rankOfRelevant(trace, shown = trace.steps.length) {
  if (!trace.relevant?.length) return null;
  const { out, pool } = frameAt(trace, shown);
  if (trace.relevant.some((id) => pool.includes(id) && !out.has(id))) return null;
  return Math.min(...trace.relevant.map((id) => out.get(id)?.rank ?? Infinity));
}

/** The first step at which two traces of one task exclude different candidates; null if one is a beginning of the other. */
export function firstParting(left, right) {
  const shared = Math.min(left.steps.length, right.steps.length);
  for (let index = 0; index < shared; index += 1) {
    if (exclusions(left.steps[index]).join("\u0000") !== exclusions(right.steps[index]).join("\u0000")) return index;
  }
  return null;
}
