// What a person has said of the task on the desk so far: from a draft, from what was handed in before, or from the start; and
// the words that are handed in. Pure functions over plain objects; knows no elements and no connection.
//   work = {order, baseline, label: ids | null, steps: {index: {verdict, ids, rating, reasoning}}, reason, isChanged}
import { fromBlank, fromRanking, fromTiers, isSame, tiersOf, topOf } from "./order.js";

const ids = (desk) => desk.task.candidates.map((candidate) => candidate.id);

/** What the order starts from, before a person does anything. */
function startOf(desk) {
  return desk.trace?.ranking && desk.start === "model" ? fromRanking(desk.trace.ranking) : fromBlank(desk.pool);
}

export function freshWork(desk) {
  const order = startOf(desk);
  return { order, baseline: order, label: null, steps: {}, reason: "", isChanged: false };
}

/** From what a draft holds; a draft of another program may hold an order only. */
export function fromContent(desk, content) {
  const fresh = freshWork(desk);
  if (!content) return fresh;
  const all = [...ids(desk)].sort().join("\u0000");
  const fits = Array.isArray(content.rows) && content.rows.filter(Boolean).sort().join("\u0000") === all;
  const order = fits ? { rows: content.rows, ties: content.ties ?? [], below: content.below ?? null } : Array.isArray(content.order) ? fromTiers(content.order, ids(desk), content.top ?? null) : fresh.order;
  return { ...fresh, order, label: content.label ?? null, steps: content.steps ?? {}, reason: content.reason ?? "", isChanged: content.is_changed ?? !isSame(order, fresh.order) };
}

/** From one's own current words, to look at them again and change them. */
export function fromSaid(desk) {
  const work = freshWork(desk);
  for (const { kind, payload, reason, trace_id } of desk.said) {
    work.reason = reason || work.reason;
    if (kind === "ranking") {
      work.order = fromTiers(payload.order, ids(desk), payload.top ?? null);
      work.isChanged = true;
    } else if (kind === "label") work.label = payload.relevant;
    else if (kind === "step" && trace_id === desk.trace_id && payload.step_index !== undefined) {
      const verdict = payload.verdict === "exclude" ? "not_this" : (payload.verdict ?? null);
      work.steps[payload.step_index] = { verdict, ids: payload.exclude ?? [], rating: payload.rating ?? null, reasoning: payload.reasoning ?? null };
    }
  }
  return work;
}

/** As a draft keeps it. `order` says the same as rows, ties and line, for whoever knows only orders. */
export function toContent(desk, work, effort) {
  return { ...work.order, order: tiersOf(work.order), top: topOf(work.order), label: work.label, steps: work.steps, reason: work.reason, is_changed: work.isChanged, start: desk.start, trace_id: desk.trace_id, effort };
}

/** Does the person say something about this step? */
export const saysStep = (said) => Boolean(said && (said.verdict || said.rating || said.reasoning));

/** What is handed in, in words: "your order", "the order as it is", "1 step", "nothing yet". */
export function summary(work) {
  const parts = [];
  const numSteps = Object.values(work.steps).filter(saysStep).length;
  if (work.isChanged) parts.push("your order");
  if (work.label !== null) parts.push("the label");
  if (numSteps) parts.push(numSteps === 1 ? "1 step" : `${numSteps} steps`);
  if (parts.length) return parts.join(", ");
  return tiersOf(work.order).flat().length < 2 ? "nothing yet" : "the order as it is";
}

/**
 * The words that a submission says; an order that nobody touched is said only where nothing else is.
 * @returns {{words: object[], missing: string}} missing = why it cannot be handed in yet
 */
export function wordsOf(desk, work, effort, newId) {
  const words = [];
  const tiers = tiersOf(work.order);
  for (const [index, said] of Object.entries(work.steps)) {
    if (!saysStep(said)) continue;
    const missing = missingOf(said, Number(index));
    if (missing) return { words: [], missing };
    words.push({ kind: "step", payload: stepPayload(Number(index), said) });
  }
  if (work.label !== null) words.push({ kind: "label", payload: { relevant: work.label } });
  if (work.isChanged || !words.length) {
    if (tiers.flat().length < 2) return { words: [], missing: "Nothing is ranked yet: put two candidates above the line, or skip the task." };
    const top = topOf(work.order);
    words.unshift({ kind: "ranking", payload: { order: tiers, ...(top === null ? {} : { top }) } });
  }
  const { seconds, ...counts } = effort;
  words[0].payload = { ...words[0].payload, start: desk.start, ...counts };
  words[0].duration_s = seconds;
  return { words: words.map((word) => ({ correction_id: newId(), ...word })), missing: "" };
}

function missingOf(said, index) {
  if (said.verdict === "any" && said.ids.length < 2) return `Step ${index + 1}: name two candidates at least that could go.`;
  return "";
}

function stepPayload(step_index, { verdict, ids: named, rating, reasoning }) {
  const payload = { step_index };
  if (verdict === "not_this" && named.length) Object.assign(payload, { verdict: "exclude", exclude_ids: named.slice(0, 1) });
  else if (verdict === "any") Object.assign(payload, { verdict, exclude_ids: named });
  else if (verdict) payload.verdict = verdict;
  if (rating) payload.rating = rating;
  if (reasoning) payload.reasoning = reasoning;
  return payload;
}
