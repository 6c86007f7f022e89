// Completions of a job to page through, newest first: prompt, reasoning, answer, parts of the reward, advantage.
import { ask } from "./ask.js";
import { count, h, setText } from "./dom.js";
import { matched, partsTable, poolList } from "./reward_parts.js";

/**
 * @param {(request: object) => void} onInspect opens a rollout in the inspector
 */
export function makeRollouts(jobId, kind, onInspect) {
  const card = h("div.rs-rollout");
  const place = h("span.rs-num", { "aria-live": "polite" });
  const previous = h("button.rs-button.is-small", { type: "button", onclick: () => go(number - 1) }, "Older");
  const next = h("button.rs-button.is-small", { type: "button", onclick: () => go(number + 1) }, "Newer");
  const open = h("button.rs-button.is-small", { type: "button", onclick: () => onInspect({ job: jobId, rollout: number }) }, "Open in the inspector");
  const bar = h("div.rs-pager", {}, place, h("div.rs-pager-buttons", {}, previous, next, open));
  const node = h("div", {}, bar, card);
  let number = -1;
  let total = 0;
  let follows = true;

  async function go(wanted) {
    if (wanted < 0 || wanted >= total) return;
    follows = wanted === total - 1;
    number = wanted;
    label();
    try {
      const [kept, found] = await Promise.all([ask(`/api/jobs/${jobId}/rollouts/${wanted}`), ask("/api/rewards/inspect", { job: jobId, rollout: wanted })]);
      if (number === wanted) card.replaceChildren(...body(kept, found));
    } catch (error) {
      if (number === wanted) card.replaceChildren(h("p.rs-error", { role: "alert" }, error.message));
    }
  }
  function label() {
    setText(place, `Completion ${count(number + 1)} of ${count(total)}`);
    previous.disabled = number <= 0;
    next.disabled = number >= total - 1;
  }
  function update(numRollouts) {
    const isNew = numRollouts !== total;
    total = numRollouts;
    bar.hidden = total === 0;
    if (total === 0) return card.replaceChildren(h("p.rs-empty-line", {}, generates(kind) ? "The first completions appear here as soon as they are scored." : "This kind of job writes no completions. The curves and the comparison show how it does."));
    if (number < 0 || number >= total || (isNew && follows)) return go(total - 1);
    return label();
  }
  return { node, update };
}

const generates = (kind) => kind === "ppo" || kind === "grpo";

function body(kept, found) {
  const advantage = kept.advantage ?? 0;
  return [
    h("p.rs-quiet", {}, `Optimizer step ${count(kept.optimizer_step)}, task ${kept.task_id}, ${count(kept.num_tokens ?? 0)} tokens `, h("span", { class: `rs-chip ${advantage > 0 ? "is-good" : advantage < 0 ? "is-bad" : ""}` }, `advantage ${advantage.toFixed(3)}`)),
    poolList(found.example),
    h("p.rs-eyebrow", {}, "Reasoning"),
    h("pre.rs-thought", { tabindex: "0" }, found.reasoning || "–"),
    h("p.rs-eyebrow", {}, "Answer"),
    h("pre.rs-thought", { tabindex: "0" }, found.answer || "–"),
    matched(found),
    partsTable(found, kept.parts),
    h("details.rs-details", {}, h("summary", {}, "Exact prompt and completion"), h("pre.rs-prompt", { tabindex: "0" }, `${kept.prompt}${kept.completion}`)),
  ];
}
