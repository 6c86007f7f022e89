"""What the checks need to know of one text, worked out once: catalogues repeat the same titles in thousands of tasks."""

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+")
_SHORT_CHARS = 200
_HASH_MASK = 2**63 - 1


class TextFacts(NamedTuple):
    """One text, digested."""

    plain: str
    """Without case and extra spaces: what is compared."""
    key: int
    """63 bits of `plain`."""
    words: frozenset[str]


def text_facts(text: str) -> TextFacts:
    """The facts of a text; many short texts are remembered, and of long ones those of the present task."""
    return _short_facts(text) if len(text) <= _SHORT_CHARS else _long_facts(text)


def text_hash(text: str) -> int:
    """63 bits of a text, for remembering many texts in little memory."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _HASH_MASK


def _facts(text: str) -> TextFacts:
    plain = " ".join(text.split()).casefold()
    return TextFacts(plain, text_hash(plain), frozenset(_WORD.findall(plain)))


_short_facts = lru_cache(maxsize=65_536)(_facts)
_long_facts = lru_cache(maxsize=512)(_facts)
