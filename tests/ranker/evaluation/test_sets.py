"""Sets: sampling, splits and hashes."""

import pytest

from ranker.errors import DatasetError
from ranker.evaluation import make_set, split_set
from ranker.schema import RankingTask


def test_a_smaller_sample_is_a_part_of_a_larger_one_whatever_the_order_of_the_file(make_task) -> None:  # type: ignore[no-untyped-def]
    tasks = [make_task(i) for i in range(30)]
    forward, backward = (make_set("s", t, source="test") for t in (tasks, tasks[::-1]))
    assert [t.task_id for t in forward.tasks] == [t.task_id for t in backward.tasks]
    assert forward.sha256 == backward.sha256
    assert [t.task_id for t in forward.tasks[:10]] != [f"q{i}" for i in range(10)]


def test_the_hash_sees_labels_qrels_and_split(make_task) -> None:  # type: ignore[no-untyped-def]
    tasks: list[RankingTask] = [make_task(i) for i in range(5)]
    base = make_set("s", tasks, source="test")
    changed = tasks[0].model_copy(update={"relevance": {"c1": 1}})
    others = [
        make_set("s", [changed, *tasks[1:]], source="test"),
        make_set("s", tasks, source="test", split="test"),
        base.with_qrels({"q0": {"c1": 2}}),
    ]
    assert len({base.sha256, *(o.sha256 for o in others)}) == 4


def test_unlabelled_tasks_are_counted_not_scored(make_task) -> None:  # type: ignore[no-untyped-def]
    blank = make_task(7).model_copy(update={"relevance": {}})
    dataset = make_set("s", [make_task(1), blank], source="test")
    assert (len(dataset.tasks), dataset.num_unjudged) == (1, 1)
    with pytest.raises(DatasetError, match="evaluation needs labels"):
        make_set("s", [blank], source="test")


def test_sides_of_a_split_share_no_query(make_task) -> None:  # type: ignore[no-untyped-def]
    tasks = [make_task(i) for i in range(60)]
    twins = [t.model_copy(update={"task_id": f"{t.task_id}-again"}) for t in tasks]
    dataset = split_set("s", [*tasks, *twins], source="test", split="test")
    trained = {t.query for t in dataset.training.tasks}
    assert trained
    assert not trained & {t.query for t in dataset.tasks}
    assert len(dataset.tasks) + len(dataset.training.tasks) == 120
