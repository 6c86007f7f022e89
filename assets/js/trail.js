// The way that a person took through the tasks in this tab: what "back" and "take back" go to. Survives a reload.
const KEPT = "ranking-studio.trail";
const MAX = 100;

/** Entries are {author, dataset, task_id, ids?, content?, start?, isSkipped?}, oldest first; each task stands in it once. */
export function makeTrail() {
  let entries = [];
  try {
    entries = JSON.parse(sessionStorage.getItem(KEPT)) ?? [];
  } catch {
    // it begins anew
  }
  const isSame = (left, right) => left.dataset === right.dataset && left.task_id === right.task_id && left.author === right.author;
  function keep() {
    entries = entries.slice(-MAX);
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(entries));
    } catch {
      // it lasts as long as the page
    }
  }
  function put(about, more) {
    const at = entries.findIndex((entry) => isSame(entry, about));
    if (at >= 0) entries[at] = { ...entries[at], ...more };
    else entries.push({ ...about, ...more });
    keep();
  }
  let acts = entries.filter((entry) => entry.ids || entry.isSkipped);
  function act(about, more) {
    put(about, more);
    const entry = entries.find((one) => isSame(one, about));
    acts = [...acts.filter((one) => !isSame(one, about)), entry];
  }
  return {
    look: (about) => put(about, {}),
    said: (about, ids, content, start) => act(about, { ids, content, start, isSkipped: false }),
    skipped: (about) => act(about, { ids: null, isSkipped: true }),
    /** The task before this one; without one, the last. */
    before(about) {
      const at = about ? entries.findIndex((entry) => isSame(entry, about)) : entries.length;
      return entries[at - 1] ?? null;
    },
    last: () => acts[acts.length - 1] ?? null,
    drop(entry) {
      acts = acts.filter((one) => !isSame(one, entry));
      put(entry, { ids: null, content: null, isSkipped: false });
    },
  };
}
