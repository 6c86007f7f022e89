"""Which pairs of systems every file compares."""

from ranker.evaluation import SystemInfo
from ranker.evaluation.runner import default_pairs


def model(name: str, mode: str, think_tokens: int = 0, *, model: str = "small", thoughts: bool = False) -> SystemInfo:
    options = {"thoughts": {"sha256": "x"}} if thoughts else {}
    return SystemInfo(name=name, kind="model", model=model, mode=mode, think_tokens=think_tokens, options=options)


def test_a_difference_is_tested_where_the_systems_differ_in_one_thing() -> None:
    systems = [
        SystemInfo(name="random", kind="baseline"),
        model("first", "first-token"),
        model("quick", "iterative"),
        model("slow", "iterative", 48),
        model("slow+", "iterative", 48, thoughts=True),
        model("block", "fixed-block"),
        model("pairs", "pairwise"),
        model("big slow", "iterative", 48, model="big"),
    ]
    pairs = [p for p in default_pairs(systems, "random") if p[0] != "against"]
    assert pairs == [
        ("iteration gain", "quick", "first"),
        ("iteration gain", "slow", "first"),
        ("iteration gain", "block", "first"),
        ("thinking", "slow", "quick"),
        ("thought bank", "slow+", "slow"),
        ("models", "big slow", "slow"),
    ]
    against = [p for p in default_pairs(systems, "random") if p[0] == "against"]
    assert len(against) == len(systems) - 1
