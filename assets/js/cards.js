// The pool as cards: those in play first, then the excluded ones in the order of the ranking as it grows from its end.
import { clip, h, percent, plural, setShare, setText, shareBar } from "./dom.js";
import { exclusions, frameAt } from "./trace.js";
import { decision } from "./words.js";

const LONG_TEXT = 150;
const CUT = " ...";
const MOVE = { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" };

export function makeCards() {
  const list = h("ol.rs-cards", { "aria-label": "Candidates" });
  let cards = new Map();
  let owner = "";
  let shownKey = "";

  /** Show the board after `cursor` steps. Does nothing if nothing on it has changed. */
  function show(trace, cursor) {
    const identity = `${trace.trace_id ?? ""}\u0000${trace.dataset_id}\u0000${trace.task_id}`;
    const key = `${identity}\u0000${cursor}\u0000${trace.steps.length}\u0000${trace.state}`;
    if (key === shownKey) return;
    shownKey = key;
    if (identity !== owner) {
      owner = identity;
      cards = new Map(trace.candidates.map((candidate) => [candidate.id, makeCard(candidate, trace.relevant?.includes(candidate.id))]));
      list.replaceChildren();
    }
    const frame = frameAt(trace, cursor);
    const isResult = trace.state === "finished" && cursor === trace.steps.length;
    const justOut = frame.step && !isResult ? exclusions(frame.step) : [];
    for (const [id, card] of cards) card.paint(placeOf(frame, id, justOut), frame, cursor === trace.steps.length && trace.current);
    reorder(frame.order);
  }

  function reorder(order) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches || !list.childElementCount || order.length > 60;
    const before = still ? null : new Map(order.map((id) => [id, cards.get(id).node.getBoundingClientRect()]));
    order.forEach((id, index) => {
      const node = cards.get(id).node;
      if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    });
    if (!before) return;
    for (const id of order) {
      const [was, is] = [before.get(id), cards.get(id).node.getBoundingClientRect()];
      const [dx, dy] = [was.left - is.left, was.top - is.top];
      if (dx || dy) cards.get(id).node.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], MOVE);
    }
  }
  return { node: list, show };
}

/** Rank, whether it went in this very step, and the probability of going that the step gave it. */
function placeOf(frame, id, justOut) {
  const gone = frame.out.get(id);
  return { gone, just: justOut.includes(id), probability: (gone?.step ?? frame.step)?.probabilities?.[id] };
}

function makeCard(candidate, isRelevant) {
  const rank = h("span.rs-rank");
  const title = h("h3.rs-card-title", {}, shownTitle(candidate));
  const note = h("span.rs-card-note");
  const bar = shareBar(0);
  const text = restOfText(candidate);
  const body = text ? h("p.rs-card-text", {}, text) : null;
  const more = body && text.length > LONG_TEXT ? h("button.rs-more", { type: "button", "aria-expanded": "false" }, "More") : null;
  more?.addEventListener("click", () => {
    const open = body.classList.toggle("is-open");
    more.setAttribute("aria-expanded", String(open));
    setText(more, open ? "Less" : "More");
  });
  const node = h(
    "li.rs-card",
    {},
    h("div.rs-card-head", {}, rank, title, isRelevant && h("span.rs-relevant", { title: "Known to be relevant" }, "relevant")),
    body,
    more,
    h("div.rs-card-foot", {}, bar, note),
  );

  function paint({ gone, just, probability }, frame, isLive) {
    const winner = gone && !gone.step;
    node.classList.toggle("is-out", Boolean(gone && gone.step));
    node.classList.toggle("is-just-out", just);
    node.classList.toggle("is-winner", Boolean(winner));
    node.classList.toggle("is-live", Boolean(isLive && !gone));
    setText(rank, gone ? `#${gone.rank}` : "");
    rank.hidden = !gone;
    bar.classList.toggle("is-empty", probability === undefined);
    setShare(bar, probability ?? 0);
    setText(note, noteOf(gone, probability, frame));
  }
  return { node, paint };
}

function noteOf(gone, probability, frame) {
  if (gone?.step) return `out at step ${gone.step.step_index + 1}, ${decision(gone.step).label}`;
  if (gone) return "last one left";
  if (probability === undefined) return frame.step ? "in play" : "";
  return `${percent(probability)} to go`;
}

/** The title with one sign for what is left out. */
export const shownTitle = ({ title }) => (title.endsWith(CUT) ? `${title.slice(0, -CUT.length)} …` : title);

/** What the title does not say yet: where the title is the beginning of the text, only the rest of it. */
export function restOfText({ title, text }) {
  const words = text.trim().split(/\s+/).join(" ");
  const lead = title.endsWith(CUT) ? title.slice(0, -CUT.length) : title;
  if (words === lead) return "";
  return title.endsWith(CUT) && words.startsWith(lead) ? `… ${words.slice(lead.length).trim()}` : text.trim();
}

/** The pool in a sentence, for the headline. */
export function poolInWords(frame) {
  return plural(frame.pool.length, "candidate") + " in play";
}

/** A candidate's short name, cut to `length`; a title that the server cut already gets one sign for it, not two. */
export function titleOf(trace, id, length = 80) {
  const title = trace.candidates.find((candidate) => candidate.id === id)?.title ?? id;
  return title.endsWith(CUT) ? clip(`${title.slice(0, -CUT.length).replace(/[\s.,;:]+$/, "")}…`, length) : clip(title, length);
}
