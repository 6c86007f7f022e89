"""The parser as a table: a completion, why it is there, and the outcome that it must have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.parsing import parse_exclusion, parse_order, split_reasoning
from ranker.prompts import label_of
from ranker.schema import Candidate, Outcome

FILMS = ["Heat (1995)", "Up", "Se7en", "1984", "Passage 1", "Passage 10", "2"]
POOL = [Candidate(candidate_id=f"c{i}", text=title) for i, title in enumerate(FILMS)]
PARSED, NONE, SEVERAL, OUTSIDE = Outcome.PARSED, Outcome.NO_ANSWER, Outcome.SEVERAL_ANSWERS, Outcome.NOT_IN_POOL

EXCLUSIONS = [
    ("why</think><answer>[2]</answer>", "a label", PARSED, "c1"),
    ("why</think><answer> 3 </answer>", "a bare number is a label", PARSED, "c2"),
    ("why</think><answer>Heat (1995)</answer>", "a title", PARSED, "c0"),
    ('why</think>\n<answer>\n"heat  (1995)".\n</answer>', "case, space and quotation marks do not count", PARSED, "c0"),
    ("why</think><answer>[1] Heat (1995)</answer>", "label and title agree", PARSED, "c0"),
    ("why</think><answer>[1] because it is long</answer>", "a label, then words", PARSED, "c0"),
    ("why</think><answer>Passage 10</answer>", "not its prefix 'Passage 1'", PARSED, "c5"),
    ("why</think><answer>1984</answer>", "a title that is a number beyond the labels", PARSED, "c3"),
    ("why</think><answer>[2]</answer> and <answer>[2]</answer>", "the same twice is one answer", PARSED, "c1"),
    ("<answer>[2]</answer>", "no thought at all", PARSED, "c1"),
    ("why</think><answer>2</answer>", "a title that is also another's label", SEVERAL, None),
    ("why</think><answer>[2] Heat (1995)</answer>", "label and title contradict each other", SEVERAL, None),
    ("why</think><answer>[1], [2]</answer>", "two labels", SEVERAL, None),
    ("why</think><answer>Heat (1995)\nUp</answer>", "two titles", SEVERAL, None),
    ("why</think><answer>[1]</answer><answer>[2]</answer>", "two blocks", SEVERAL, None),
    ("why</think><answer>[1] or [99]</answer>", "one of two labels does not exist", SEVERAL, None),
    ("why</think><answer>[8]</answer>", "a label beyond the pool", OUTSIDE, None),
    ("why</think><answer>[0]</answer>", "labels begin at 1", OUTSIDE, None),
    ("why</think><answer>Heat</answer>", "part of a title", OUTSIDE, None),
    ("why</think><answer>I would drop Up</answer>", "a title inside a sentence", OUTSIDE, None),
    ("why</think><answer></answer>", "an empty block", NONE, None),
    ("why</think>Up", "no block", NONE, None),
    ("why</think><answer>[2]", "a block that is cut off", NONE, None),
    ("I say <answer>[2]</answer></think>", "a block inside the thought", NONE, None),
    ("", "nothing", NONE, None),
]


@pytest.mark.parametrize(("completion", "why", "outcome", "candidate_id"), EXCLUSIONS, ids=[e[1] for e in EXCLUSIONS])
def test_exclusion_table(completion: str, why: str, outcome: Outcome, candidate_id: str | None) -> None:
    found = parse_exclusion(completion, POOL)
    assert (found.outcome, found.candidate_id) == (outcome, candidate_id), why


THREE = POOL[:3]
ORDERS = [
    ("t</think><answer>[2] > [3] > [1]</answer>", PARSED, ("c1", "c2", "c0")),
    ("t</think><answer>Up\nSe7en\nHeat (1995)</answer>", PARSED, ("c1", "c2", "c0")),
    ("t</think><answer>[2] > [3]</answer>", NONE, ("c1", "c2")),
    ("t</think><answer>[2] > [2] > [1] > [3]</answer>", SEVERAL, ("c1", "c0", "c2")),
    ("t</think><answer>[2] > [9] > [1]</answer>", OUTSIDE, ("c1", "c0")),
    ("t</think><answer>Alien</answer>", OUTSIDE, ()),
    ("t</think>", NONE, ()),
]


@pytest.mark.parametrize(("completion", "outcome", "ids"), ORDERS)
def test_order_table(completion: str, outcome: Outcome, ids: tuple[str, ...]) -> None:
    found = parse_order(completion, THREE)
    assert (found.outcome, found.candidate_ids) == (outcome, ids)


def test_duplicate_titles_are_ambiguous_by_title_and_clear_by_label() -> None:
    twins = [Candidate(candidate_id="a", text="Hamlet"), Candidate(candidate_id="b", text="Hamlet")]
    assert parse_exclusion("t</think><answer>Hamlet</answer>", twins).outcome is SEVERAL
    assert parse_exclusion("t</think><answer>[2]</answer>", twins).candidate_id == "b"


def test_reasoning_is_what_stands_before_the_answer() -> None:
    assert split_reasoning(" It is old. </think>\n<answer>[1]</answer>") == "It is old."
    assert split_reasoning("It is old. <answer>[1]</answer>") == "It is old."
    assert split_reasoning("It is") == "It is"


texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(lambda t: t.strip())
pools = st.lists(texts, min_size=2, max_size=12).map(
    lambda ts: [Candidate(candidate_id=str(i), text=t) for i, t in enumerate(ts)]
)


@given(pools, st.data())
def test_a_rendered_label_parses_to_its_candidate(pool: list[Candidate], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(pool) - 1))
    label = label_of(position)
    is_title_elsewhere = any(c.text.strip() == label for c in pool)
    found = parse_exclusion(f"t</think><answer>{label}</answer>", pool)
    assert is_title_elsewhere or found.candidate_id == pool[position].candidate_id


@given(pools, st.text(max_size=200))
def test_any_completion_has_an_outcome(pool: list[Candidate], completion: str) -> None:
    found = parse_exclusion(completion, pool)
    assert (found.candidate_id is not None) == (found.outcome is PARSED)
    assert set(parse_order(completion, pool).candidate_ids) <= {c.candidate_id for c in pool}
