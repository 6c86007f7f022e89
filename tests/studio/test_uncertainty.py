"""The parts of a task's priority, worked by hand."""

import pytest

from studio.uncertainty import disagreement, mean_entropy, sunk


def test_parts_of_uncertainty() -> None:
    assert mean_entropy([]) is None
    assert mean_entropy([{"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.0}]) == pytest.approx(0.5)
    assert disagreement([[["a"], ["b"]], [["b"], ["a"]]]) == 1
    assert disagreement([[["a"], ["b"]]]) is None
    assert (sunk(1, 5), sunk(5, 5), sunk(None, 5)) == (0, 1, None)
