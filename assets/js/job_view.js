// A job as it runs: state and progress, curves, completions, log, what came out; and what can be done with it.
// Its own routes are asked once a second while it runs; Gradio only hears of buttons.
import { ask, askText } from "./ask.js";
import { makeCurves } from "./job_curves.js";
import { provenance, results, sideBySide } from "./job_results.js";
import { makeRollouts, wordsOf } from "./rollouts.js";
import { ago, count, h, setAttributes, setShare, setText, shareBar } from "./dom.js";
import { JOB_STATES } from "./words.js";

const RUNNING_MS = 1000;
const RESTING_MS = 5000;

export function mountJobView({ element, props, trigger, watch }) {
  let shown = null;
  function update() {
    const id = props.value?.job ?? null;
    if (!id) {
      shown?.end();
      shown = null;
      return element.replaceChildren();
    }
    if (shown?.id === id) return shown.refresh();
    shown?.end();
    shown = show(element, id, trigger);
    return undefined;
  }
  watch("value", update);
  update();
}

function show(element, id, trigger) {
  const state = { rows: [], after: -1, generation: 0, last: "", over: false, timer: 0, other: null, view: null };
  const curves = makeCurves();
  const parts = layout(id, curves, trigger);
  let rollouts = null;
  element.replaceChildren(parts.node);
  remember(id);

  async function refresh() {
    try {
      state.view = await ask(`/api/jobs/${id}`);
      rollouts ??= makeRollouts(id, state.view.config.kind, (request) => window.dispatchEvent(new CustomEvent("studio:inspect", { detail: request })));
      parts.rollouts.replaceChildren(rollouts.node);
      parts.fill(state.view);
      await fillOthers(parts.others, id, compare);
    } catch (error) {
      parts.fail(error.message);
    }
    clearTimeout(state.timer);
    await follow();
  }
  async function follow() {
    if (state.over || !element.isConnected) return;
    let wait = RESTING_MS;
    if (!document.hidden) {
      try {
        const live = await ask(`/api/jobs/${id}/live?after=${state.after}&generation=${state.generation}`);
        take(live);
        wait = live.is_active ? RUNNING_MS : RESTING_MS;
      } catch (error) {
        parts.fail(error.message);
      }
    }
    clearTimeout(state.timer);
    if (!state.over) state.timer = setTimeout(follow, wait);
  }
  function take(live) {
    if (live.generation !== state.generation) state.rows = [];
    const isNew = live.metrics.length > 0 || live.generation !== state.generation;
    state.generation = live.generation;
    state.rows.push(...live.metrics);
    state.after = state.rows.at(-1)?.optimizer_step ?? -1;
    parts.progress(live.status);
    rollouts?.update(live.num_rollouts);
    if (isNew) curves.update(state.rows, state.other);
    parts.waiting.hidden = state.rows.length > 0;
    const now = `${live.status.state} ${live.status.num_starts}`;
    if (state.last && state.last !== now) {
      trigger("changed", { id });
      setTimeout(refresh, 0);
    }
    state.last = now;
    if (parts.log.open) fillLog();
  }
  async function fillLog() {
    setText(parts.logText, (await askText(`/api/jobs/${id}/log`)) || "Nothing was logged yet.");
  }
  async function compare(otherId) {
    parts.beside.replaceChildren();
    state.other = null;
    if (otherId) {
      try {
        const [found, live] = await Promise.all([ask(`/api/jobs/${id}/compare?other=${encodeURIComponent(otherId)}`), ask(`/api/jobs/${encodeURIComponent(otherId)}/live`)]);
        state.other = { rows: live.metrics, name: found.jobs[1].name };
        parts.beside.replaceChildren(sideBySide(found));
      } catch (error) {
        parts.beside.replaceChildren(h("p.rs-error", { role: "alert" }, error.message));
      }
    }
    curves.update(state.rows, state.other);
  }
  const onVisible = () => !document.hidden && follow();
  document.addEventListener("visibilitychange", onVisible);
  parts.log.addEventListener("toggle", () => parts.log.open && fillLog());
  refresh();
  return {
    id,
    refresh,
    end() {
      state.over = true;
      clearTimeout(state.timer);
      document.removeEventListener("visibilitychange", onVisible);
    },
  };
}

function layout(id, curves, trigger) {
  const chip = h("span.rs-chip");
  const title = h("h2.rs-query");
  const facts = h("p.rs-quiet");
  const message = h("p", { role: "status" });
  const bar = shareBar(0);
  const actions = h("div.rs-actions");
  const problem = h("p.rs-error", { role: "alert", hidden: true });
  const waiting = h("p.rs-empty-line", {}, "Curves appear with the first optimizer step; loading the model takes some seconds.");
  const outcome = h("div");
  const from = h("div");
  const drawn = h("h2.rs-section-title", {}, "Completions");
  const rollouts = h("div");
  const others = h("select.rs-input", { id: "rs-other-job" });
  const beside = h("div");
  const logText = h("pre.rs-prompt", { tabindex: "0", "aria-label": "Log" });
  const log = h("details.rs-details", {}, h("summary", {}, "Log"), logText);
  const settings = h("pre.rs-prompt", { tabindex: "0", "aria-label": "Settings" });
  const section = (name, ...children) => h("section.rs-panel", {}, h("h2.rs-section-title", {}, name), children);
  const head = h("section.rs-panel.rs-job-head", {}, h("div.rs-summary-head", {}, title, chip), facts, bar, message, problem, actions);
  const node = h(
    "div.rs-job",
    {},
    head,
    section("Before and after", outcome),
    waiting,
    curves.node,
    h("section.rs-panel", {}, drawn, rollouts),
    section("Beside another job", h("label.rs-label", { for: "rs-other-job" }, "Compare with"), others, beside),
    section("Where it comes from", from, h("details.rs-details", {}, h("summary", {}, "All settings"), settings), log),
  );

  function progress(status) {
    const { label, tone } = JOB_STATES[status.state] ?? { label: status.state, tone: "" };
    setText(chip, label);
    setAttributes(chip, { class: `rs-chip ${tone}` });
    setText(message, status.message);
    setShare(bar, status.max_steps ? status.optimizer_step / status.max_steps : 0);
    setText(facts, `${status.kind}, step ${count(status.optimizer_step)} of ${count(status.max_steps)}, made ${ago(status.created_at)}`);
    problem.hidden = true;
  }
  function button(name, event, tone = "", words = "") {
    return h("button.rs-button.is-small", { type: "button", class: `rs-button is-small ${tone}`, title: words || null, onclick: () => trigger(event, { id }) }, name);
  }
  function fill(view) {
    setText(drawn, wordsOf(view.config.kind).many);
    setText(title, view.status.name || `${view.status.kind} of ${view.config.model}`);
    const can = view.can;
    const placebo = ["ppo", "ppo-exclusions", "grpo"].includes(view.config.kind) ? "The same job with a reward by lot: what it reaches is what chance reaches." : "The same job with the candidates of every correction exchanged at random.";
    actions.replaceChildren(
      ...[
        can.stop && button("Stop", "stop", "is-danger", "Stops within one optimizer step and keeps a checkpoint."),
        can.resume && button("Resume", "resume", "is-primary", `Continues ${view.resumes}.`),
        can.promote && !view.promoted && button("Promote", "promote", "is-primary", "Makes the newest checkpoint the ranker."),
        view.promoted && h("span.rs-chip.is-good", {}, "This is the ranker"),
        can.undo && view.promoted && button("Undo promote", "undo", "", `Brings ${view.replaced_model} back.`),
        button("Clone", "clone", "", "Starts a new job with the same data and settings."),
        can.placebo && button("Run a placebo", "placebo", "", placebo),
      ].filter(Boolean),
    );
    outcome.replaceChildren(results(view));
    from.replaceChildren(provenance(view));
    setText(settings, JSON.stringify(view.config, null, 2));
  }
  return { node, chip, actions, waiting, rollouts, others, beside, log, logText, progress, fill, fail: (words) => ((problem.hidden = false), setText(problem, words)) };
}

async function fillOthers(select, id, compare) {
  const { jobs } = await ask("/api/jobs");
  const chosen = select.value;
  const options = jobs.filter((job) => job.job_id !== id).map((job) => h("option", { value: job.job_id, selected: job.job_id === chosen }, `${job.name || job.kind}, ${job.job_id}`));
  select.replaceChildren(h("option", { value: "" }, options.length ? "Choose a job" : "There is no other job yet"), ...options);
  select.onchange = () => compare(select.value);
}

/** The address bar is a permalink of the job that is shown. */
function remember(id) {
  history.replaceState(history.state, "", `${location.pathname}?job=${encodeURIComponent(id)}`);
}
