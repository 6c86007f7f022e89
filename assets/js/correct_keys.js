// The keys of the Correct page outside of its rows. Enter hands in; single letters do the rest, unless somebody types.
const TYPING = "textarea, select, input[type=text], input[type=number], [contenteditable=true]";
const PRESSES = "button:not(.rs-grip), a, summary";

/** @param {object} on what each key does; `letters` says whether single letters do something, `isHome` whether the page is there */
export function onShortcut(on) {
  const LETTERS = { s: on.skip, f: on.flag, b: on.back, u: on.undo, z: on.undoChange, c: on.line, l: on.label, r: on.why, g: on.guidelines, "]": () => on.step(1), "[": () => on.step(-1), "?": on.help };
  const WITHOUT_TASK = new Set(["b", "u", "g", "?"]);

  document.addEventListener("keydown", (event) => {
    if (!on.isHome() || event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const target = event.target;
    const isTyping = target.matches?.(TYPING);
    const withControl = event.ctrlKey || event.metaKey;
    if (event.key === "Enter") {
      if (event.shiftKey || event.altKey) return;
      if (!withControl && (isTyping || target.closest?.(PRESSES))) return;
      event.preventDefault();
      if (!event.repeat) on.submit();
    } else if (isTyping && event.key === "Escape") target.blur();
    else if (!isTyping && withControl && event.key.toLowerCase() === "z" && on.hasTask()) {
      event.preventDefault();
      on.undoChange();
    } else if (!isTyping && !withControl && !event.altKey && LETTERS[event.key] && (event.key === "?" || on.letters())) {
      if (!on.hasTask() && !WITHOUT_TASK.has(event.key)) return;
      event.preventDefault();
      LETTERS[event.key]();
    }
  });
}
