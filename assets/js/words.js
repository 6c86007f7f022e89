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
    why: "Each title left in the pool is scored as the answer, by its length-normalised log-probability; where the mode or the server scores labels, by its label’s; where the model decides by likelihood, by how little it follows from what is asked. The highest score goes.",
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
  if (isTail(step)) return TAIL;
  const { label, tone, why } = OUTCOMES[step.outcome] ?? { label: step.outcome, tone: "", why: "" };
  if (step.outcome === "parsed") return { label, tone, why };
  const how = DECIDERS[step.decided_by] ?? DECIDERS.score;
  return { label: `${label}decided by ${how.short}`, tone: step.decided_by === "chance" ? "is-bad" : tone, why: `${why} ${how.why}`.trim() };
}

/** Several went at once and several stayed: only `adaptive` does so. */
const isTail = (step) => step.excluded_ids && step.excluded_ids.length < step.pool.length - 1;

const TAIL = {
  label: "clear tail, without a thought",
  tone: "",
  why: "The model was asked for the best candidate and did not think. Every title was scored as the answer, in two orders of presentation where that is on; whoever was out of the question went at once. The last few are thought about one by one.",
};

export const noThought = (step) => {
  if (step.decided_by === "person") return "The model was not asked.";
  return isTail(step) ? "The model did not think in this step." : "No reasoning was written.";
};

/** What a step says of candidates that another order of presentation would have treated otherwise; null where it says nothing. */
export function dispute(step) {
  const count = step.disputed_ids?.length ?? 0;
  if (!count) return null;
  return count === 1 ? "One candidate goes in one order of presentation and stays in the other" : `${count} candidates go in one order of presentation and stay in the other`;
}

const OUTCOMES = {
  parsed: { label: "model’s answer", tone: "is-good", why: "The model wrote an answer that names exactly one candidate of the pool." },
  forced: { label: "", tone: "is-warn", why: "This model was not asked to write an answer. If it thinks, it does so within the budget; then the studio decides." },
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
