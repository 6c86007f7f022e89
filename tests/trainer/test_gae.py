"""Advantages against numbers worked by hand, and against the sum that defines them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.gae import estimate_advantages


def test_by_hand() -> None:
    """T = 3, gamma .9, lambda .8, so gamma * lambda = .72; the second row ends after two tokens.

    Row 1: r = 0 0 1, V = .2 .4 .6.   delta_2 = 1 - .6 = .4;  delta_1 = .9 * .6 - .4 = .14;  delta_0 = .9 * .4 - .2 = .16
           A_2 = .4;  A_1 = .14 + .72 * .4 = .428;  A_0 = .16 + .72 * .428 = .46816
    Row 2: r = .5 2, V = 1 .5.        delta_1 = 2 - .5 = 1.5;  delta_0 = .5 + .9 * .5 - 1 = -.05
           A_1 = 1.5;  A_0 = -.05 + .72 * 1.5 = 1.03
    """
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.5, 2.0, 9.0]])
    values = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.5, 7.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = estimate_advantages(rewards, values, mask, gamma=0.9, lam=0.8)
    assert torch.allclose(found.advantages, torch.tensor([[0.46816, 0.428, 0.4], [1.03, 1.5, 0.0]]))
    assert torch.allclose(found.returns, torch.tensor([[0.66816, 0.828, 1.0], [2.03, 2.0, 0.0]]))


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(-2, 2), min_size=n, max_size=n), st.lists(st.floats(-2, 2), min_size=n, max_size=n)
        )
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_is_the_discounted_sum_of_errors(
    row: tuple[list[float], list[float]], gamma: float, lam: float, padding: int
) -> None:
    rewards, values = row
    length = len(rewards)
    padded = [torch.tensor([x + [5.0] * padding], dtype=torch.float64) for x in row]
    mask = torch.tensor([[1] * length + [0] * padding])
    found = estimate_advantages(padded[0], padded[1], mask, gamma=gamma, lam=lam).advantages[0].tolist()
    errors = [rewards[t] + gamma * (values[t + 1] if t + 1 < length else 0) - values[t] for t in range(length)]
    for t in range(length):
        assert found[t] == pytest.approx(sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, length)), abs=1e-9)
    assert found[length:] == [0.0] * padding
