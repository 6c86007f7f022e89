"""From what a person types into a search box to an FTS5 query that cannot be malformed."""

import re

_WORD = re.compile(r"\w+")


def match_query(typed: str) -> str:
    """All words of `typed`, each quoted; the last also as the beginning of a longer word.

    Example:
        >>> match_query('space OR "mars')
        '"space" "OR" "mars"*'
    """
    words = [f'"{word}"' for word in _WORD.findall(typed)]
    return " ".join(words) + "*" if words else '""'
