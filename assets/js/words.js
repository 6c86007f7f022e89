// The studio's words for what a trace records, in one place, so that every page says the same.

export const STATES = {
  ready: { label: "Ready", tone: "" },
  queued: { label: "Queued", tone: "is-accent" },
  running: { label: "Running", tone: "is-accent is-live" },
  finished: { label: "Finished", tone: "is-good" },
  stopped: { label: "Stopped", tone: "is-warn" },
  interrupted: { label: "Interrupted", tone: "is-warn" },
  failed: { label: "Failed", tone: "is-bad" },
};

/** Of training jobs. */
export const JOB_STATES = {
  queued: { label: "Queued", tone: "is-accent" },
  starting: { label: "Starting", tone: "is-accent is-live" },
  running: { label: "Running", tone: "is-accent is-live" },
  stopping: { label: "Stopping", tone: "is-warn is-live" },
  stopped: { label: "Stopped", tone: "is-warn" },
  failed: { label: "Failed", tone: "is-bad" },
  interrupted: { label: "Interrupted", tone: "is-warn" },
  done: { label: "Done", tone: "is-good" },
};

const SCORES =
  "Each title left in the pool is scored by its length-normalised log-probability as the answer; the likeliest one is excluded.";

/** outcome (and decider) of a step -> a short label, a tone and the explanation that unfolds under it. */
export function decision(step) {
  if (step.decided_by === "person") {
    return { label: "chosen by you", tone: "is-person", why: "A what-if: a person chose this exclusion and the model went on from here." };
  }
  return OUTCOMES[step.outcome] ?? { label: step.outcome, tone: "", why: "" };
}

export const noThought = (step) => (step.decided_by === "person" ? "The model was not asked." : "No reasoning was written.");

const OUTCOMES = {
  parsed: { label: "model’s answer", tone: "is-good", why: "The model wrote an answer that names exactly one candidate of the pool." },
  forced: {
    label: "decided by title scores",
    tone: "is-warn",
    why: `This model was not asked to write an answer. It thinks within the budget, then the studio decides. ${SCORES}`,
  },
  no_answer: { label: "no answer, decided by title scores", tone: "is-bad", why: `The model wrote no answer. ${SCORES}` },
  several_answers: {
    label: "several answers, decided by title scores",
    tone: "is-bad",
    why: `The model named more than one candidate. ${SCORES}`,
  },
  not_in_pool: {
    label: "answer not in the pool, decided by title scores",
    tone: "is-bad",
    why: `The model’s answer names no candidate of the pool. ${SCORES}`,
  },
};

export const DOMAINS = { recommendation: "Recommendation", routing: "Routing", passage: "Passage", other: "Other" };

export const HISTORY_LABEL = {
  recommendation: "History, oldest first",
  routing: "Context",
  passage: "Context",
  other: "History, oldest first",
};
