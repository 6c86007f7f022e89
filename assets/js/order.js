// An order as a person makes it: rows from best to worst, some tied with the row above, and a line below which nothing is ranked.
// Pure functions over {rows, ties, below}; they change nothing that they are given. Knows no elements.
//   rows   candidate ids, best first, with LINE among them where there is a line
//   ties   ids that are equal to the row above them
//   below  what holds below the line: "worse" (less good than all above, equal among themselves) or "open" (nothing is said)

/** Stands for the line among the rows; a candidate id is never empty. */
export const LINE = "";

export const fromRanking = (ids) => ({ rows: [...ids], ties: [], below: null });
export const fromBlank = (ids) => ({ rows: [LINE, ...ids], ties: [], below: "open" });

/** The order that a stored one says: `tiers` best first, `top` = only so many stand above the line. */
export function fromTiers(tiers, ids, top = null) {
  const known = new Set(ids);
  const kept = tiers.map((tier) => tier.filter((id) => known.has(id))).filter((tier) => tier.length);
  const isCut = top !== null && kept.length > 1 && kept.flat().length === ids.length;
  const above = isCut ? kept.slice(0, -1) : kept;
  const rows = above.flat();
  const rest = isCut ? kept[kept.length - 1] : ids.filter((id) => !rows.includes(id));
  const ties = above.flatMap((tier) => tier.slice(1));
  if (!rest.length) return { rows, ties, below: null };
  return { rows: [...rows, LINE, ...rest], ties, below: isCut ? "worse" : "open" };
}

/** What was said so far, best first; candidates that nothing is said about are left out. */
export function tiersOf({ rows, ties, below }) {
  const { above, rest } = parts({ rows });
  const tiers = [];
  for (const id of above) {
    if (ties.includes(id) && tiers.length) tiers[tiers.length - 1].push(id);
    else tiers.push([id]);
  }
  if (below === "worse" && rest.length) tiers.push(rest);
  return tiers;
}

/** How many stand above the line, where what is below is less good; null where there is no such line. */
export function topOf(state) {
  const { above, rest } = parts(state);
  return state.below === "worse" && rest.length && above.length ? above.length : null;
}

export function parts({ rows }) {
  const at = rows.indexOf(LINE);
  return at < 0 ? { above: rows, rest: [] } : { above: rows.slice(0, at), rest: rows.slice(at + 1) };
}

/** Take a row (or the line) to another place; one that lands between equals becomes their equal. */
export function move(state, key, to) {
  const from = state.rows.indexOf(key);
  const target = Math.max(0, Math.min(state.rows.length - 1, to));
  if (from < 0 || from === target) return state;
  const ties = new Set(state.ties);
  const behind = state.rows[from + 1];
  if (behind && ties.has(behind) && !ties.has(key)) ties.delete(behind); // the next one heads what is left of the tie
  ties.delete(key);
  const rows = state.rows.filter((row) => row !== key);
  rows.splice(target, 0, key);
  const next = rows[target + 1];
  if (key !== LINE && next && ties.has(next)) ties.add(key);
  return tidy({ ...state, rows, ties: [...ties] });
}

/** Make a row equal to the one above it, or no longer so. */
export function toggleTie(state, id) {
  const ties = state.ties.includes(id) ? state.ties.filter((other) => other !== id) : [...state.ties, id];
  return tidy({ ...state, ties });
}

/** Draw the line below the first `num` candidates. */
export function setLine(state, num, below = "worse") {
  const rows = state.rows.filter((row) => row !== LINE);
  rows.splice(Math.max(0, Math.min(rows.length, num)), 0, LINE);
  return tidy({ ...state, rows, below });
}

export function dropLine(state) {
  return tidy({ ...state, rows: state.rows.filter((row) => row !== LINE), below: null });
}

/** A tie needs a candidate above it that is ranked. */
function tidy(state) {
  const { above } = parts(state);
  return { ...state, ties: above.slice(1).filter((id) => state.ties.includes(id)) };
}

/** id -> {rank: 1-based or null, tied: with somebody, zone: "above" | "worse" | "open"}. Ranks count as in sports: 1, 2, 2, 4. */
export function places(state) {
  const { above, rest } = parts(state);
  const found = new Map();
  above.forEach((id, position) => {
    const isTied = state.ties.includes(id);
    const rank = isTied ? found.get(above[position - 1]).rank : position + 1;
    found.set(id, { rank, tied: isTied || state.ties.includes(above[position + 1]), zone: "above" });
  });
  for (const id of rest) found.set(id, { rank: null, tied: state.below === "worse", zone: state.below });
  return found;
}

export const isSame = (left, right) => JSON.stringify([left.rows, [...left.ties].sort(), left.below]) === JSON.stringify([right.rows, [...right.ties].sort(), right.below]);

/** An order in a line of text, for where two are to be told apart: "1 Heat, 2= Alien, 2= Tron". */
export function inWords(tiers, titleOf) {
  let rank = 1;
  const words = [];
  for (const tier of tiers) {
    for (const id of tier) words.push(`${rank}${tier.length > 1 ? "=" : ""} ${titleOf(id)}`);
    rank += tier.length;
  }
  return words.join(", ");
}
