// The ranking that a person puts right: rows that are dragged, or moved by keys; ties; the line below which nothing is ranked.
// Draws an order (see order.js) and says when a person changed it; keeps no order of its own.
import { h, icon, setText } from "./dom.js";
import { restOfText, shownTitle, titleOf } from "./cards.js";
import { makeDraggable } from "./drag.js";
import { LINE, dropLine, move, parts, places, setLine, toggleTie } from "./order.js";

const LONG_TEXT = 180;
const HELP = "Space lifts and drops, arrow keys move, Escape puts back. Alt and arrow moves at once, 1 to 9 moves to that rank, = makes equal to the one above.";
const BELOW = { worse: "less good, all equal", open: "nothing said" };

/**
 * @param {(order: object, how: "drag"|"key"|"click") => void} onChange a person changed the order
 * @param {() => void} onDrag a drag has ended, wherever
 */
export function makeSortable(onChange, onDrag) {
  const help = h("p.rs-hidden", { id: "rs-sort-help" }, HELP);
  const list = h("ol.rs-sort", { "aria-label": "Ranking, best first" });
  const live = h("div.rs-hidden", { "aria-live": "assertive", role: "status" });
  const node = h("div.rs-sort-box", {}, help, list, live);
  let task = null;
  let order = null;
  let rows = new Map();
  let before = null; // the order when a row was lifted by key
  let lifted = null;
  let held = null; // the row whose grip is in the tab order

  const nameOf = (key) => (key === LINE ? "the line" : titleOf(task, key, 60));
  const say = (words) => {
    live.textContent = "";
    requestAnimationFrame(() => (live.textContent = words));
  };
  const drag = makeDraggable(list, {
    onStart: () => letGo(),
    onDrop: (key, to) => {
      onDrag();
      held = key;
      change(move(order, key, to), "drag");
      say(`${nameOf(key)}: ${placeInWords(key)}`);
    },
    onCancel: () => onDrag(),
  });

  function show(nextTask, nextOrder, modelRanks) {
    if (nextTask !== task) {
      task = nextTask;
      rows = new Map(task.candidates.map((candidate) => [candidate.id, makeRow(candidate)]));
      rows.set(LINE, makeLine());
      lifted = before = held = null;
      list.replaceChildren();
    }
    order = nextOrder;
    paint(modelRanks);
  }
  let ranksOfModel = null;
  function paint(modelRanks = ranksOfModel) {
    ranksOfModel = modelRanks;
    const at = places(order);
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    if (!order.rows.includes(held)) held = order.rows[0];
    order.rows.forEach((key, index) => {
      const row = rows.get(key);
      if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
      row.paint({ index, place: at.get(key), was: modelRanks?.get(key) ?? null });
    });
    while (list.childElementCount > order.rows.length) list.lastElementChild.remove();
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true }); // a node that is moved loses it
  }
  function change(next, how) {
    if (next === order) return;
    order = next;
    const isHere = list.contains(document.activeElement);
    paint();
    if (isHere || how === "drag") focus(held);
    onChange(order, how);
  }
  const focus = (key) => rows.get(key)?.grip.focus({ preventScroll: isInSight(key) });
  const isInSight = (key) => {
    const box = rows.get(key).node.getBoundingClientRect();
    return box.top >= 0 && box.bottom <= window.innerHeight - 90; // the foot with the main button covers the rest
  };

  function placeInWords(key) {
    if (key === LINE) return `below rank ${parts(order).above.length}`;
    const { rank, tied, zone } = places(order).get(key);
    return zone === "above" ? `rank ${rank}${tied ? ", equal with another" : ""} of ${task.candidates.length}` : `below the line, ${BELOW[zone]}`;
  }
  function letGo() {
    lifted = before = null;
    paint();
  }

  function makeGrip(key) {
    const grip = h("button.rs-grip", { type: "button", "aria-describedby": "rs-sort-help", "aria-roledescription": "sortable" }, icon("grip"));
    grip.addEventListener("keydown", (event) => onKey(event, key));
    grip.addEventListener("focus", () => {
      held = key;
      for (const [other, row] of rows) row.grip.tabIndex = other === key ? 0 : -1;
    });
    return grip;
  }
  function makeRow(candidate) {
    const grip = makeGrip(candidate.id);
    const rank = h("span.rs-rank");
    const moved = h("span.rs-moved");
    const step = (name, label, by) => h("button.rs-button.is-icon.is-small.is-quiet", { type: "button", tabindex: "-1", "aria-label": `${label}: ${candidate.title}`, onclick: () => press(candidate.id, by) }, icon(name));
    const [up, down] = [step("up", "Move up", -1), step("down", "Move down", 1)];
    const tie = h("button.rs-button.is-icon.is-small.is-quiet", { type: "button", tabindex: "-1", "aria-label": `Equal to the one above: ${candidate.title}`, onclick: () => tieWith(candidate.id) }, icon("equal"));
    const node = h("li.rs-row", { "data-id": candidate.id }, rank, grip, rowBody(candidate), moved, h("div.rs-row-buttons", {}, tie, up, down));

    function show({ index, place, was }) {
      for (const zone of ["above", "worse", "open"]) node.classList.toggle(`is-${zone}`, place.zone === zone);
      node.classList.toggle("is-tied", place.tied && place.zone === "above");
      node.classList.toggle("is-joined", order.ties.includes(candidate.id));
      node.classList.toggle("is-lifted", lifted === candidate.id);
      setText(rank, place.rank === null ? "–" : `${place.rank}${place.tied ? "=" : ""}`);
      grip.tabIndex = held === candidate.id ? 0 : -1;
      grip.setAttribute("aria-pressed", String(lifted === candidate.id));
      grip.setAttribute("aria-label", `${candidate.title}: ${placeInWords(candidate.id)}`);
      const by = was === null || place.rank === null ? 0 : was - place.rank;
      setText(moved, by > 0 ? `▲${by}` : by < 0 ? `▼${-by}` : "");
      moved.title = by ? `The model had it at ${was}` : "";
      up.disabled = index === 0;
      down.disabled = index === order.rows.length - 1;
      tie.disabled = place.zone !== "above" || index === 0;
      tie.setAttribute("aria-pressed", String(order.ties.includes(candidate.id)));
    }
    return { node, grip, paint: show };
  }
  function makeLine() {
    const grip = makeGrip(LINE);
    const words = h("span.rs-line-words");
    const below = h("select.rs-select", { "aria-label": "What holds below the line", tabindex: "-1", onchange: () => change({ ...order, below: below.value }, "click") }, Object.entries(BELOW).map(([value, text]) => h("option", { value }, text)));
    const remove = h("button.rs-more", { type: "button", tabindex: "-1", onclick: () => change(dropLine(order), "click") }, "Rank all");
    const node = h("li.rs-line", { "data-id": LINE }, grip, words, below, remove);

    function show() {
      const { above, rest } = parts(order);
      node.classList.toggle("is-lifted", lifted === LINE);
      setText(words, above.length ? `Only the top ${above.length} ${above.length === 1 ? "matters" : "matter"}. Below:` : rest.length ? "Drag the best one above this line. Below:" : "Below:");
      below.value = order.below ?? "worse";
      grip.tabIndex = held === LINE ? 0 : -1;
      grip.setAttribute("aria-pressed", String(lifted === LINE));
      grip.setAttribute("aria-label", `The line, ${placeInWords(LINE)}`);
    }
    return { node, grip, paint: show };
  }

  function press(key, by) {
    held = key;
    change(move(order, key, order.rows.indexOf(key) + by), "click");
    say(`${nameOf(key)}: ${placeInWords(key)}`);
  }
  function tieWith(key) {
    held = key;
    change(toggleTie(order, key), "click");
    say(`${nameOf(key)}: ${placeInWords(key)}`);
  }
  function lift(key) {
    [lifted, before] = [key, order];
    paint();
    say(`${nameOf(key)} lifted, ${placeInWords(key)}. Arrow keys move it.`);
  }
  function dropHere(key) {
    const moved = order !== before;
    letGo();
    say(`${nameOf(key)} dropped, ${placeInWords(key)}`);
    if (moved) onChange(order, "key");
  }
  /** While a row is lifted its moves are only shown; the drop says them. */
  function shift(key, to) {
    const next = move(order, key, to);
    if (lifted !== key) change(next, "key");
    else if (next !== order) {
      order = next;
      paint();
      focus(key);
    }
    say(`${nameOf(key)}: ${placeInWords(key)}`);
  }
  function onKey(event, key) {
    if (event.ctrlKey || event.metaKey) return;
    const at = order.rows.indexOf(key);
    const target = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: order.rows.length - 1 }[event.key];
    if (event.key === " ") lifted === key ? dropHere(key) : lift(key);
    else if (event.key === "Enter" && lifted === key) dropHere(key);
    else if (event.key === "Escape" && lifted === key) {
      order = before;
      letGo();
      focus(key);
      say("Put back");
    } else if (target !== undefined && (lifted === key || event.altKey)) shift(key, target);
    else if (target !== undefined) focus(order.rows[Math.max(0, Math.min(order.rows.length - 1, target))]);
    else if (/^[1-9]$/.test(event.key) && !event.altKey) toRank(key, Number(event.key));
    else if (event.key === "=" && key !== LINE) tieWith(key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  /** To rank n; where there is a line, to the end of what stands above it at most. The line goes below rank n. */
  function toRank(key, rank) {
    const others = order.rows.filter((row) => row !== key);
    const line = others.indexOf(LINE);
    shift(key, key === LINE ? rank : Math.min(rank - 1, line < 0 ? others.length : line));
  }

  /** Draw the line below the row that has the focus, or below the third; take it away if it is there. */
  function toggleLine() {
    const { above } = parts(order);
    const place = above.indexOf(held);
    if (order.below !== null && order.rows.indexOf(LINE) === place + 1 && place >= 0) change(dropLine(order), "key");
    else change(setLine(order, place >= 0 && list.contains(document.activeElement) ? place + 1 : Math.min(3, task.candidates.length - 1)), "key");
    say(order.below === null ? "The line is gone: all are ranked" : `Only the top ${parts(order).above.length} matter`);
  }
  const focusFirst = () => {
    held = order.rows[0] === LINE ? order.rows[1] : order.rows[0];
    paint();
    rows.get(held)?.grip.focus({ preventScroll: true });
  };
  return { node, show, toggleLine, focusFirst, isBusy: () => lifted !== null || drag.isDragging() };
}

function rowBody(candidate) {
  const words = restOfText(candidate);
  const text = words ? h("p.rs-card-text", {}, words) : null;
  const more = words.length > LONG_TEXT ? h("button.rs-more", { type: "button", tabindex: "-1", "aria-expanded": "false" }, "More") : null;
  more?.addEventListener("click", () => {
    const open = text.classList.toggle("is-open");
    more.setAttribute("aria-expanded", String(open));
    setText(more, open ? "Less" : "More");
  });
  return h("div.rs-row-body", {}, h("p.rs-row-title", {}, shownTitle(candidate)), text, more);
}
