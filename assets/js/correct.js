// The Correct page: takes the next task, lets a person say what is wrong with its ranking, hands it in, and goes on.
// What was said is in this browser until the server has answered (delivery.js), so a lost connection loses nothing.
import { h, plural } from "./dom.js";
import { conflictPanel, makeFlagDialog, makeShortcutSheet } from "./correct_dialogs.js";
import { makeDrafts, makeOutbox, newId, reasonOf, request } from "./delivery.js";
import { makeDeskView, nameForm, placard } from "./desk_view.js";
import { makeEffort } from "./effort.js";
import { makeGuidelines } from "./guidelines.js";
import { changeInWords, costInWords, reveal, strip } from "./handed_in.js";
import { onShortcut } from "./correct_keys.js";
import { makeQueuePanel } from "./queue_panel.js";
import { makeTrail } from "./trail.js";
import { freshWork, fromContent, fromSaid, toContent, wordsOf } from "./work.js";

const RENEW_MS = 5 * 60 * 1000;
const MAX_UNDO = 200;

export function mountCorrect({ element, props, watch }) {
  let desk = null;
  let turn = 0; // of what was asked for: an answer to an earlier question changes nothing
  let work = null;
  let past = []; // orders that "Undo" goes back to
  let isHandingIn = false;
  let isBegun = false;
  let goOn = null; // what Enter does where no task is on the desk
  const answers = new Map(); // submission id -> what to do with its answer
  const effort = makeEffort();
  const trail = makeTrail();
  const queue = makeQueuePanel(onQueue);
  const whose = () => ({ author: queue.choice.name, dataset: desk ? String(desk.dataset_id) : queue.choice.dataset });
  const about = () => ({ ...whose(), task_id: desk.task.task_id });
  const guidelines = makeGuidelines(whose);
  const isOpen = () => desk !== null && !view.node.hidden && !view.node.inert; // a task that takes changes
  const view = makeDeskView({ order: onOrder, label: (ids) => change({ label: ids }), reason: (reason) => change({ reason }), step: onStep, drag: effort.drag, submit: handIn, skip, flag: () => flagging.open(), back, undoChange, line: () => view.toggleLine() });
  const flagging = makeFlagDialog(flag);
  const letters = { isOn: () => queue.choice.letters !== false, turn: (on) => queue.remember({ letters: on }) };
  const sheet = makeShortcutSheet(letters);
  const drafts = makeDrafts(onDraftState, onStale);
  const outbox = makeOutbox(onAnswer, onWaiting);

  const waiting = h("p.rs-waiting", { role: "status", hidden: true });
  const told = h("div.rs-told", { "aria-live": "polite" });
  const stage = h("div.rs-stage");
  const help = h("button.rs-button.is-small", { type: "button", onclick: () => sheet.open() }, "Keyboard shortcuts", h("kbd", {}, "?"));
  element.replaceChildren(h("div.rs-desk", {}, h("aside.rs-desk-side", { "aria-label": "Queue" }, queue.node, guidelines.node, help), h("div.rs-desk-main", {}, waiting, told, stage, view.node)), sheet.node, flagging.node);
  onShortcut({ letters: letters.isOn, isHome: () => element.isConnected, submit: () => (view.node.hidden ? goOn?.() : handIn()), help: () => sheet.open(), skip, flag: () => isOpen() && flagging.open(), back, undo: takeBack, undoChange, line: () => view.toggleLine(), label: () => view.openLabel(), why: () => view.focusReason(), guidelines: guidelines.toggle, step: view.goStep, hasTask: isOpen });
  setInterval(() => desk && !document.hidden && request("POST", "/api/desk/renew", about()), RENEW_MS);

  // ------------------------------------------------------------ taking a task
  function update() {
    if (!props.value) return;
    queue.offer(props.value.datasets, props.value.max_overlap);
    if (!isBegun) begin();
  }
  async function begin() {
    isBegun = true;
    const mine = ++turn; // an answer that is still on its way was asked for with other choices
    await meet();
    if (mine !== turn) return undefined;
    if (!queue.choice.name) {
      const form = nameForm((name) => {
        queue.name(name);
        begin();
      });
      place(form.node);
      return form.focus();
    }
    outbox.run();
    const asked = new URLSearchParams(location.search);
    if (asked.get("task")) return open({ dataset: asked.get("dataset"), task_id: asked.get("task"), trace_id: asked.get("trace") || null });
    if (!queue.choice.dataset) return place(placard({ title: "No tasks yet", words: "Corrections are made on the tasks of a dataset.", actions: [{ text: "Import a dataset", href: "/data" }] }));
    return next();
  }
  /** Where the studio is open to others, one is who one has logged in as, and may do what one's role allows. */
  async function meet() {
    const me = await request("GET", "/api/me");
    if (me.status !== 200) return;
    const mayLead = me.data.may?.includes("evaluate") ?? true;
    if (me.data.name) queue.account(me.data.name);
    queue.lead(mayLead);
    guidelines.lead(mayLead);
  }
  /** Another task is asked for: until it lies on the desk, what is still shown takes no more changes, for they would be lost. */
  function ask() {
    view.node.inert = true;
    if (view.node.contains(document.activeElement)) document.activeElement.blur(); // else keys reach it until the next frame is drawn
    return ++turn;
  }
  async function next() {
    const { name, dataset, order_by, start } = queue.choice;
    const mine = ask();
    desk = null;
    address(null);
    const answer = await request("POST", "/api/desk/next", { author: name, dataset, order_by, start });
    if (mine !== turn) return undefined; // something else was asked for meanwhile
    if (answer.status !== 200) return cannot(answer, next);
    if (answer.data.desk) return lay(answer.data);
    queue.show(answer.data.standing);
    const { num_skipped, num_tasks, num_done } = answer.data.standing;
    const words = num_done + num_skipped < num_tasks ? "The rest is with other people, or enough have spoken. Raise “People a task” to let more people speak about the same task, or choose another dataset." : `You have gone through all ${plural(num_tasks, "task")} of it. Choose another dataset on the left.`;
    return place(placard({ title: "Nothing is left for you here", words, actions: [{ text: "Look at the last one again", key: "b", onclick: back }, { text: "See what was ranked", href: "/traces" }] }));
  }
  async function open(target, preset = null) {
    const { name, start } = queue.choice;
    const mine = ask();
    const answer = await request("POST", "/api/desk/open", { author: name, dataset: target.dataset || null, task_id: target.task_id, trace_id: target.trace_id ?? null, start: preset?.start ?? start });
    if (mine !== turn) return undefined;
    if (answer.status !== 200) return cannot(answer, () => open(target, preset));
    queue.follow(String(answer.data.desk.dataset_id));
    return lay(answer.data, preset);
  }
  function cannot(answer, again) {
    if (answer.status !== 0) return place(placard({ title: "This cannot be opened", words: reasonOf(answer), actions: [{ text: "Take the next task", key: "Enter", onclick: afresh }] }), afresh);
    place(placard({ title: "No connection to the studio", words: "What you have said is kept in this browser and is delivered when the connection is back. The next task comes by itself." }));
    const retry = () => {
      if (desk || goOn !== null) return undefined;
      return outbox.num() ? setTimeout(retry, 300) : again(); // what was said comes first, or its task would come again
    };
    return setTimeout(retry, 1500);
  }
  function afresh() {
    address(null);
    return next();
  }

  /** Put a task on the desk: from what this browser still has of it, from the draft, from what was said, or from the start. */
  function lay({ desk: laid, standing }, preset = null) {
    desk = laid;
    queue.show(standing);
    guidelines.show(desk.guideline);
    const here = { author: queue.choice.name, dataset: String(desk.dataset_id), task_id: desk.task.task_id };
    const { draft } = desk;
    const left = drafts.left(here);
    const own = left.find(({ revision, save_id }) => revision === draft.revision || (save_id && save_id === draft.payload?.save_id));
    drafts.open(here, draft.revision, own?.save_id ?? null);
    const content = preset?.content ?? own?.content ?? draft.payload;
    past = [];
    work = content ? fromContent(desk, content) : desk.said.length ? fromSaid(desk) : freshWork(desk);
    effort.start(content?.effort);
    trail.look(about());
    address(desk);
    goOn = null;
    const versions = versionsOf(desk, left.filter((one) => one !== own), draft);
    stage.replaceChildren();
    view.node.hidden = versions.length > 0;
    view.node.inert = false;
    if (versions.length) {
      stage.replaceChildren(conflictPanel(desk, [{ name: own ? "In this tab" : draft.payload ? "The newest draft" : "As it stands on the server", at: own ? null : draft.saved_at, work }, ...versions], (version) => settle(version, left)));
      return stage.querySelector("button").focus();
    }
    view.show(desk, work, false);
    drafts.forget(left.map(({ key }) => key));
    if (preset?.content || own) drafts.change(content_());
    if (!document.querySelector("dialog[open]")) view.focusFirst();
    if (element.getBoundingClientRect().top < -200) element.scrollIntoView({ block: "start" });
    return undefined;
  }
  /** What came too late, newest knowledge first: of a save that this browser goes on from, its own copy is the newer one. */
  function versionsOf(laid, locals, draft) {
    const here = locals.map((one) => ({ name: "In this browser", at: new Date(one.at).toISOString(), save_id: one.save_id, content: one.content }));
    const there = draft.conflicts.map((one) => ({ name: "Came too late, kept beside", at: one.saved_at, save_id: one.payload.save_id, content: one.payload }));
    const seen = new Set([draft.payload?.save_id]);
    const others = [...here, ...there].filter(({ save_id }) => !save_id || (!seen.has(save_id) && seen.add(save_id)));
    return others.map((one) => ({ ...one, work: fromContent(laid, one.content) }));
  }
  async function settle(version, left) {
    work = version.work;
    stage.replaceChildren();
    view.node.hidden = false;
    view.show(desk, work, false);
    drafts.forget(left.map(({ key }) => key));
    drafts.change(content_());
    view.focusFirst();
    const here = about();
    await drafts.flush();
    await request("POST", "/api/desk/settle", here);
  }

  // ------------------------------------------------------------ saying something
  const content_ = () => toContent(desk, work, effort.now());
  function change(more) {
    work = { ...work, ...more };
    view.fail("");
    view.show(desk, work, past.length > 0);
    drafts.change(content_());
  }
  function onOrder(order) {
    past = [...past.slice(-MAX_UNDO), { order: work.order, isChanged: work.isChanged }];
    change({ order, isChanged: true });
  }
  function onStep(index, said) {
    change({ steps: { ...work.steps, [index]: said } });
  }
  function undoChange() {
    if (past.length) change(past.pop());
  }

  // ------------------------------------------------------------ handing in
  async function handIn() {
    if (!isOpen() || isHandingIn || view.isBusy()) return;
    const { words, missing } = wordsOf(desk, work, effort.now(), newId);
    if (missing) return view.fail(missing);
    await send(words, work.reason);
  }
  async function flag(flagged, reason) {
    if (isOpen() && !isHandingIn) await send([{ correction_id: newId(), kind: "flag", payload: { flag: flagged, start: desk.start }, duration_s: effort.now().seconds }], reason);
  }
  async function send(words, reason) {
    isHandingIn = true;
    view.busy(true);
    const content = content_();
    const from = about();
    const { trace_id, task, start } = desk;
    const closed = await drafts.close();
    const body = { ...from, trace_id, reason, guideline_version: guidelines.version(), words, draft: content, draft_revision: closed.revision };
    const entry = { id: newId(), made_at: Date.now(), body, save_id: closed.save_id, draft_key: closed.key, local: { content, revision: closed.revision, at: Date.now() }, shown: { task, start, cost: content.effort } };
    trail.said(from, words.map((word) => word.correction_id), content, start);
    const answered = new Promise((resolve) => answers.set(entry.id, resolve));
    const tried = outbox.put(entry);
    drafts.forget([closed.key]);
    const outcome = await Promise.race([answered, tried.then(() => answers.has(entry.id) ? { state: "kept" } : answered)]);
    answers.delete(entry.id);
    isHandingIn = false;
    view.busy(false);
    await after(entry, outcome);
  }
  async function after(entry, outcome) {
    if (outcome.state === "stale" || outcome.state === "refused") {
      tell(entry, outcome);
      await open(entry.body);
      return outcome.state === "refused" && view.fail(`Not handed in: ${outcome.reason}`);
    }
    if (outcome.state === "kept") tellKept(entry);
    else if (entry.shown.start === "blind" && outcome.data.trace && entry.body.words.some((word) => word.kind === "ranking")) {
      queue.show(outcome.data.standing);
      told.replaceChildren();
      desk = null;
      place(reveal(entry, outcome, next), next);
      return stage.querySelector("#rs-next").focus();
    } else tell(entry, outcome);
    return next();
  }
  function onAnswer(entry, outcome) {
    const here = answers.get(entry.id);
    answers.delete(entry.id);
    if (here) return here(outcome);
    return tell(entry, outcome); // it waited for the connection, maybe since an earlier visit
  }
  function tell(entry, outcome) {
    const { task, cost } = entry.shown;
    const isFlag = entry.body.words[0].kind === "flag";
    if (outcome.state === "stored") return said({ kind: "done", title: isFlag ? "Flagged." : "Handed in.", words: changeInWords(outcome.data, task), cost: isFlag ? "" : costInWords(cost) });
    const words = outcome.state === "stale" ? "It was changed elsewhere meanwhile. Both versions are kept: choose one." : outcome.reason;
    return said({ kind: "error", title: "Not handed in.", words }, { onBack: () => open(entry.body) });
  }
  const tellKept = () => said({ kind: "kept", title: "Kept in this browser.", words: "It is handed in as soon as the connection is back." }, {});
  function said(words, on = { onUndo: takeBack, onBack: back }) {
    told.replaceChildren(strip(words, on));
  }
  function onWaiting(num, reason) {
    waiting.hidden = num === 0;
    waiting.textContent = num ? `${plural(num, "correction")} kept in this browser, not delivered yet (${reason}). Trying again; do not clear this browser’s data.` : "";
  }

  // ------------------------------------------------------------ going elsewhere
  async function skip() {
    if (!isOpen() || isHandingIn) return;
    const from = about();
    await drafts.flush();
    const answer = await request("POST", "/api/desk/skip", from);
    if (answer.status !== 204) return view.fail(`Not skipped: ${reasonOf(answer)}`);
    trail.skipped(from);
    said({ kind: "skip", title: "Skipped.", words: "You will not be given this task again." }, { onUndo: takeBack });
    return next();
  }
  async function back() {
    const before = trail.before(desk && about());
    if (!before) return said({ kind: "skip", title: "There is no task before this one.", words: "Tasks that you open in this tab can be gone back to." }, {});
    await drafts.flush();
    return open(before);
  }
  async function takeBack() {
    const last = trail.last();
    if (!last || isHandingIn) return said({ kind: "skip", title: "Nothing to take back.", words: "Only what was handed in or skipped in this tab." }, {});
    if (outbox.num()) return said({ kind: "kept", title: "Not delivered yet.", words: "It can be taken back as soon as the connection is back." }, {});
    if (desk) await drafts.flush();
    const { author, ids } = last;
    const answer = ids ? await request("POST", "/api/desk/take-back", { author, correction_ids: ids }) : await request("POST", "/api/desk/release", { author, dataset: last.dataset, task_id: last.task_id });
    if (answer.status >= 400 || answer.status === 0) return said({ kind: "error", title: "Not taken back.", words: reasonOf(answer) }, { onUndo: takeBack });
    trail.drop(last);
    said({ kind: "skip", title: "Taken back.", words: "Here it is again, as you had it." }, {});
    return open(last, last.content ? { content: last.content, start: last.start } : null);
  }
  async function onQueue(change_) {
    if (change_.overlap) {
      const answer = await request("PUT", "/api/desk/queue", { ...whose(), overlap: change_.overlap });
      if (answer.status === 200) queue.show(answer.data);
      else said({ kind: "error", title: "Not changed.", words: reasonOf(answer) }, {});
      if (!desk) return next();
      return undefined;
    }
    turn += 1; // what was asked for before the choice is not laid on the desk any more
    if (desk && change_.name === undefined && !work.isChanged && !Object.keys(work.steps).length) await request("POST", "/api/desk/release", { ...about() });
    else if (desk) await drafts.flush();
    address(null);
    return begin();
  }

  // ------------------------------------------------------------ the draft
  function onDraftState(state, reason) {
    const words = { clean: "", saved: "Draft saved", saving: "Saving …", kept: "No connection: the draft is kept in this browser", failed: `Draft not saved: ${reason}` }[state];
    view.draftState(state, words);
  }
  function onStale() {
    if (view.isBusy()) return setTimeout(onStale, 200); // not under somebody's finger
    return open({ dataset: String(desk.dataset_id), task_id: desk.task.task_id, trace_id: desk.trace_id });
  }

  function place(node, then = null) {
    view.node.hidden = true;
    stage.replaceChildren(node);
    goOn = then;
  }
  watch("value", update);
  place(placard({ title: "One moment", words: "The next task is being looked for." }));
  update();
}

/** The address bar is a permalink of the task on the desk. */
function address(desk) {
  const query = new URLSearchParams(desk ? { dataset: desk.dataset_id, task: desk.task.task_id, ...(desk.trace_id ? { trace: desk.trace_id } : {}) } : {});
  const theme = new URLSearchParams(location.search).get("__theme");
  if (theme) query.set("__theme", theme);
  history.replaceState(history.state, "", `${location.pathname}${[...query].length ? `?${query}` : ""}`);
}
