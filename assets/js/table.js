// A page of rows from the server: columns, links, chips, paging, and (where asked) choosing two rows to compare.
import { ago, count, h, icon, seconds, setAttributes, setText } from "./dom.js";
import { DOMAINS, STATES } from "./words.js";

export function mountTable({ element, props, trigger, watch }) {
  const draw = () => {
    const table = props.value;
    if (!table) return element.replaceChildren();
    if (!table.rows.length) return element.replaceChildren(emptyState(table.empty));
    const comparing = table.compare ? makeComparing(table) : null;
    const links = (table.actions ?? []).map((action) => h("a.rs-button.is-small", { href: action.href }, action.text));
    const bar = (comparing || links.length > 0) && h("div.rs-table-bar", {}, comparing?.node, h("div.rs-actions", {}, links));
    return element.replaceChildren(h("div.rs-table-box", {}, bar || null, grid(table, comparing), pager(table, (offset) => trigger("turn", { offset }))));
  };
  watch("value", draw);
  draw();
}

function grid(table, comparing) {
  const columns = table.columns.map((column) => h(`th.is-${column.kind}`, { scope: "col" }, column.label || h("span.rs-hidden", {}, "Action")));
  const head = h("tr", {}, comparing && h("th.rs-choose", { scope: "col" }, h("span.rs-hidden", {}, "Compare")), columns);
  const body = table.rows.map((row) => h("tr", {}, comparing?.chooser(row), table.columns.map((column) => cell(column, row.cells[column.key]))));
  return h("div.rs-table-scroll", {}, h("table.rs-table", { "aria-label": table.label }, h("thead", {}, head), h("tbody", {}, body)));
}

/** Choosing two rows of one group (two traces of one task); the link works when there are two. */
function makeComparing(table) {
  const chosen = new Map();
  const link = h("a.rs-button.is-small", { role: "link", "aria-disabled": "true" }, "Compare");
  const hint = h("span.rs-quiet");
  const boxes = [];

  function update() {
    const [first, second] = [...chosen.values()];
    const fits = chosen.size === 2 && first.group === second.group;
    setAttributes(link, { "aria-disabled": String(!fits), href: fits ? `${table.compare}?left=${encodeURIComponent(first.id)}&right=${encodeURIComponent(second.id)}` : null });
    setText(hint, chosen.size === 0 ? "Choose two traces of one task to compare them." : chosen.size === 1 ? "Choose another one of the same task." : fits ? "" : "These two are of different tasks.");
    for (const box of boxes) box.disabled = chosen.size >= 2 && !box.checked;
  }
  function chooser(row) {
    const box = h("input", { type: "checkbox", "aria-label": `Compare ${row.name || row.id}` });
    box.addEventListener("change", () => {
      if (box.checked) chosen.set(row.id, row);
      else chosen.delete(row.id);
      update();
    });
    boxes.push(box);
    return h("td.rs-choose", {}, box);
  }
  update();
  return { node: h("div.rs-comparing", {}, link, hint), chooser };
}

function cell(column, value) {
  const missing = value === null || value === undefined || value === "";
  const children = missing ? [h("span.rs-quiet", {}, "–")] : CELLS[column.kind](value);
  return h(`td.is-${column.kind}`, { "data-label": column.label }, children);
}

/** How each kind of cell is drawn. Values are strings, numbers or {text, href, sub}. */
const CELLS = {
  text: (value) => (typeof value === "object" ? [value.href ? h("a.rs-row-link", { href: value.href }, value.text) : h("span.rs-row-text", {}, value.text), value.sub && h("span.rs-sub", {}, value.sub)] : [value]),
  number: (value) => [typeof value === "number" ? count(value) : value],
  seconds: (value) => [seconds(value)],
  time: (value) => [h("time", { datetime: value, title: new Date(value).toLocaleString("en-GB") }, ago(value))],
  state: (value) => [h("span", { class: `rs-chip ${STATES[value]?.tone ?? ""}` }, STATES[value]?.label ?? value)],
  domain: (value) => [DOMAINS[value] ?? value],
  action: (value) => [h("a", { href: value.href }, value.text)],
};

function emptyState(empty) {
  return h("div.rs-empty", {}, h("h2", {}, empty.title), empty.text && h("p", {}, empty.text), empty.href && h("a.rs-button.is-primary", { href: empty.href }, empty.action));
}

/** "51–100 of 1,234" with Previous and Next; the buttons are left out where all rows are on the page. */
export function pager(list, onPage, small = false) {
  const last = Math.min(list.offset + list.rows.length, list.total);
  const words = h("span.rs-num", {}, list.total ? `${count(list.offset + 1)}–${count(last)} of ${count(list.total)}` : "");
  if (list.total <= list.limit) return h("div.rs-pager", {}, words);
  const button = (name, arrow, offset, disabled) =>
    h(`button.rs-button.${small ? "is-icon.is-small" : "is-small"}`, { type: "button", disabled, "aria-label": `${name} page`, onclick: () => onPage(offset) }, small ? icon(arrow) : name);
  const buttons = [button("Previous", "left", Math.max(0, list.offset - list.limit), list.offset === 0), button("Next", "right", list.offset + list.limit, last >= list.total)];
  return h("div.rs-pager", {}, words, h("div.rs-pager-buttons", {}, buttons));
}
