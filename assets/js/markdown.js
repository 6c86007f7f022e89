// A small part of Markdown as elements: headings, paragraphs, lists, quotes, code, **bold**, *italic*, `code`, links.
// Everything is built from text nodes; nothing else is understood, and what is not understood stays text.
import { h } from "./dom.js";

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|_[^_\s][^_]*_|\[[^\]]+\]\([^)\s]+\))/;

/** @returns {Node[]} */
export function renderMarkdown(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  const take = (fits) => {
    const taken = [];
    while (at < lines.length && fits(lines[at])) taken.push(lines[at++]);
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at];
    const heading = /^(#{1,4})\s+(.*)$/.exec(line);
    if (!line.trim()) at += 1;
    else if (heading) {
      at += 1;
      blocks.push(h(`h${Math.min(4, heading[1].length + 2)}`, {}, inline(heading[2])));
    } else if (/^```/.test(line)) {
      at += 1;
      const code = take((next) => !/^```/.test(next));
      at += 1;
      blocks.push(h("pre", {}, code.join("\n")));
    } else if (isBullet(line)) blocks.push(h("ul", {}, take(isBullet).map((item) => h("li", {}, inline(item.replace(/^\s*[-*+]\s+/, ""))))));
    else if (isNumbered(line)) blocks.push(h("ol", {}, take(isNumbered).map((item) => h("li", {}, inline(item.replace(/^\s*\d+[.)]\s+/, ""))))));
    else if (/^>/.test(line)) blocks.push(h("blockquote", {}, inline(take((next) => /^>/.test(next)).map((next) => next.replace(/^>\s?/, "")).join(" "))));
    else blocks.push(h("p", {}, inline(take((next) => next.trim() && !/^(#{1,4}\s|```|>)/.test(next) && !isBullet(next) && !isNumbered(next)).join(" "))));
  }
  return blocks;
}

const isBullet = (line) => /^\s*[-*+]\s+/.test(line);
const isNumbered = (line) => /^\s*\d+[.)]\s+/.test(line);

function inline(text) {
  return text.split(INLINE).filter(Boolean).map((part) => {
    if (/^`[^`]+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (/^\*\*[^*]+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^(\*[^*\s][^*]*\*|_[^_\s][^_]*_)$/.test(part)) return h("em", {}, part.slice(1, -1));
    const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(part);
    return link ? linkTo(link[1], link[2]) : part;
  });
}

/** Only pages of this studio are linked; another address is written out behind its words. */
function linkTo(words, address) {
  return /^\/(?![/\\])/.test(address) ? h("a", { href: address }, words) : h("span", {}, `${words} (${address})`);
}
