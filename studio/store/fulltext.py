"""From what a person types into a search box to an FTS5 query that cannot be malformed."""

import re

MIN_PREFIX_CHARS = 2
"""The index keeps beginnings of words from this length on; a single letter is looked for as a word."""

_WORD = re.compile(r"[^\W_]+")


def match_query(typed: str) -> str:
    """All words of `typed`, each quoted; the last also as the beginning of a longer word.

    Example:
        >>> match_query('space OR "mars')
        '"space" "OR" "mars"*'
    """
    words = _WORD.findall(typed)
    if not words:
        return '""'
    query = " ".join(f'"{word}"' for word in words)
    return query + "*" if len(words[-1]) >= MIN_PREFIX_CHARS else query
