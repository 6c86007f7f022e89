// The reward inspector: paste a completion or take one of a job's, and see every component and what matched.
import { ask } from "./ask.js";
import { h, setText } from "./dom.js";
import { matched, partsTable, poolList } from "./reward_parts.js";

const WAIT_MS = 250;
const SAMPLE = "The others fit better.\n</think>\n<answer>[2]</answer>";

export function mountRewardInspector({ element, props, watch }) {
  const about = h("div");
  const area = h("textarea.rs-input.rs-completion", { id: "rs-completion", rows: "6", spellcheck: "false", oninput: () => later() });
  const out = h("div", { "aria-live": "polite" });
  const problem = h("p.rs-error", { role: "alert", hidden: true });
  element.replaceChildren(
    h("section.rs-inspector", { "aria-label": "Reward inspector" }, h("h2.rs-section-title", {}, "Reward inspector"), h("p.rs-quiet", {}, "Write or paste a completion: what a model would write behind the prompt’s <think>. Every component of its reward, under three presets, and what was read out of it."), about, h("label.rs-label", { for: "rs-completion" }, "Completion"), area, problem, out),
  );
  let source = {};
  let waiting = 0;
  let asked = 0;

  async function inspect(completion) {
    const mine = ++asked;
    try {
      const found = await ask("/api/rewards/inspect", { ...source, completion });
      if (mine !== asked) return;
      problem.hidden = true;
      if (completion === null) area.value = found.completion || SAMPLE;
      if (completion === null && !found.completion) return inspect(SAMPLE);
      about.replaceChildren(h("p", {}, found.example.query || found.example.task_id), poolList(found.example));
      out.replaceChildren(matched(found), partsTable(found));
    } catch (error) {
      if (mine !== asked) return;
      problem.hidden = false;
      setText(problem, error.message);
    }
  }
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(() => inspect(area.value), WAIT_MS);
  }
  function open(request, moves) {
    source = request;
    inspect(null);
    if (moves) {
      element.scrollIntoView({ block: "start" });
      area.focus({ preventScroll: true });
    }
  }
  window.addEventListener("studio:inspect", (event) => element.isConnected && open(event.detail, true));
  const update = () => props.value && open(props.value.job ? { job: props.value.job } : {}, false);
  watch("value", update);
  update();
}
