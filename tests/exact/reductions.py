"""Reductions: what a length earns or costs, and that cutting a step into minibatches changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import get_args

import torch
from torch import Tensor

from posttrain.advantages import group_mean, has_signal, std_scaled
from posttrain.losses.policy import clipped_surrogate, gspo, reinforce
from posttrain.losses.reduction import Reduction, token_weights
from tests.exact.check import Check
from tests.exact.expectation import Groups
from tests.exact.policies import coin

SHORT, LONG = 2, 5


def _length_drift(over: Reduction) -> tuple[float, float]:
    """How reward pushes the logit of being long, per correct and per wrong rollout, where reward knows nothing of length.

    A group of 20: half are long and half short, and of either 3 in 10 are correct. The first token alone decides the length.
    """
    length_logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    is_long_G = torch.arange(20) < 10
    correct_G = (torch.arange(20) % 10 < 3).double()
    lengths_G = [LONG if is_long else SHORT for is_long in is_long_G]
    weights_G = torch.tensor(token_weights(lengths_G, over, constant=LONG), dtype=torch.float64)
    advantages_G = std_scaled(correct_G[None], eps=1e-12, ddof=0)[0]
    first_token_G = torch.where(is_long_G, length_logit, -length_logit).sigmoid().log()
    losses_G = len(is_long_G) * weights_G * reinforce(first_token_G, advantages_G)
    return _mean_slope(losses_G[correct_G == 1], length_logit), _mean_slope(losses_G[correct_G == 0], length_logit)


def _mean_slope(losses: Tensor, parameter: Tensor) -> float:
    return -torch.autograd.grad(losses.mean(), parameter, retain_graph=True)[0].item()


def reducing_by_sequence_makes_correct_answers_short_and_wrong_ones_long() -> Iterator[Check]:
    advantage_correct, advantage_wrong = (1 - 0.3) / 0.21**0.5, (0 - 0.3) / 0.21**0.5
    slope = 0.25 * (1 / LONG - 1 / SHORT)
    correct, wrong = _length_drift("sequence")
    words = "push on length per rollout where reward ignores length"
    yield Check("16", f"sequence: {words}, correct ones", slope * advantage_correct, correct, 1e-9)
    yield Check("16", f"sequence: {words}, wrong ones", slope * advantage_wrong, wrong, 1e-9)
    yield Check("16", f"sequence: {words}, all", 0, 0.3 * correct + 0.7 * wrong, 1e-9)


def other_reductions_leave_length_alone() -> Iterator[Check]:
    for over in ("constant", "token"):
        for which, drift in zip(("correct", "wrong"), _length_drift(over), strict=True):
            yield Check("16", f"{over}: push on length per rollout where reward ignores length, {which} ones", 0, drift, 1e-9)


def the_token_mean_is_over_the_step() -> Iterator[Check]:
    lengths, advantages = [1, 3], [1.0, -1.0]
    whole = token_weights(lengths, "token")
    each = [token_weights([length], "token")[0] / len(lengths) for length in lengths]
    for words, expected, weights in (("weights of the whole step", -0.5, whole), ("weights of each minibatch of one", 0.0, each)):
        measured = sum(w * n * a for w, n, a in zip(weights, lengths, advantages, strict=True))
        yield Check("17", f"token mean of advantages +1, -1 over lengths 1, 3: {words}", expected, measured, 1e-12)


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Every way to cut the items into minibatches, their order aside."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for i in range(len(rest)):
            yield [*rest[:i], [items[0], *rest[i]], *rest[i + 1 :]]


class Step:
    """The flat tokens of a step of rollouts of some lengths; three parameters make all log-probs."""

    def __init__(self, lengths: list[int], advantages_R: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.lengths, self.advantages_R = lengths, advantages_R
        self.rollout_N = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        self.features_NK = torch.randn(len(self.rollout_N), 3, generator=generator, dtype=torch.float64)
        self.parameters_K = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        self.old_N = 0.2 * torch.randn(len(self.rollout_N), generator=generator, dtype=torch.float64)

    def losses(self, loss: str, mine: Tensor) -> Tensor:
        """The losses of some tokens, which hold every rollout whole or not at all."""
        logprobs, old, ids = self.features_NK[mine] @ self.parameters_K, self.old_N[mine], self.rollout_N[mine]
        if loss == "GSPO":
            return gspo(logprobs, old, self.advantages_R[ids], ids, len(self.lengths), 0.2, 0.28)
        return clipped_surrogate(logprobs, old, self.advantages_R[ids], 0.2, 0.28)

    def gradient(self, loss: str, over: Reduction, minibatches: list[list[int]]) -> Tensor:
        """Accumulated over minibatches of rollouts, with the weights of the whole step."""
        weights_N = torch.tensor(token_weights(self.lengths, over, constant=8), dtype=torch.float64)[self.rollout_N]
        total_K = torch.zeros_like(self.parameters_K)
        for minibatch in minibatches:
            mine = torch.isin(self.rollout_N, torch.tensor(minibatch))
            total_K += torch.autograd.grad((weights_N[mine] * self.losses(loss, mine)).sum(), self.parameters_K)[0]
        return total_K

    def whole(self, loss: str, over: Reduction) -> Tensor:
        """The gradient of the step when it is not cut."""
        return self.gradient(loss, over, [list(range(len(self.lengths)))])


def no_cutting_of_a_step_changes_its_gradient() -> Iterator[Check]:
    step = Step([3, 0, 4, 2], torch.tensor([0.5, -1.0, 2.0, -0.5], dtype=torch.float64))
    cuttings = list(partitions(range(4)))
    for loss, over in product(("clipped surrogate", "GSPO"), get_args(Reduction)):
        whole = step.whole(loss, over)
        worst = max((step.gradient(loss, over, minibatches) - whole).abs().max().item() for minibatches in cuttings)
        claim = f"{loss} by {over}, 4 rollouts, one empty: largest change of the gradient over all {len(cuttings)} cuttings"
        yield Check("17", claim, 0, worst, 1e-14)


def leaving_out_groups_without_signal_changes_nothing() -> Iterator[Check]:
    advantages_PG = group_mean(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    step = Step([3, 1, 4, 2, 6, 5], advantages_PG.flatten())
    kept = [rollout for rollout in range(6) if has_signal(advantages_PG)[rollout // 2]]
    for over in get_args(Reduction):
        change = step.gradient("clipped surrogate", over, [kept]) - step.whole("clipped surrogate", over)
        claim = f"clipped surrogate by {over}: change of the gradient when a group without signal is left out"
        yield Check("30", claim, 0, change.abs().max().item(), 1e-14)


def the_mean_reward_of_kept_groups_is_not_the_mean_reward() -> Iterator[Check]:
    success, size = 0.1, 8
    groups = Groups(coin(success), size, coin(success).probabilities().detach())
    rewards_PG = groups.members_PG.double()
    live_P = has_signal(group_mean(rewards_PG))
    kept_P = groups.probabilities_P * live_P / (groups.probabilities_P @ live_P.double())
    exact = (success - success**size) / (1 - success**size - (1 - success) ** size)
    words, mean_P = "success rate .1, G = 8: expected mean reward", rewards_PG.mean(1)
    yield Check("30", f"{words}, all groups", success, (groups.probabilities_P @ mean_P).item(), 1e-12)
    yield Check("30", f"{words}, groups with signal only", exact, (kept_P @ mean_P).item(), 1e-12)


CHECKS = (
    reducing_by_sequence_makes_correct_answers_short_and_wrong_ones_long,
    other_reductions_leave_length_alone,
    the_token_mean_is_over_the_step,
    no_cutting_of_a_step_changes_its_gradient,
    leaving_out_groups_without_signal_changes_nothing,
    the_mean_reward_of_kept_groups_is_not_the_mean_reward,
)
