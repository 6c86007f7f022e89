// What every page has beside its content: the name and the light switch in the bar, and Enter for the main action.
import { h, icon } from "./dom.js";

const THEME_KEY = "ranking-studio.theme";
const TYPING = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, button, a, summary, [role=listbox], [role=option], [contenteditable=true]";

export function dressPage() {
  const chosen = localStorage.getItem(THEME_KEY);
  const forced = new URLSearchParams(location.search).has("__theme");
  if (chosen && !forced) document.body.classList.toggle("dark", chosen === "dark");
  new MutationObserver(dressBar).observe(document.body, { childList: true, subtree: true });
  dressBar();
  document.addEventListener("keydown", onKey);
}

/** Gradio draws its bar when it is ready; give it the studio's name and the switch once. */
function dressBar() {
  const bar = document.querySelector(".nav-holder nav");
  if (!bar || bar.querySelector(".rs-brand")) return;
  bar.setAttribute("aria-label", "Pages");
  bar.prepend(h("a.rs-brand", { href: "/" }, h("span.rs-mark", { "aria-hidden": "true" }, h("i"), h("i"), h("i")), "Ranking Studio"));
  const toggle = h("button.rs-button.is-icon.is-quiet.rs-theme", { type: "button", "aria-label": "Switch between light and dark" }, icon("sun"));
  toggle.addEventListener("click", () => {
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem(THEME_KEY, dark ? "dark" : "light");
  });
  bar.append(toggle);
  showPerson(bar, toggle);
  for (const link of bar.querySelectorAll("a.active")) link.setAttribute("aria-current", "page");
}

/** Where accounts are needed: who is logged in, the way out, and no links to pages that are closed to them. */
async function showPerson(bar, before) {
  const answer = await fetch("/api/me");
  if (!answer.ok) return;
  const me = await answer.json();
  for (const link of bar.querySelectorAll("a:not(.rs-brand)")) link.hidden = me.closed_pages.includes(new URL(link.href).pathname.replace(/(.)\/$/, "$1"));
  if (!me.needs_account) return;
  const out = h("form", { method: "post", action: "/logout" }, h("button.rs-button.is-small", { type: "submit" }, "Log out"));
  before.before(h("div.rs-person", {}, h("span", { title: `Role: ${me.role}` }, me.name), out));
}

/** Enter outside of a field presses the page's main button; Ctrl+Enter does so from anywhere. */
function onKey(event) {
  if (event.key !== "Enter" || event.isComposing || event.defaultPrevented) return;
  if (!(event.ctrlKey || event.metaKey) && event.target.closest?.(TYPING)) return;
  const main = document.querySelector("#rank-button");
  if (main && !main.disabled) {
    event.preventDefault();
    main.click();
  }
}
