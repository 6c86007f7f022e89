"""Continuations as a tree of tokens: what they begin with in common is computed once."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final, NamedTuple

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


class TreeLine(NamedTuple):
    """The same tree on a line, depth first, as it is laid behind a prompt: every inner node but the root, which is the prompt's end.

    Leaves are not on it: the probability of a last token needs what stands before it. The descendants of a node follow it directly.
    """

    ids: tuple[int, ...]
    depths: tuple[int, ...]
    """Of each node: tokens between it and the prompt."""
    ends: tuple[int, ...]
    """Of each node: where its last descendant is, and one more."""
    edges: tuple[tuple[int, int], ...]
    """Each (node, id that follows it) once, in the order of the nodes; -1 = the prompt's end."""
    paths: tuple[tuple[int, ...], ...]
    """Of each continuation: the indices of its edges."""


NO_LINE: Final = TreeLine((), (), (), (), ())


def lay_out_tree(continuations: Sequence[Sequence[int]]) -> TreeLine:
    """Put the tree of `continuations`, none of which is empty, on a line.

    Example:
        >>> lay_out_tree([[5, 6], [8], [5, 7]])
        TreeLine(ids=(5,), depths=(0,), ends=(1,), edges=((-1, 5), (-1, 8), (0, 6), (0, 7)), paths=((0, 2), (1,), (0, 3)))
    """
    ids, depths, ends = list[int](), list[int](), list[int]()
    edges, paths = list[tuple[int, int]](), [list[int]() for _ in continuations]
    nodes, path = list[int](), list[int]()
    before: Sequence[int] = ()
    alike = sorted(
        range(len(continuations)), key=lambda i: tuple(continuations[i])
    )  # what has most in common is neighbours
    for index in alike:
        own = continuations[index]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, own, strict=False)))
        for left in nodes[shared:]:
            ends[left] = len(ids)
        nodes, path, before = nodes[:shared], path[:shared], own
        for depth in range(len(nodes), len(own) - 1):
            nodes.append(len(ids))
            ids.append(own[depth])
            depths.append(depth)
            ends.append(0)
        for k in range(shared, len(own)):
            path.append(len(edges))
            edges.append((nodes[k - 1] if k else -1, own[k]))
        paths[index] = path
    for left in nodes:
        ends[left] = len(ids)
    order = sorted(range(len(edges)), key=lambda e: edges[e][0])
    place = {edge: at for at, edge in enumerate(order)}
    return TreeLine(
        tuple(ids),
        tuple(depths),
        tuple(ends),
        tuple(edges[e] for e in order),
        tuple(tuple(place[e] for e in path) for path in paths),
    )
