"""Generalised advantage estimation, and whitening, on right-padded batches. Shapes: (B, T), mask 1 on real tokens.

Source: Schulman et al. 2016 (GAE), equations 11 and 16; Schulman et al. 2017 (PPO) uses them per minibatch of time steps.
"""

from typing import NamedTuple

import torch


class Advantages(NamedTuple):
    """Both (B, T), 0 beyond the last real token."""

    advantages: torch.Tensor
    returns: torch.Tensor
    """advantages + values: what the critic is trained on."""


def estimate_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> Advantages:
    """delta_t = r_t + gamma V_(t+1) - V_t;  A_t = delta_t + gamma lam A_(t+1); V and A are 0 behind the last token."""
    mask = mask.to(rewards.dtype)
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(following)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = mask[:, t] * (delta + gamma * lam * following)
        next_value = mask[:, t] * values[:, t]
        advantages[:, t] = following
    return Advantages(advantages, (advantages + values) * mask)
