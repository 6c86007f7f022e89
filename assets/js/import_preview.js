// A file before it is imported: what the reader understood, the columns to map, the first tasks, and what stands in the way.
// What the person types and chooses lives here and goes to the server with each event.
import { h, plural } from "./dom.js";
import { findingList, tally } from "./doctor_report.js";
import { DOMAINS } from "./words.js";

export function mountImportPreview({ element, props, trigger, watch }) {
  let shown = null;
  let held = "";

  /** Busy from the click on, so that a second change cannot overtake the first. */
  function send(event, data = {}, changed = {}) {
    const state = { look: "reading", take: "importing" }[event] ?? shown.state;
    shown = { ...shown, ...changed, state, words: "" };
    props.value = shown;
    redraw();
    trigger(event, data);
  }
  function update() {
    const value = props.value;
    const typed = shown && value?.source === shown.source ? shown.name : "";
    if (value?.keep) shown = { ...shown, ...value, keep: false };
    else shown = value ? { ...value, name: typed || value.name } : null;
    if (shown) props.value = shown;
    redraw();
  }
  /** Whoever chose a column goes on from there: fields that were disabled meanwhile get the focus back. */
  function redraw() {
    if (element.contains(document.activeElement)) held = document.activeElement.id;
    const isLost = element.contains(document.activeElement) || document.activeElement === document.body;
    element.replaceChildren(...(shown ? [panel()] : []));
    if (held && isLost) element.querySelector(`#${CSS.escape(held)}`)?.focus();
  }
  function panel() {
    const busy = shown.state !== "ready";
    const source = shown.source ? `Import ${shown.source}` : "Import";
    const parts = shown.source ? [fields(busy), shown.error ? h("p.rs-error", { role: "alert" }, shown.error) : null, ...understood()] : [];
    return h("section.rs-panel.rs-import", { "aria-label": "Import", "aria-busy": String(busy) }, h("h2.rs-query", {}, source), parts, foot(busy));
  }

  function fields(busy) {
    const name = h("input.rs-input", { id: "dataset-name", type: "text", maxlength: 80, value: shown.name, disabled: busy, oninput: () => (shown = { ...shown, name: name.value }), onkeydown: (event) => event.key === "Enter" && !cannot() && send("take", { allow: false }) });
    const formats = [["", shown.reader ? "Let the studio find out" : `${shown.found ?? "Not recognised"} (found)`], ...shown.readers.map((reader) => [reader, reader])];
    const format = select("import-format", formats, shown.reader, busy, (reader) => send("look", {}, { reader, changes: {} }));
    return h("div.rs-form", {}, labelled("Name", name), labelled("Format", format, shown.summary));
  }

  function understood() {
    const mapping = shown.columns?.length > 0 && h("fieldset.rs-mapping", {}, h("legend.rs-section-title", {}, "Columns"), h("div.rs-form", {}, shown.fields.map(mapped), domain()));
    const tasks = shown.tasks?.length > 0 && h("div", {}, h("h3.rs-section-title", {}, "First tasks"), h("ul.rs-first-tasks", {}, shown.tasks.map(taskItem)));
    const files = shown.num_files > 1 && h("p.rs-quiet", {}, `${plural(shown.num_files, "file")}: ${shown.files.join(", ")}${shown.num_files > shown.files.length ? " …" : ""}`);
    return [files, mapping, tasks, doctor()];
  }
  function mapped({ field, label, hint }) {
    const options = [["", "none"], ...shown.columns.map((column) => [column, column])];
    return labelled(label, select(`import-${field}`, options, shown.mapping[field] ?? "", shown.state !== "ready", (column) => change(field, column)), hint);
  }
  function domain() {
    if (shown.mapping.domain) return null;
    const options = shown.domains.map((name) => [name, DOMAINS[name]]);
    return labelled("Domain of all tasks", select("import-default_domain", options, shown.changes.default_domain ?? "other", shown.state !== "ready", (name) => change("default_domain", name)));
  }
  function change(field, column) {
    send("look", {}, { changes: { ...shown.changes, [field]: column } });
  }
  function doctor() {
    if (!shown.findings || !shown.tasks?.length) return null;
    const looked = shown.looked && h("span.rs-quiet", {}, shown.looked);
    return h("div", {}, h("div.rs-report-head", {}, h("h3.rs-section-title", {}, "Doctor’s first look"), tally(shown.findings), looked), findingList(shown.findings));
  }

  /** A row that makes no task cannot be allowed; the doctor's errors can. */
  const cannot = () => shown.state !== "ready" || (Boolean(shown.error) && !shown.blocked);
  function foot(busy) {
    const blocked = shown.blocked || shown.findings?.some((finding) => finding.severity === "error");
    const cancel = h("button.rs-button", { type: "button", onclick: () => send("cancel") }, "Cancel");
    const said = busy && h("p.rs-quiet", { role: "status" }, h("span.rs-chip.is-accent.is-live", {}, shown.state === "reading" ? "Reading" : "Importing"), ` ${shown.words ?? ""}`);
    const words = !busy && !shown.error && blocked && h("p.rs-quiet", {}, "The doctor found errors: results on this dataset will mislead.");
    const take = h(`button.rs-button.${blocked ? "is-danger" : "is-primary"}`, { type: "button", disabled: cannot(), onclick: () => send("take", { allow: Boolean(blocked) }) }, blocked ? "Import anyway" : "Import");
    return h("div.rs-import-foot", {}, said || words, h("div.rs-actions", {}, cancel, shown.source && take));
  }
  watch("value", update);
  update();
}

function select(id, options, chosen, disabled, onchange) {
  const known = options.some(([value]) => value === chosen) ? options : [...options, [chosen, chosen]];
  const node = h("select.rs-select", { id, disabled, onchange: () => onchange(node.value) }, known.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return node;
}

function labelled(label, field, hint) {
  const help = hint && h("span.rs-sub", { id: `${field.id}-hint` }, hint);
  if (help) field.setAttribute("aria-describedby", help.id);
  return h("div.rs-field", {}, h("label.rs-label", { for: field.id }, label), field, help || null);
}

function taskItem(task) {
  const more = task.num_candidates - task.candidates.length;
  const candidates = task.candidates.map((candidate) => h("li", {}, candidate.title, candidate.relevant && h("span.rs-chip.is-good", {}, "relevant")));
  return h(
    "li",
    {},
    h("p", {}, task.query || task.history || "No query", h("span.rs-sub", {}, `${task.id}, ${DOMAINS[task.domain] ?? task.domain}, ${plural(task.num_candidates, "candidate")}`)),
    task.query && task.history && h("p.rs-quiet", {}, `History: ${task.history}`),
    h("ol.rs-first-candidates", {}, candidates, more > 0 && h("li.rs-quiet", {}, `and ${more} more`)),
  );
}
