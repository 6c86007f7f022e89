"""Continuations as a tree of tokens: what they begin with in common is computed once."""

from collections.abc import Sequence

Path = tuple[int, ...]


def make_token_tree(continuations: Sequence[Sequence[int]]) -> dict[Path, tuple[int, ...]]:
    """Inner node (the ids that lead to it, the root being `()`) -> ids that follow it in some continuation, each once.

    Example:
        >>> make_token_tree([[5, 6], [5, 7], [8]])
        {(): (5, 8), (5,): (6, 7)}
    """
    tree: dict[Path, dict[int, None]] = {}
    for ids in continuations:
        for k, token in enumerate(ids):
            tree.setdefault(tuple(ids[:k]), {})[token] = None
    return {path: tuple(children) for path, children in tree.items()}
