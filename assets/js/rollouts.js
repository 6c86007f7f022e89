// What a job drew, to page through, newest first: completions (prompt, reasoning, answer, parts of the reward, advantage), or
// eliminations (who was excluded, how probable that was, what it earned).
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
  const words = wordsOf(kind);
  const open = !eliminates(kind) && h("button.rs-button.is-small", { type: "button", onclick: () => onInspect({ job: jobId, rollout: number }) }, "Open in the inspector");
  const bar = h("div.rs-pager", {}, place, h("div.rs-pager-buttons", {}, previous, next, open || null));
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
      const read = eliminates(kind) ? null : ask("/api/rewards/inspect", { job: jobId, rollout: wanted });
      const [kept, found] = await Promise.all([ask(`/api/jobs/${jobId}/rollouts/${wanted}`), read]);
      if (number === wanted) card.replaceChildren(...(found ? body(kept, found) : elimination(kept)));
    } catch (error) {
      if (number === wanted) card.replaceChildren(h("p.rs-error", { role: "alert" }, error.message));
    }
  }
  function label() {
    setText(place, `${words.one} ${count(number + 1)} of ${count(total)}`);
    previous.disabled = number <= 0;
    next.disabled = number >= total - 1;
  }
  function update(numRollouts) {
    const isNew = numRollouts !== total;
    total = numRollouts;
    bar.hidden = total === 0;
    if (total === 0) return card.replaceChildren(h("p.rs-empty-line", {}, words.none));
    if (number < 0 || number >= total || (isNew && follows)) return go(total - 1);
    return label();
  }
  return { node, update };
}

const eliminates = (kind) => kind === "ppo-exclusions";

/** What a job of a kind draws, in words: the section, one of them, and none yet. */
export function wordsOf(kind) {
  if (eliminates(kind)) return { many: "Eliminations", one: "Elimination", none: "The first eliminations appear here as soon as they are drawn." };
  if (kind === "ppo" || kind === "grpo") return { many: "Completions", one: "Completion", none: "The first completions appear here as soon as they are scored." };
  return { many: "Completions", one: "Completion", none: "This kind of job draws nothing: it learns from given answers. The curves and the comparison show how it does." };
}

const COLUMNS = [["probability", "Probability"], ["grade", "Grade"], ["floor", "By lot"], ["reward", "Reward"], ["advantage", "Advantage"]];

function elimination(kept) {
  const rows = kept.steps.map((step, k) => h("tr", {}, h("th", { scope: "row" }, h("span.rs-num", {}, `${k + 1}. `), step.excluded), COLUMNS.map(([name, label]) => h("td.rs-num", { "data-label": label }, step[name] === null ? "open" : step[name].toFixed(2)))));
  const head = h("tr", {}, h("th", { scope: "col" }, "Excluded"), COLUMNS.map(([, label]) => h("th", { scope: "col" }, label)));
  return [
    h("p.rs-quiet", {}, `Optimizer step ${count(kept.optimizer_step)}, task ${kept.task_id}`),
    h("p", {}, kept.asked.join(" / ")),
    h("div.rs-table-scroll", {}, h("table.rs-table.rs-parts", { "aria-label": "Who was excluded, step by step" }, h("thead", {}, head), h("tbody", {}, rows))),
    h("p.rs-sub", {}, `Left at the end: ${kept.left.join(" / ")}`),
  ];
}

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
