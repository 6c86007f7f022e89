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

/** Who decided where the written answer did not: the word for the label, and the explanation. */
const DECIDERS = {
  score: {
    short: "title scores",
    why: "Each title left in the pool (or its label, where the mode or the server scores labels) is scored by its log-probability as the answer; the likeliest one is excluded.",
  },
  asked_again: {
    short: "asking again",
    why: "Its server gives no log-probabilities of the candidates, so the model was asked for its answer once more, and that answer decided.",
  },
  chance: {
    short: "chance",
    why: "Its server gives no log-probabilities and the model named no candidate when it was asked again, so the shuffled order in which the candidates were shown decided. That is no better than a draw.",
  },
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

/** outcome (and decider) of a step -> a short label, a tone and the explanation that unfolds under it. */
export function decision(step) {
  if (step.decided_by === "person") {
    return { label: "chosen by you", tone: "is-person", why: "A what-if: a person chose this exclusion and the model went on from here." };
  }
  const { label, tone, why } = OUTCOMES[step.outcome] ?? { label: step.outcome, tone: "", why: "" };
  if (step.outcome === "parsed") return { label, tone, why };
  const how = DECIDERS[step.decided_by] ?? DECIDERS.score;
  return { label: `${label}decided by ${how.short}`, tone: step.decided_by === "chance" ? "is-bad" : tone, why: `${why} ${how.why}`.trim() };
}

export const noThought = (step) => (step.decided_by === "person" ? "The model was not asked." : "No reasoning was written.");

const OUTCOMES = {
  parsed: { label: "model’s answer", tone: "is-good", why: "The model wrote an answer that names exactly one candidate of the pool." },
  forced: { label: "", tone: "is-warn", why: "This model was not asked to write an answer. It thinks within the budget, then the studio decides." },
  no_answer: { label: "no answer, ", tone: "is-bad", why: "The model wrote no answer." },
  several_answers: { label: "several answers, ", tone: "is-bad", why: "The model named more than one candidate." },
  not_in_pool: { label: "answer not in the pool, ", tone: "is-bad", why: "The model’s answer names no candidate of the pool." },
};

export const DOMAINS = { recommendation: "Recommendation", routing: "Routing", passage: "Passage", other: "Other" };

export const HISTORY_LABEL = {
  recommendation: "History, oldest first",
  routing: "Context",
  passage: "Context",
  other: "History, oldest first",
};
