// What opens over the Correct page: the shortcut sheet, why a task is flagged, and the versions of one task that came apart.
import { ago, h } from "./dom.js";
import { titleOf } from "./cards.js";
import { inWords, tiersOf } from "./order.js";
import { summary } from "./work.js";

const SHORTCUTS = [
  ["Hand in, and next", ["Enter"], "from a text field: Ctrl + Enter"],
  ["Go through the rows", ["↑", "↓", "Home", "End"], ""],
  ["Lift a row, move it, drop it", ["Space", "↑ ↓", "Space"], "Escape puts it back"],
  ["Move a row at once", ["Alt + ↑ ↓"], ""],
  ["Move a row to a rank", ["1 … 9"], ""],
  ["Equal to the one above", ["="], ""],
  ["Only the top ones matter: line below this row", ["c"], "again takes it away"],
  ["Undo the last change", ["z"], ""],
  ["Next step, step before", ["]", "["], "then arrows choose what is said of it"],
  ["The label is wrong", ["l"], ""],
  ["Say why", ["r"], ""],
  ["Skip", ["s"], ""],
  ["Flag", ["f"], ""],
  ["Back to the task before", ["b"], ""],
  ["Take back what was handed in or skipped last", ["u"], ""],
  ["Guidelines", ["g"], ""],
  ["This sheet", ["?"], ""],
];
export const FLAGS = ["The text is broken", "A candidate stands there twice", "It cannot be judged", "Offensive or private", "Something else"];

function makeDialog(title, ...children) {
  const close = h("button.rs-button.is-small", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog.rs-dialog", { "aria-label": title }, h("div.rs-dialog-head", {}, h("h2.rs-section-title", {}, title), close), children);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the page's keys do nothing below it
  return dialog;
}

/** @param {{isOn: () => boolean, turn: (on: boolean) => void}} letters whether single letters do something */
export function makeShortcutSheet(letters) {
  const row = ([words, keys, more]) => h("tr", {}, h("th", { scope: "row" }, words, more && h("span.rs-sub", {}, more)), h("td", {}, keys.map((key) => h("kbd", {}, key))));
  const box = h("input", { type: "checkbox", onchange: () => letters.turn(box.checked) });
  const dialog = makeDialog("Keyboard shortcuts", h("table.rs-keys", {}, h("tbody", {}, SHORTCUTS.map(row))), h("label.rs-check", {}, box, "Single letters do something (turn off for speech input)"));
  dialog.addEventListener("keydown", (event) => event.key === "?" && dialog.close());
  return {
    node: dialog,
    open() {
      box.checked = letters.isOn();
      dialog.showModal();
    },
  };
}

/** @param {(flag: string, reason: string) => void} onFlag */
export function makeFlagDialog(onFlag) {
  const note = h("input.rs-input", { type: "text", maxlength: "500", "aria-label": "In words (optional)", placeholder: "In words (optional)" });
  const choose = (flag) => {
    dialog.close();
    onFlag(flag, note.value.trim());
    note.value = "";
  };
  const buttons = FLAGS.map((flag, index) => h("button.rs-button", { type: "button", onclick: () => choose(flag) }, h("kbd", {}, String(index + 1)), flag));
  const dialog = makeDialog("Flag this task", h("p.rs-quiet", {}, "It is taken out of your queue, and whoever looks after the data sees why."), note, h("div.rs-flags", {}, buttons));
  dialog.addEventListener("keydown", (event) => {
    const flag = event.target !== note && FLAGS[Number(event.key) - 1];
    if (flag) choose(flag);
  });
  return {
    node: dialog,
    open() {
      dialog.showModal();
      buttons[0].focus();
    },
  };
}

/**
 * Versions of one task that came apart: every one is shown, one is gone on with.
 * @param {{name: string, at: string, work: object}[]} versions
 */
export function conflictPanel(desk, versions, onChoose) {
  const items = versions.map((version) => {
    const words = inWords(tiersOf(version.work.order), (id) => titleOf(desk.task, id, 40));
    return h(
      "li",
      {},
      h("p", {}, h("strong", {}, version.name), version.at && h("span.rs-quiet", {}, ` ${ago(version.at)}`), h("span.rs-sub", {}, `Says ${summary(version.work)}`)),
      h("p.rs-draft-version", {}, words || "Nothing is ranked."),
      version.work.reason && h("p.rs-draft-version", {}, `Why: ${version.work.reason}`),
      h("button.rs-button.is-small", { type: "button", onclick: () => onChoose(version) }, "Go on with this one"),
    );
  });
  return h("section.rs-conflict", { "aria-label": "Two versions", role: "alert" }, h("h3.rs-section-title", {}, "This task was changed in two places"), h("p", {}, "Nothing was overwritten. Look at the versions and choose the one to go on with."), h("ul.rs-draft-versions", {}, items));
}
