"""Advantages: how much better an attempt was than its siblings at the same problem.

`rewards_PG[problem, group] -> advantages_PG`, of the same shape and dtype. A nan reward means *unscored*: it is in no
mean and gets the advantage 0, as does a lone scored attempt among unscored siblings, for it has nothing to be compared
with. A group whose rewards are all equal gets exact zeros, equal meaning within rounding (16 units in the last place of
the largest): 0.1 + 0.2 and 0.3 are one reward, and their difference is no signal to be scaled up.

All raise ValueError for groups of one, which would give every attempt the advantage 0, and for infinite rewards.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def group_mean(rewards_PG: Float[Tensor, "problems group"]) -> Float[Tensor, "problems group"]:
    """Reward minus the mean of the group, self included (Dr. GRPO, 2503.20783; GRPO without its division).

    It is (G - 1) / G times `leave_one_out`, exactly, so its expected gradient is the true one times that factor.
    """
    return _centre(rewards_PG)[0]


def leave_one_out(rewards_PG: Float[Tensor, "problems group"]) -> Float[Tensor, "problems group"]:
    """Reward minus the mean of the *other* attempts (RLOO, 2402.14740): the expected gradient is the true one."""
    centred_PG, _, n_P1 = _centre(rewards_PG)
    return centred_PG * n_P1 / (n_P1 - 1).clamp(min=1)


def std_scaled(
    rewards_PG: Float[Tensor, "problems group"], eps: float = 1e-6, ddof: Literal[0, 1] = 1
) -> Float[Tensor, "problems group"]:
    """(reward - mean) / (std + eps) of the group (GRPO as published, 2402.03300, section 4.1.2).

    The paper names neither eps nor the divisor of the variance: `ddof=1` divides by G - 1, as most implementations do;
    0 divides by G. The division weighs problems by how often they are solved: with G = 8, 1.39 times more at success
    rates of .02 and .98 than at .5.
    """
    centred_PG, _, n_P1 = _centre(rewards_PG)
    variance_P1 = centred_PG.square().sum(1, keepdim=True) / (n_P1 - ddof).clamp(min=1)
    return torch.where(variance_P1 > 0, centred_PG / (variance_P1.sqrt() + eps), 0.0)


def max_rl(rewards_PG: Float[Tensor, "problems group"]) -> Float[Tensor, "problems group"]:
    """(reward - mean) / mean of the group, for rewards of 0 and 1 (Maximum Likelihood RL, 2602.02710, algorithm 1).

    It climbs log P(success) rather than P(success), so far as G samples can tell: with groups that have no success at 0,
    the expected gradient is exactly that of -sum over k < G of (1 - p)^k / k, the first terms of log p. Uncentred, as in
    the paper's theorem, the sum has one term more. The paper covers 0/1 rewards only; nothing is promised for others,
    and ValueError is raised where a mean is negative, for the sign of every advantage would flip.
    """
    centred_PG, mean_P1, _ = _centre(rewards_PG)
    if (mean_P1 < 0).any():
        raise ValueError("max_rl divides by the group's mean reward and needs rewards of 0 and 1: a group's mean is negative")
    return torch.where(mean_P1 > 0, centred_PG / mean_P1, 0.0)


def has_signal(advantages_PG: Float[Tensor, "problems group"]) -> Bool[Tensor, " problems"]:
    """Which problems have an attempt with an advantage; the others contribute nothing to a policy gradient."""
    return (advantages_PG != 0).any(1)


def _centre(rewards_PG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reward minus mean (0 where unscored or all are equal), the mean (0 where none is scored), how many are scored."""
    if rewards_PG.shape[1] < 2:
        raise ValueError(f"advantages compare attempts at one problem and need groups of 2 or more, got {rewards_PG.shape[1]}")
    if rewards_PG.isinf().any():
        raise ValueError("a reward is infinite: a reward is a finite number, or nan where the attempt could not be scored")
    scored_PG = ~rewards_PG.isnan()
    n_P1 = scored_PG.sum(1, keepdim=True)
    mean_P1 = rewards_PG.nansum(1, keepdim=True) / n_P1.clamp(min=1)
    live_PG = scored_PG & ~_all_equal(rewards_PG, scored_PG)
    return torch.where(live_PG, rewards_PG - mean_P1, 0.0), mean_P1, n_P1


def _all_equal(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Bool[problems, 1]: whether the scored rewards differ by no more than rounding; true of one, and of none."""
    lowest_P1 = rewards_PG.where(scored_PG, torch.inf).amin(1, keepdim=True)
    highest_P1 = rewards_PG.where(scored_PG, -torch.inf).amax(1, keepdim=True)
    rounding_P1 = 16 * torch.finfo(rewards_PG.dtype).eps * torch.maximum(lowest_P1.abs(), highest_P1.abs())
    return highest_P1 - lowest_P1 <= rounding_P1
