"""A tree of continuations on a line: nothing is lost, nothing is there twice, and the mask shows each token where it comes from."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ranker.backends.kv import ALL, tree_mask
from ranker.backends.tokentree import lay_out_tree, make_token_tree

continuations = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


@given(continuations)
def test_every_path_spells_its_continuation(texts: list[list[int]]) -> None:
    line = lay_out_tree(texts)
    assert [[line.edges[edge][1] for edge in path] for path in line.paths] == texts
    for path in line.paths:
        at = -1
        for depth, (node, token_id) in enumerate(line.edges[edge] for edge in path):
            assert node == at
            assert node == -1 or line.depths[node] == depth - 1
            children = [n for n in range(len(line.ids)) if line.ids[n] == token_id and line.depths[n] == depth]
            at = next((n for n in children if n > at and (node == -1 or n < line.ends[node])), -1)


@given(continuations)
def test_what_is_common_and_what_is_last_is_not_on_the_line(texts: list[list[int]]) -> None:
    line, tree = lay_out_tree(texts), make_token_tree(texts)
    assert len(line.ids) == len(tree) - 1  # every inner node but the root
    assert len(set(line.edges)) == len(line.edges) == sum(map(len, tree.values()))
    assert [node for node, _ in line.edges] == sorted(node for node, _ in line.edges)


@given(continuations)
def test_the_mask_shows_the_prompt_and_the_way_to_a_token(texts: list[list[int]]) -> None:
    line, num_prompt = lay_out_tree(texts), 3
    size = num_prompt + len(line.ids)
    ends = [ALL] * num_prompt + [num_prompt + end for end in line.ends]
    seen = tree_mask(torch.arange(size)[None], torch.tensor([ends]), size)[0]
    ways = {tuple(text[:k]) for text in texts for k in range(1, len(text))}
    found = set()
    for node in range(len(line.ids)):
        columns = seen[num_prompt + node].nonzero()[:, 0].tolist()
        assert columns[:num_prompt] == list(range(num_prompt))
        way = tuple(line.ids[c - num_prompt] for c in columns[num_prompt:])
        assert len(way) == line.depths[node] + 1
        found.add(way)
    assert found == ways
