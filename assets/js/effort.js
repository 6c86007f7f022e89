// What a correction costs: keys, clicks and drags, and the seconds in which the page was looked at. Counts; decides nothing.
const MODIFIERS = new Set(["Shift", "Control", "Alt", "Meta", "AltGraph", "CapsLock"]);
const FIELDS = "textarea, input[type=text], input[type=number]";

export function makeEffort() {
  let counts = { keys: 0, clicks: 0, gestures: 0 };
  let spent = 0;
  let since = null;
  let afterDrag = false;

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.(FIELDS) && !(event.ctrlKey || event.metaKey);
    if (!event.repeat && !isTyping && !MODIFIERS.has(event.key)) counts.keys += 1;
  }, true);
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && !afterDrag) counts.clicks += 1; // a key that presses a button has the detail 0
    afterDrag = false;
  }, true);
  document.addEventListener("pointerdown", () => (afterDrag = false), true);
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : go()));

  function pause() {
    if (since !== null) spent += (performance.now() - since) / 1000;
    since = null;
  }
  function go() {
    since ??= performance.now();
  }
  return {
    /** A new task is looked at; `before` is what an earlier look at it cost. */
    start(before = {}) {
      counts = { keys: before.keys ?? 0, clicks: before.clicks ?? 0, gestures: before.gestures ?? 0 };
      spent = before.seconds ?? 0;
      since = document.hidden ? null : performance.now();
      afterDrag = false;
    },
    drag() {
      counts.gestures += 1;
      afterDrag = true; // the click that ends a drag is none of its own
    },
    now() {
      const running = since === null ? 0 : (performance.now() - since) / 1000;
      return { ...counts, seconds: Math.round((spent + running) * 10) / 10 };
    },
  };
}
