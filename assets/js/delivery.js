// Talking to the server so that nothing is lost and nothing is doubled, whatever happens to the connection.
// Submissions wait in this browser's storage until they are answered; each word in them has an id of its own, so that sending
// twice stores once. Drafts are saved after a moment's rest, from the revision that they were made from.
const RETRY_MS = [1000, 2000, 4000, 8000];
const PATIENCE_MS = 15000;
const REST_MS = 700;
const OUTBOX = "ranking-studio.outbox.";
const DRAFT = "ranking-studio.draft.";

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** @returns {Promise<{status: number, data: any}>} status 0 = there was no answer */
export async function request(method, path, body) {
  try {
    const options = { method, signal: AbortSignal.timeout(PATIENCE_MS), headers: body === undefined ? {} : { "Content-Type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body) };
    const answer = await fetch(path, options);
    const text = await answer.text();
    return { status: answer.status, data: text ? JSON.parse(text) : null };
  } catch {
    return { status: 0, data: null };
  }
}

const isLost = ({ status }) => status === 0 || status >= 500;
export const reasonOf = ({ status, data }) => (status === 0 ? "no connection" : (data?.error ?? `the server answered ${status}`));

/** What this browser keeps; where it keeps nothing (private windows, full disks) `put` says so. */
const storage = {
  put(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
  get(key) {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  },
  drop: (key) => localStorage.removeItem(key),
  keys: (prefix) => Object.keys(localStorage).filter((key) => key.startsWith(prefix)),
};

/** Call `work`, one call at a time, and again a little later each time until it says that it is done; at once when the
 * connection returns. */
function makeRetrying(work) {
  let timer = 0;
  let tries = 0;
  let chain = Promise.resolve();
  async function attempt() {
    clearTimeout(timer);
    const done = await work();
    tries = done ? 0 : tries + 1;
    if (!done) timer = setTimeout(run, RETRY_MS[Math.min(tries, RETRY_MS.length) - 1]);
  }
  const run = () => (chain = chain.then(attempt));
  window.addEventListener("online", () => tries && run());
  return { run, stop: () => clearTimeout(timer) };
}

/**
 * Submissions on their way.
 * @param {(entry, outcome) => void} onAnswer outcome = {state: "stored" | "stale" | "refused", data, reason}
 * @param {(num: number, reason: string) => void} onWaiting how many wait for the connection
 */
export function makeOutbox(onAnswer, onWaiting) {
  const retrying = makeRetrying(deliver);
  const entries = () => storage.keys(OUTBOX).map((key) => storage.get(key)).filter(Boolean).sort((a, b) => a.made_at - b.made_at);
  const memory = new Map(); // where the browser's storage takes nothing

  async function deliver() {
    for (const entry of [...entries(), ...memory.values()]) {
      if (entry.save_id) await followOwnSave(entry);
      const answer = await request("POST", "/api/desk/submit", entry.body);
      if (isLost(answer)) {
        onWaiting(entries().length + memory.size, reasonOf(answer));
        return false;
      }
      const state = answer.status < 300 ? "stored" : answer.status === 409 ? "stale" : "refused";
      if (state === "refused") storage.put(entry.draft_key, entry.local); // it goes back to where it came from
      storage.drop(OUTBOX + entry.id);
      memory.delete(entry.id);
      onAnswer(entry, { state, data: answer.data, reason: reasonOf(answer) });
    }
    onWaiting(0, "");
    return true;
  }
  /** A save of this very page may have arrived without its answer; then its revision is the one that was submitted. */
  async function followOwnSave(entry) {
    const { author, dataset, task_id } = entry.body;
    const draft = await request("GET", `/api/drafts?${new URLSearchParams({ author, dataset, task: task_id })}`);
    if (draft.status === 200 && draft.data.payload?.save_id === entry.save_id) entry.body.draft_revision = draft.data.revision;
  }
  return {
    put(entry) {
      if (!storage.put(OUTBOX + entry.id, entry)) memory.set(entry.id, entry);
      return retrying.run();
    },
    run: retrying.run,
    num: () => entries().length + memory.size,
    has: (id) => memory.has(id) || storage.get(OUTBOX + id) !== null,
  };
}

/**
 * The draft of the task on the desk.
 * @param {(state: "clean"|"saving"|"saved"|"kept"|"failed", reason: string) => void} onState kept = in this browser only
 * @param {() => void} onStale something newer is on the server; saving stops until `open` is called again
 */
export function makeDrafts(onState, onStale) {
  const page = newId(); // two tabs keep their drafts apart
  let now = null; // {key, about, revision, content, isDirty, saveId, isUnsure}
  let timer = 0;
  let saving = Promise.resolve();
  const retrying = makeRetrying(async () => !now || now.isStopped || !now.isDirty || (await save()));

  const keyOf = ({ author, dataset, task_id }) => `${DRAFT}${JSON.stringify([author, dataset, task_id])}`;
  function keep() {
    if (!now) return true;
    return storage.put(now.key, { content: now.content, revision: now.revision, save_id: now.saveId, at: Date.now() });
  }
  function save() {
    saving = saving.then(saveNow);
    return saving;
  }
  async function saveNow() {
    const mine = now;
    if (!mine?.isDirty || mine.isStopped) return true;
    if (mine.isUnsure) {
      const there = await request("GET", `/api/drafts?${new URLSearchParams({ author: mine.about.author, dataset: mine.about.dataset, task: mine.about.task_id })}`);
      if (isLost(there)) return lost(mine, there);
      if (there.data?.payload?.save_id === mine.saveId) mine.revision = there.data.revision;
      mine.isUnsure = false;
    }
    const [content, saveId] = [mine.content, newId()];
    mine.saveId = saveId;
    if (mine === now) keep();
    onState("saving", "");
    const answer = await request("PUT", "/api/drafts", { ...mine.about, revision: mine.revision, payload: { ...content, save_id: saveId } });
    if (isLost(answer)) {
      mine.isUnsure = true;
      return lost(mine, answer);
    }
    if (answer.status === 409) {
      mine.isStopped = true;
      if (mine === now) onStale();
    } else if (answer.status >= 400) {
      mine.isStopped = true;
      onState("failed", reasonOf(answer));
    } else {
      mine.revision = answer.data.revision;
      mine.isDirty = mine.content !== content;
      if (mine === now && !mine.isDirty) storage.drop(mine.key);
      if (mine === now) onState("saved", "");
      if (mine.isDirty) return saveNow();
    }
    return true;
  }
  function lost(mine, answer) {
    if (mine === now) onState("kept", reasonOf(answer));
    return false;
  }
  return {
    /** What this browser still has of a task that the server may not have: of this page, or of one that was closed. */
    left(about) {
      const found = storage.keys(keyOf(about)).map((key) => ({ key, ...storage.get(key) })).filter((draft) => draft.content);
      return found.sort((a, b) => b.at - a.at);
    },
    forget: (keys) => keys.forEach(storage.drop),
    open(about, revision, saveId = null) {
      clearTimeout(timer);
      now = { key: `${keyOf(about)}.${page}`, about, revision, content: null, isDirty: false, isStopped: false, isUnsure: false, saveId };
      onState("clean", "");
    },
    change(content) {
      if (!now) return;
      now.content = content;
      now.isDirty = true;
      if (!keep()) onState("failed", "this browser keeps nothing: do not close the page");
      clearTimeout(timer);
      timer = setTimeout(retrying.run, REST_MS);
    },
    /** Save now what is not saved yet. */
    flush() {
      clearTimeout(timer);
      return retrying.run();
    },
    /** Save no more, wait for a save that is under way, and say what a submission has to name. The browser's copy stays. */
    async close() {
      clearTimeout(timer);
      retrying.stop();
      const mine = now;
      now = null;
      if (!mine) return null;
      mine.isStopped = true;
      await saving;
      return { revision: mine.revision, save_id: mine.isUnsure ? mine.saveId : null, key: mine.key };
    },
  };
}
