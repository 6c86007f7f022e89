"""Short reasons from real features, for the warm start: what a thought should say before the answer.

Of the right exclusions of a pool the one with the strongest reason is taken, and the reason says the feature that decides:
words shared with the question or the history, its time, its maker, its kind, its price against the difficulty of the
question, how well known it is. The answer follows in exactly the form that inference parses. Ours (the paper has no warm
start). A reason never uses the label: everything it says is in the task. This module does not know models.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, label_of
from ranker.schema import Candidate, Domain, Mode
from trainer.examples import TrainingExample

_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_YEAR: Final = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_NAME: Final = re.compile(r"\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")
_COMMON: Final = frozenset(
    [
        "the",
        "and",
        "for",
        "with",
        "from",
        "that",
        "this",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "how",
        "are",
        "was",
        "were",
        "does",
        "did",
        "can",
        "will",
        "would",
        "could",
        "should",
        "may",
        "might",
        "not",
        "but",
        "has",
        "have",
        "had",
        "you",
        "your",
        "they",
        "them",
        "their",
        "its",
        "his",
        "her",
        "she",
        "him",
        "our",
        "ours",
        "into",
        "about",
        "than",
        "then",
        "there",
        "here",
        "one",
        "two",
        "all",
        "any",
        "some",
        "more",
        "most",
        "other",
        "such",
        "only",
        "also",
        "very",
        "just",
        "per",
        "use",
        "used",
        "using",
        "made",
        "make",
        "film",
        "book",
        "game",
        "song",
        "album",
        "music",
        "movie",
        "million",
        "tokens",
        "context",
    ]
)
_HARD: Final = re.compile(
    r"\b(prove|proof|derive|integral|algorithm|implement|debug|refactor|contract|diagnos\w+|theorem|optimi[sz]e|steps?)\b|[=∑∫]|\d+\D+\d+\D+\d+",
    re.IGNORECASE,
)
_PRICE: Final = ("price", "cost", "usd")
_MAKERS: Final = ("director", "maker", "artist", "author", "brand", "developer", "publisher", "creator", "series")
_KINDS: Final = ("genres", "genre", "categories", "category", "style")


class Reason(NamedTuple):
    """Why this candidate rather than the others."""

    feature: str
    strength: float
    """0 = none, 1 = it alone differs from all others."""
    text: str


class Rationale(NamedTuple):
    """What the model should have written."""

    excluded_id: str | None
    """None in mode `direct`."""
    feature: str
    completion: str


def make_rationale(example: TrainingExample) -> Rationale | None:
    """The completion to imitate, or None if nothing is known to be right (or, in `direct`, not the whole order)."""
    if example.mode is Mode.DIRECT:
        return _order_rationale(example)
    found = [(i, explain_exclusion(example, i)) for i in example.right_ids]
    if not found:
        return None
    excluded_id, reason = max(found, key=lambda pair: pair[1].strength)
    name = name_in(example, example.task.candidate(excluded_id))
    return Rationale(excluded_id, reason.feature, f"{reason.text}\n{THINK_CLOSE}\n{ANSWER_OPEN}{name}{ANSWER_CLOSE}")


def name_in(example: TrainingExample, candidate: Candidate) -> str:
    """What a reason and an answer call a candidate: by its name, or, where it has none (a passage), by its number in the prompt."""
    return candidate.title if candidate.is_named else label_of(example.printed.index(candidate))


def explain_exclusion(example: TrainingExample, candidate_id: str) -> Reason:
    """The strongest reason to exclude that candidate; always one."""
    candidate = example.task.candidate(candidate_id)
    others = [c for c in example.candidates if c.candidate_id != candidate_id]
    reasons = [r for feature in _FEATURES if (r := feature(example, candidate, others)) is not None]
    return max(reasons, key=lambda r: r.strength, default=_no_reason(example, candidate))


def _no_reason(example: TrainingExample, candidate: Candidate) -> Reason:
    return Reason("none", 0.0, f"{name_in(example, candidate)} fits least of these.")


def _shared_words(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Fewer words in common with the question or the history than the others have."""
    wanted = _words(" ".join([example.task.query, *example.task.history]))
    own = _words(candidate.text) & wanted
    having = [shared for c in others if len((shared := _words(c.text) & wanted) - own) > len(own - shared)]
    if not having:
        return None
    missed = Counter(word for shared in having for word in shared - own)
    word = max(sorted(missed), key=lambda w: missed[w])
    is_question = example.task.query.strip() and example.task.domain is not Domain.RECOMMENDATION
    what = "the question" if is_question else "what came before"
    share = len(having) / len(others)
    if not own:
        text = f"{name_in(example, candidate)} has no word in common with {what}; others share '{word}'."
        return Reason("words", share, text)
    text = f"{name_in(example, candidate)} has only '{sorted(own)[0]}' in common with {what}; others share '{word}'."
    return Reason("words", 0.75 * share, text if len(own) == 1 else text.replace(" only", ""))


def _names(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Names of the question that the others mention, and this one does not."""
    first, _, rest = example.task.query.partition(" ")
    wanted = {n for n in _NAME.findall(rest) if n.casefold() not in _COMMON}
    missing = {n for n in wanted if n in " ".join(c.text for c in others) and n not in candidate.text}
    having = [c for c in others if any(n in c.text for n in missing)]
    if not first or not having:
        return None
    text = f"{name_in(example, candidate)} does not mention {max(sorted(missing), key=len)}, others do."
    return Reason("names", 1.05 * len(having) / len(others), text)


def _time(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Far from the time of what was chosen before, farther than the others are."""
    year, history = _year(candidate), [int(y) for item in example.task.history for y in _YEAR.findall(item)[-1:]]
    known = [y for c in others if (y := _year(c)) is not None]
    if year is None or not history or not known:
        return None
    usual = int(statistics.median(history))
    nearer = sum(abs(y - usual) + 5 < abs(year - usual) for y in known)
    decade = f"{usual // 10 * 10}s"
    text = f"{name_in(example, candidate)} is from {year}; the history is mostly from the {decade}."
    return Reason("time", 0.9 * nearer / len(others), text) if nearer else None


def _maker(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Not by somebody who made what was chosen before, where others are."""
    history = " ".join(example.task.history).casefold()
    having = [c for c in others if any(m.casefold() in history for m in _values(c, _MAKERS))]
    if not having or any(m.casefold() in history for m in _values(candidate, _MAKERS)):
        return None
    text = f"{name_in(example, candidate)} is not by a maker from the history, as {name_in(example, having[0])} is."
    return Reason("maker", len(having) / len(others), text)


def _kind(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """The only one of its kind."""
    own = {v.casefold() for v in _values(candidate, _KINDS)}
    theirs = [{v.casefold() for v in _values(c, _KINDS)} for c in others]
    if not own or not all(theirs) or any(own & kinds for kinds in theirs):
        return None
    usual, count = Counter(k for kinds in theirs for k in sorted(kinds)).most_common(1)[0]
    text = f"{name_in(example, candidate)} is {sorted(own)[0]}; the others are rather {usual}."
    return Reason("kind", 0.8 * count / len(others), text)


def _price_for_difficulty(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Too dear for an easy question, or the cheapest for a hard one."""
    prices = [p for c in others if (p := _price(c)) is not None]
    own = _price(candidate)
    if example.task.domain is not Domain.ROUTING or own is None or len(prices) < len(others):
        return None
    is_hard = bool(_HARD.search(example.task.query)) or len(example.task.query.split()) > 60
    if is_hard:
        text = f"The question is hard, and {name_in(example, candidate)} is a cheap model."
        return Reason("price", sum(p > own for p in prices) / len(prices), text)
    text = f"The question is easy, and {name_in(example, candidate)} costs more than it needs."
    return Reason("price", sum(p < own for p in prices) / len(prices), text)


def _popularity(example: TrainingExample, candidate: Candidate, others: Sequence[Candidate]) -> Reason | None:
    """Known to fewer people than the others."""
    counts = [c.metadata.get("popularity") for c in (candidate, *others)]
    if not all(isinstance(n, int | float) for n in counts):
        return None
    own, *theirs = [float(n) for n in counts if n is not None]
    better = sum(own * 2 < n for n in theirs)
    text = f"{name_in(example, candidate)} is less known than the others."
    return Reason("popularity", 0.7 * better / len(theirs), text) if better else None


_FEATURES: Final[tuple[Callable[[TrainingExample, Candidate, Sequence[Candidate]], Reason | None], ...]] = (
    _shared_words,
    _names,
    _time,
    _maker,
    _kind,
    _price_for_difficulty,
    _popularity,
)


def _order_rationale(example: TrainingExample) -> Rationale | None:
    """The whole order, if it is known; the reason is that of the last place."""
    ranked = [i for tier in example.tiers for i in tier]
    if set(ranked) != set(example.pool):
        return None
    reason = explain_exclusion(example, ranked[-1])
    labels = " > ".join(label_of(example.pool.index(i)) for i in ranked)
    return Rationale(None, reason.feature, f"{reason.text}\n{THINK_CLOSE}\n{ANSWER_OPEN}{labels}{ANSWER_CLOSE}")


def _words(text: str) -> frozenset[str]:
    return frozenset(w for w in map(str.casefold, _WORD.findall(text)) if w not in _COMMON)


def _year(candidate: Candidate) -> int | None:
    stated = str(candidate.metadata.get("year", ""))
    found = _YEAR.findall(candidate.text)
    return int(stated) if _YEAR.fullmatch(stated) else int(found[-1]) if found else None


def _values(candidate: Candidate, names: Sequence[str]) -> list[str]:
    """Texts of the first of these metadata fields that is there."""
    for name in names:
        value = candidate.metadata.get(name)
        if isinstance(value, str) and value.strip():
            return value.split() if name in _KINDS else [value.strip()]
        if isinstance(value, list | tuple) and value:
            return [str(v) for v in value]
    return []


def _price(candidate: Candidate) -> float | None:
    """The largest price that the metadata states."""
    found = [
        float(value)
        for name, value in candidate.metadata.items()
        if any(word in name.casefold() for word in _PRICE) and isinstance(value, int | float)
    ]
    return max(found, default=None)
