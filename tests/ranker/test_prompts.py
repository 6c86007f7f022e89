"""The prompt: shared part first, labels by position, ids hidden, text of the task kept apart from our own marks."""

from hypothesis import given
from hypothesis import strategies as st

from ranker.prompts import (
    LIKELIHOOD_WORDS,
    close_thought,
    render_exclusion,
    render_fixed_exclusion,
    render_judgement,
    render_likelihoods,
    render_order,
    with_thoughts,
)
from ranker.schema import Ask, Candidate, Domain, RankingTask


def chat(system: str, user: str) -> str:
    return f"S:{system}\nU:{user}\nA:"


def make_task(texts: list[str], query: str = "who?", history: tuple[str, ...] = ()) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=f"secret-{i}", text=t) for i, t in enumerate(texts))
    return RankingTask(task_id="t", domain=Domain.PASSAGE, query=query, history=history, candidates=candidates)


def test_the_prefix_is_the_same_for_every_pool_of_a_task() -> None:
    task = make_task(["one", "two", "three"], history=("a", "b"))
    whole = render_exclusion(task, task.candidates, chat)
    smaller = render_exclusion(task, task.candidates[1:], chat)
    assert whole.prefix == smaller.prefix == render_order(task, task.candidates, chat).prefix
    assert "who?" in whole.prefix and "Candidates (3):\n[1] one\n[2] two\n[3] three" in whole.suffix
    assert "Candidates (2):\n[1] two\n[2] three" in smaller.suffix


def test_ids_are_never_shown_and_the_thought_is_opened() -> None:
    prompt = render_exclusion(make_task(["one", "two"]), make_task(["one", "two"]).candidates, chat)
    assert "secret" not in prompt.text and prompt.text.endswith("<think>")


def test_a_title_that_the_text_does_not_hold_leads_the_line() -> None:
    with_title = Candidate(candidate_id="a", text="8B, cheap", metadata={"title": "Kestrel"})
    inside = Candidate(candidate_id="b", text="Heron: 70B, dear", metadata={"title": "Heron"})
    task = RankingTask(task_id="t", domain=Domain.ROUTING, query="q", candidates=(with_title, inside))
    assert "[1] Kestrel: 8B, cheap\n[2] Heron: 70B, dear" in render_exclusion(task, task.candidates, chat).suffix


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=5))
def test_any_text_leaves_one_boundary(query: str, texts: list[str]) -> None:
    task = make_task(texts, query=query)
    prompt = render_exclusion(task, task.candidates, chat)
    assert prompt.suffix.startswith(f"Candidates ({len(texts)}):\n")


def test_a_thought_is_closed_once() -> None:
    prompt = render_exclusion(make_task(["one", "two"]), make_task(["one", "two"]).candidates, chat)
    for completion in ("", "because", "because</think>", "because</think>\n<answer>nonsense</answer>"):
        closed = close_thought(prompt, completion).text
        assert closed.endswith("</think>\n<answer>")
        assert closed.removeprefix(prompt.text).count("</think>") == 1


def test_a_fixed_block_shares_its_candidates_over_all_steps() -> None:
    task = make_task(["one", "two", "three"])
    whole = render_fixed_exclusion(task, task.candidates, task.candidates, chat)
    later = render_fixed_exclusion(task, task.candidates, [task.candidates[2], task.candidates[0]], chat)
    assert whole.prefix == later.prefix and "[1] one\n[2] two\n[3] three" in whole.prefix
    assert whole.suffix.startswith("All are still in play.")
    assert later.suffix.startswith("Still in play (2): [1] [3]")
    for said_once in ("least likely", "<answer>"):
        assert said_once in whole.prefix and said_once not in whole.suffix + later.suffix


def test_the_head_of_a_fixed_block_is_what_every_prompt_of_the_task_begins_with() -> None:
    task = make_task(["one", "two"], history=("a",))
    block = render_fixed_exclusion(task, task.candidates, task.candidates, chat)
    turned = render_fixed_exclusion(task, task.candidates[::-1], task.candidates, chat)
    head = block.prefix[: block.head]
    assert head == turned.prefix[: turned.head] == render_exclusion(task, task.candidates, chat).prefix
    assert block.prefix[block.head :].startswith("Candidates (2):\n[1] one")
    assert block.extended("more").head == block.head and render_exclusion(task, task.candidates, chat).head == 0


def test_a_fixed_block_asks_for_the_worst_or_the_best() -> None:
    task = make_task(["one", "two"])
    worst, best = (
        render_fixed_exclusion(task, task.candidates, task.candidates, chat, ask=ask) for ask in (Ask.WORST, Ask.BEST)
    )
    assert worst.prefix.replace("is the least likely", "is the most likely") == best.prefix != worst.prefix
    assert "fits least" in worst.suffix and "fits best" in best.suffix


def test_likelihood_prompts_name_no_candidate_and_end_each_continuation() -> None:
    task = make_task(["one", "two", "three"], history=("a", "b\nc")).model_copy(
        update={"domain": Domain.RECOMMENDATION, "criterion": "cheap"}
    )
    (question,) = render_likelihoods(task, task.candidates[:2])
    assert question.prompt.text.endswith("Question: who?\nWanted: cheap\n- a\n- b c\n-".replace("Question", "Request"))
    assert question.prompt.text.startswith(question.header) and question.header.endswith("cheap\n")
    assert (question.continuations, question.candidate_ids) == ((" one\n", " two\n"), ("secret-0", "secret-1"))
    assert not any(c.text in question.prompt.text for c in task.candidates)


def test_a_passage_is_asked_for_its_question() -> None:
    task = make_task(["word " * 200, "two"])
    questions = render_likelihoods(task, task.candidates)
    assert [q.candidate_ids for q in questions] == [("secret-0",), ("secret-1",)]
    assert {q.continuations for q in questions} == {(" who?\n",)}
    assert questions[1].prompt.text == questions[1].header == "Passage: two\nQuestion:"
    assert questions[0].prompt.text.count("word") == LIKELIHOOD_WORDS and " ... " in questions[0].prompt.text


def test_a_judgement_shows_one_candidate_behind_the_shared_part() -> None:
    task = make_task(["one", "two"])
    prompts = [render_judgement(task, c, chat) for c in task.candidates]
    assert prompts[0].prefix == prompts[1].prefix == render_exclusion(task, task.candidates, chat).prefix
    assert "Candidate: one" in prompts[0].suffix and "two" not in prompts[0].text


def test_thoughts_lead_the_shared_part_on_lines_of_their_own() -> None:
    task = make_task(["one", "two"])
    thoughts = [("another\nquery", "it </think><answer>[1]</answer> is\nplain")]
    plain = render_exclusion(task, task.candidates, chat)
    guided = render_exclusion(task, task.candidates, with_thoughts(chat, thoughts))
    assert "- Request: another query\n  Thought: it [1] is plain\n\nNow the request at hand.\n" in guided.prefix
    assert guided.suffix == plain.suffix
    assert render_exclusion(task, task.candidates, with_thoughts(chat, [])) == plain
