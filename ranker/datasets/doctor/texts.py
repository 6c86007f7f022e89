"""Checks of what is written: identical and look-alike texts, control and bidi characters, broken encodings, scripts."""

import re
from collections import Counter

from ranker.datasets.doctor.facts import text_facts
from ranker.datasets.doctor.report import Finding, Hits, Severity
from ranker.schema import RankingTask

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_BROKEN = re.compile("[\ufffd\u0080-\u009f]|[\u00c3\u00c2][\u0080-\u00bf]|\u00e2\u20ac")
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d{2,4}|#x[0-9a-fA-F]{2,4});")
_FORMULA = re.compile(r"^\s*(?:=\s*[\w(+\-@\"]|@\w+\(|[+\-]\s*\w+\()")
_SCRIPTS = (
    ("Latin", re.compile("[A-Za-z\u00c0-\u024f]")),
    ("Cyrillic", re.compile("[\u0400-\u04ff]")),
    ("Greek", re.compile("[\u0370-\u03ff]")),
    ("Arabic", re.compile("[\u0600-\u06ff]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Devanagari", re.compile("[\u0900-\u097f]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
    ("Han", re.compile("[\u4e00-\u9fff]")),
    ("Kana", re.compile("[\u3040-\u30ff]")),
    ("Hangul", re.compile("[\uac00-\ud7af]")),
)
_SCRIPT_SAMPLE_CHARS = 2000


class Texts:
    """Looks at every text of every task, once."""

    def __init__(self) -> None:
        self._same_text, self._same_title = Hits(), Hits()
        self._control, self._bidi, self._invisible = Hits(), Hits(), Hits()
        self._broken, self._entity, self._formula, self._empty = Hits(), Hits(), Hits(), Hits()
        self._scripts: Counter[str] = Counter()
        self._other_script: dict[str, str] = {}

    def add(self, task: RankingTask) -> None:
        """Check one task."""
        self._add_copies(task)
        texts = [task.query, *task.history, *(c.text for c in task.candidates)]
        everything = "\n".join(texts)
        for pattern, hits in self._patterns(everything):
            if match := pattern.search(everything):
                hits.add(f"{task.task_id}: {_around(everything, match.start())}")
        if formula := next((t for t in texts if t[:1] in "=@+- \t" and _FORMULA.match(t)), None):
            self._formula.add(f"{task.task_id}: {formula[:40]!r}")
        if not task.query.strip() and not task.history:
            self._empty.add(task.task_id)
        script = _script(everything[:_SCRIPT_SAMPLE_CHARS])
        self._scripts[script] += 1
        self._other_script.setdefault(script, f"{task.task_id}: {script}: {texts[0][:40] or texts[1][:40]!r}")

    def _patterns(self, text: str) -> list[tuple[re.Pattern[str], Hits]]:
        """The patterns that can occur in `text`."""
        patterns = [(_CONTROL, self._control)]
        if "&" in text:
            patterns.append((_ENTITY, self._entity))
        if not text.isascii():
            patterns += [(_BIDI, self._bidi), (_INVISIBLE, self._invisible), (_BROKEN, self._broken)]
        return patterns

    def _add_copies(self, task: RankingTask) -> None:
        texts: dict[str, str] = {}
        titles: dict[str, str] = {}
        same_text = same_title = None
        for candidate in task.candidates:
            text = text_facts(candidate.text).plain
            title = text if candidate.title == candidate.text else candidate.title.casefold()
            same_text = same_text or (text in texts and (texts[text], candidate.candidate_id, text)) or None
            same_title = same_title or (title in titles and (titles[title], candidate.candidate_id, title)) or None
            texts.setdefault(text, candidate.candidate_id)
            titles.setdefault(title, candidate.candidate_id)
        if same_text:
            self._same_text.add(f"{task.task_id}: {same_text[0]} and {same_text[1]}: {same_text[2][:60]!r}")
        elif same_title:
            self._same_title.add(f"{task.task_id}: {same_title[0]} and {same_title[1]}: {same_title[2][:60]!r}")

    def findings(self) -> list[Finding]:
        """What was found in all tasks."""
        warning, note = Severity.WARNING, Severity.NOTE
        return [
            *self._same_text.finding(
                "same_text",
                warning,
                "In {n} tasks two candidates have the same text.",
                "Drop one of the two: no ranker can tell them apart.",
            ),
            *self._same_title.finding(
                "same_title",
                warning,
                "In {n} tasks two candidates have the same short name.",
                "Give them different titles: an answer that repeats the name fits both.",
            ),
            *self._empty.finding(
                "empty_query",
                warning,
                "{n} tasks have neither a query nor a history.",
                "Map a column to query or history: there is nothing to rank for.",
            ),
            *self._bidi.finding(
                "bidi",
                warning,
                "{n} tasks hold characters that turn the direction of writing.",
                "Remove U+202A to U+202E and U+2066 to U+2069: text can look other than it is.",
            ),
            *self._control.finding(
                "control",
                warning,
                "{n} tasks hold control characters.",
                "Remove them: models and pages show them wrongly.",
            ),
            *self._invisible.finding(
                "invisible", note, "{n} tasks hold invisible characters.", "Remove zero-width spaces and soft hyphens."
            ),
            *self._broken.finding(
                "broken_characters",
                note,
                "{n} tasks hold characters that look like a wrong decoding.",
                "Read the source in its own encoding again; MS MARCO is like this by nature.",
            ),
            *self._entity.finding(
                "html_entities", note, "{n} tasks hold HTML entities.", "Unescape them: &amp; is read as letters."
            ),
            *self._formula.finding(
                "formula",
                note,
                "{n} tasks hold text that a spreadsheet would run as a formula.",
                "It is kept as text here; do not open an exported CSV in a spreadsheet without quoting it.",
            ),
            *self._script_finding(),
        ]

    def _script_finding(self) -> list[Finding]:
        if len(self._scripts) < 2:
            return []
        (main, _), *others = self._scripts.most_common()
        count = sum(number for _, number in others)
        return [
            Finding(
                check="scripts",
                severity=Severity.NOTE,
                message=f"Most tasks are in {main} script, {count:,} in {', '.join(name for name, _ in others)}.",
                count=count,
                examples=tuple(self._other_script[name] for name, _ in others)[:3],
                fix="Rank each language on its own, or make sure that the model knows them all.",
            )
        ]


def _script(text: str) -> str:
    """The script of most letters, or `none`."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else "none"
    counts = [(len(pattern.findall(text)), name) for name, pattern in _SCRIPTS]
    best = max(counts, key=lambda pair: pair[0])
    return best[1] if best[0] else "none"


def _around(text: str, position: int) -> str:
    """The text around a character, made visible as an escape."""
    return ascii(text[max(0, position - 15) : position + 15])
