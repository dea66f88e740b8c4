"""Reward models from preferences: what Bradley and Terry's likelihood can learn, and what margins and centering do to it.

One number for each of six answers to one prompt, learned from preferences of the probability sigma(r_i - r_j); in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from posttrain.algorithms.reward_model import calibration_metrics
from posttrain.calibration import ece
from posttrain.losses.preference import bradley_terry
from tests.exact.check import Check
from tests.exact.expectation import minimise
from tests.exact.preferences import gap_asked_of_either

N_ANSWERS = 6
CENTERING = 0.01


@cache
def truth() -> Tensor:
    return 1.5 * torch.randn(N_ANSWERS, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 3


def _learned(true: Tensor, centering: float = 0.0) -> Tensor:
    """The rewards of least expected loss over all pairs, from a start at 1."""
    first, second = torch.combinations(torch.arange(len(true))).unbind(1)
    preferred = (true[first] - true[second]).sigmoid()
    rewards = torch.ones_like(true).requires_grad_()

    def loss() -> Tensor:
        a, b = rewards[first], rewards[second]
        return (preferred * bradley_terry(a, b, centering=centering) + (1 - preferred) * bradley_terry(b, a, centering=centering)).mean()

    minimise(loss, [rewards])
    return rewards.detach()


def _gap_of_a_pair(preferred: float, margin: float, against: float) -> float:
    """The gap of least expected loss, `margin` being asked where the first answer is chosen, `against` where the second is."""
    rewards = torch.zeros(2, dtype=torch.float64).requires_grad_()
    asked, other = (torch.tensor([x], dtype=torch.float64) for x in (margin, against))

    def loss() -> Tensor:
        a, b = rewards[:1], rewards[1:]
        return (preferred * bradley_terry(a, b, asked) + (1 - preferred) * bradley_terry(b, a, other)).sum()

    minimise(loss, [rewards])
    return (rewards[0] - rewards[1]).item()


def preferences_teach_rewards_up_to_a_constant() -> Iterator[Check]:
    learned, true = _learned(truth()), truth()
    apart = (learned - learned.mean() - (true - true.mean())).abs().max().item()
    yield Check("7", "rewards learned from all pairs, the mean taken off, against the true ones: largest error", 0, apart, 1e-6)
    yield Check("7", "rewards learned from all pairs: their mean, which stays where it began", 1, learned.mean().item(), 1e-9)


def a_margin_moves_the_gap_that_is_learned() -> Iterator[Check]:
    logit = math.log(0.8 / 0.2)
    words = "a pair preferred with P = 0.8: gap learned with a margin of"
    for margin in (0.0, 0.5, 1.0):
        yield Check("7", f"{words} {margin:g} for it and minus that against it: logit P + margin", logit + margin, _gap_of_a_pair(0.8, margin, -margin), 1e-7)
    for margin in (0.5, 1.0):
        yield Check("7", f"{words} {margin:g} for whichever is chosen", gap_asked_of_either(0.8, margin), _gap_of_a_pair(0.8, margin, margin), 1e-7)


def centering_fixes_the_level_and_leaves_the_gap_of_a_pair() -> Iterator[Check]:
    pair = torch.tensor([4.0, 2.5], dtype=torch.float64)
    learned = _learned(pair, CENTERING)
    yield Check("7", f"two answers, centering {CENTERING}: sum of their rewards", 0, learned.sum().item(), 1e-6)
    yield Check("7", f"two answers, centering {CENTERING}: gap, without it 1.5", 1.5, (learned[0] - learned[1]).item(), 1e-7)


def centering_draws_together_what_is_in_several_pairs() -> Iterator[Check]:
    plain, centred = _learned(truth()), _learned(truth(), CENTERING)
    yield Check("7", f"six answers in all pairs, centering {CENTERING}: mean of (r_chosen + r_rejected)", 0, 2 * centred.mean().item(), 1e-6)
    gap = lambda r: (r.max() - r.min()).item()  # noqa: E731
    yield Check("7", f"six answers in all pairs, centering {CENTERING}: widest gap over that without it", 1, gap(centred) / gap(plain), relation="<")
    little = _learned(truth(), CENTERING / 100)
    yield Check("7", f"six answers in all pairs, centering {CENTERING / 100:g}: widest gap over that without it", 0.99, gap(little) / gap(plain), relation=">")


def _pairs(rewards: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of every pair: the confidence with which these rewards rank it, and how often the answer that they rank first is preferred."""
    first, second = torch.combinations(torch.arange(N_ANSWERS)).unbind(1)
    gaps, true = rewards[first] - rewards[second], truth()
    preferred = ((true[first] - true[second]) * gaps.sign()).sigmoid()
    return gaps.abs().sigmoid().numpy(), preferred.numpy()


def sigma_of_the_gap_is_how_often_it_is_right() -> Iterator[Check]:
    confidence, right = _pairs(_learned(truth()))
    first, second = torch.combinations(torch.arange(N_ANSWERS)).unbind(1)
    best = (truth()[first] - truth()[second]).abs().sigmoid().mean().item()
    yield Check("7", "learned rewards: share of fresh labels that they rank right, the best that can be", best, float(right.mean()), 1e-9)
    yield Check("7", "learned rewards: their own mean confidence in it", best, float(confidence.mean()), 1e-6)
    yield Check("7", "learned rewards: expected calibration error of sigma(gap)", 0, ece(confidence, right), 1e-6)
    doubled, right = _pairs(2 * truth())
    sure = float(np.mean(doubled - right))
    yield Check("7", "rewards twice as far apart: accuracy lost", 0, float(right.mean()) - best, 1e-9)
    yield Check("7", "rewards twice as far apart: expected calibration error, all of it overconfidence", sure, ece(doubled, right, n_bins=5), 1e-9)


def on_finite_data_the_error_is_what_chance_alone_gives() -> Iterator[Check]:
    confidence, _ = _pairs(truth())
    dice = np.random.default_rng(0)
    drawn = dice.integers(0, len(confidence), 600)
    found = calibration_metrics(confidence[drawn].tolist(), (dice.random(600) < confidence[drawn]).astype(float).tolist(), range(600))
    words = "true rewards on 600 labels: expected calibration error"
    yield Check("7", f"{words} over what chance alone gives", 1, found["heldout/ece"] / found["heldout/ece_by_chance"], 0.5)
    yield Check("7", f"{words} that chance alone gives", 0.005, found["heldout/ece_by_chance"], relation=">")


CHECKS = (
    preferences_teach_rewards_up_to_a_constant,
    a_margin_moves_the_gap_that_is_learned,
    centering_fixes_the_level_and_leaves_the_gap_of_a_pair,
    centering_draws_together_what_is_in_several_pairs,
    sigma_of_the_gap_is_how_often_it_is_right,
    on_finite_data_the_error_is_what_chance_alone_gives,
)
