// What became of the last submission: how far it is from the model's ranking, where they part, what it cost; and, where the
// model was hidden, its ranking beside one's own.
import { h, icon, plural, seconds } from "./dom.js";
import { titleOf } from "./cards.js";
import { exclusions } from "./trace.js";

/** "Kendall tau-b to MODEL: 0.87. They part at step 3: it excluded “X”." */
export function changeInWords({ change, trace }, task) {
  if (!change) return "";
  const tau = change.tau_b === null ? "Nothing to compare with the model’s order" : `Kendall τ-b to ${trace.model}: ${change.tau_b.toFixed(2)} (1 = alike, −1 = reversed)`;
  if (change.first_divergent_step === null) return `${tau}. Every exclusion of the model fits your order.`;
  const step = trace.steps[change.first_divergent_step];
  const gone = exclusions(step).map((id) => `“${titleOf(task, id, 48)}”`).join(", ");
  return `${tau}. They part at step ${change.first_divergent_step + 1}: it excluded ${gone}.`;
}

export const costInWords = ({ gestures, clicks, keys, seconds: spent }) => [gestures && plural(gestures, "drag"), clicks && plural(clicks, "click"), keys && plural(keys, "key"), seconds(spent)].filter(Boolean).join(", ");

/**
 * One line above the next task.
 * @param {{words: string, cost: string, kind: string}} said
 * @param {{onUndo: () => void, onBack: () => void}} on
 */
export function strip(said, on) {
  const button = (words, key, onclick) => h("button.rs-more", { type: "button", onclick }, words, h("kbd", {}, key));
  return h(
    "div.rs-strip",
    { class: `rs-strip is-${said.kind}` },
    h("p", {}, said.kind === "done" && icon("check"), h("strong", {}, said.title), ` ${said.words} `, said.cost && h("span.rs-quiet.rs-num", {}, said.cost)),
    h("div.rs-actions", {}, on.onUndo && button("Take back", "u", on.onUndo), on.onBack && button("Look again", "b", on.onBack)),
  );
}

/** Blind: one's own order and the model's, side by side, once both are known. */
export function reveal(entry, outcome, onNext) {
  const { task } = entry.shown;
  const next = h("button.rs-button.is-primary", { type: "button", id: "rs-next", onclick: onNext }, "Next task", h("kbd", {}, "Enter"));
  const list = (title, tiers) => {
    let rank = 1;
    const rows = tiers.flatMap((tier) => {
      const items = tier.map((id) => h("li", {}, h("span.rs-rank", {}, `${rank}${tier.length > 1 ? "=" : ""}`), h("span", {}, titleOf(task, id, 100))));
      rank += tier.length;
      return items;
    });
    return h("section", {}, h("h3.rs-section-title", {}, title), h("ol.rs-ranking", {}, rows));
  };
  const { trace } = outcome.data;
  return h(
    "section.rs-reveal",
    { "aria-label": "What the model had said" },
    h("h2.rs-query", {}, "Handed in. This is what the model had said"),
    h("p", {}, changeInWords(outcome.data, task)),
    h("div.rs-sides", {}, list("Your order", entry.body.draft.order), list(`${trace.model}, ${trace.mode}`, (trace.ranking ?? []).map((id) => [id]))),
    next,
  );
}
