// The only way text enters the page: every string becomes a text node, never markup.
// Knows elements and formats; does not know tasks or traces.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("button.rs-btn.is-quiet", {type: "button", onclick: fn}, "Stop"). Strings become text nodes. */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  setAttributes(node, attributes);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(toNode));
  return node;
}

function toNode(child) {
  return child instanceof Node ? child : document.createTextNode(String(child));
}

export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === false || value === null || value === undefined) node.removeAttribute(name);
    else if (name === "href") node.setAttribute("href", localPath(value));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Links only ever lead to this studio: anything that is not a path of its own becomes "#". */
export function localPath(path) {
  return /^\/(?![/\\])/.test(path) || /^\?/.test(path) ? path : "#";
}

/** Write text only where it differs, so that live regions speak once. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A share of a whole as a thin bar. SVG, because its width is an attribute and not a style. */
export function shareBar(share = 0, tone = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `rs-bar ${tone}`);
  svg.setAttribute("viewBox", "0 0 100 4");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const fill = document.createElementNS(SVG, "rect");
  fill.setAttribute("height", "4");
  svg.append(fill);
  setShare(svg, share);
  return svg;
}

export function setShare(svg, share) {
  svg.firstChild.setAttribute("width", (100 * Math.max(0, Math.min(1, share || 0))).toFixed(2));
}

/** Icons are drawn here so that none is fetched: 16 x 16 strokes. */
const ICONS = {
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
  stop: "M4.5 4.5h7v7h-7z",
  play: "M5 3.5l7 4.5-7 4.5z",
  pause: "M5.5 4v8M10.5 4v8",
  left: "M10 3.5L5.5 8l4.5 4.5",
  right: "M6 3.5L10.5 8 6 12.5",
  branch: "M5 3v10M5 8c0-2.5 6-1 6-5M9.2 4.6L11 3l1.8 1.6",
  open: "M6.5 3.5h-3v9h9v-3M9 3.5h3.5V7M12.5 3.5L7.5 8.5",
  grip: "M6 4v.01M10 4v.01M6 8v.01M10 8v.01M6 12v.01M10 12v.01",
  up: "M4 9.5L8 5.5l4 4",
  down: "M4 6.5l4 4 4-4",
  equal: "M4 6.2h8M4 9.8h8",
  check: "M3.5 8.5l3 3 6-7",
  sun: "M8 5.2a2.8 2.8 0 100 5.6 2.8 2.8 0 000-5.6zM8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "rs-icon");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const COUNT = new Intl.NumberFormat("en");
export const count = (value) => COUNT.format(value ?? 0);
export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Seconds as a person says them: 0.8 s, 12 s, 3 min 20 s. */
export function seconds(value) {
  if (value < 10) return `${(value ?? 0).toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** How long ago an ISO time was; the exact time belongs into the title. */
export function ago(iso) {
  const passed = (Date.now() - Date.parse(iso)) / 1000;
  if (!Number.isFinite(passed)) return "";
  if (passed < 60) return "just now";
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  return new Date(iso).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1).replace(/[\s.,;:]+$/, "")}…` : text;
}
