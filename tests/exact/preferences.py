"""Preference losses at their minimum: which of them end where RL does, which elsewhere, and which nowhere.

Preferences are those of Bradley and Terry, P(i over j) = sigma(r_i - r_j), unless a probability is named. Where sums and means
of log-probs differ, completions have 1 to 3 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from scipy.optimize import brentq
from torch import Tensor

from posttrain.algorithms.dpo import Config, pair_loss
from posttrain.losses.preference import dpo, ipo, kto, orpo, robust_dpo, simpo
from posttrain.training.pairs import AnswerLogprobs
from tests.exact.check import Check
from tests.exact.expectation import minimise, total_variation
from tests.exact.fixed_points import BETA
from tests.exact.optima import NAMES, expected_preference_loss, setting
from tests.exact.policies import EnumerablePolicy

EPSILON = 0.1
Loss = Callable[[Tensor, Tensor], Tensor]


def _reached(name: str, loss: Loss, over_S: Tensor | None = None, per_token: bool = False) -> Tensor:
    where, policy = setting(name), setting(name).start()
    minimise(lambda: expected_preference_loss(where, policy, loss, over_S, per_token), policy.parameters())
    return policy.probabilities().detach()


def _ref(name: str) -> Tensor:
    where = setting(name)
    return where.start().per_sequence(where.ref_n).exp()


def _number(x: float) -> Tensor:
    return torch.tensor([x], dtype=torch.float64)


def _slope(loss: Callable[[Tensor], Tensor], x: float) -> float:
    at = _number(x).requires_grad_()
    return torch.autograd.grad(loss(at).sum(), at)[0].item()


def _best_gap(loss: Loss, preferred: float, start: float = 0.0) -> float:
    """The log-ratio gap at which the loss of one pair is least, its labels right with this probability."""
    gap = _number(start).requires_grad_()
    zero = torch.zeros(1, dtype=torch.float64)
    minimise(lambda: (preferred * loss(gap, zero) + (1 - preferred) * loss(zero, gap)).sum(), [gap])
    return gap.item()


# -------------------------------------------------------------------------------------------------------------------- IPO


@cache
def _wins(name: str) -> Tensor:
    """How often each answer beats one of the reference's."""
    rewards_S = setting(name).rewards_S
    return (rewards_S[:, None] - rewards_S).sigmoid() @ _ref(name)


def ipo_ends_at_its_own_optimum() -> Iterator[Check]:
    for name in NAMES:
        reached_S = _reached(name, partial(ipo, beta=BETA), _ref(name))
        own_S = (_ref(name).log() + _wins(name) / BETA).softmax(0)
        claim = f"IPO, pairs of the reference's answers: total variation from pi_ref exp(E_j P(i over j) / beta) / Z, {name}"
        yield Check("3", claim, 0, total_variation(reached_S, own_S), 1e-6)
        claim = f"IPO: total variation from the optimum of RL with the same beta, {name}"
        yield Check("3", claim, 0.05, total_variation(reached_S, setting(name).optimum_S), relation=">")


def ipo_on_means_ends_elsewhere() -> Iterator[Check]:
    name, lengths_S = "stopping tree", setting("stopping tree").start().lengths
    reached_S = _reached(name, partial(ipo, beta=BETA), _ref(name), per_token=True)
    unnormalised = lambda c: _ref(name) * (lengths_S * (_wins(name) / BETA + c)).exp()  # noqa: E731
    level = brentq(lambda c: unnormalised(c).sum().item() - 1, -20, 20, xtol=1e-14)
    claim = f"IPO on means per token: total variation from pi_ref exp(length (E_j P(i over j) / beta + c)), {name}"
    yield Check("3", claim, 0, total_variation(reached_S, unnormalised(level)), 1e-6)
    on_sums_S = (_ref(name).log() + _wins(name) / BETA).softmax(0)
    yield Check("3", f"IPO on means per token: total variation from IPO on sums, {name}", 0.05, total_variation(reached_S, on_sums_S), relation=">")


def dpo_on_means_is_not_the_optimum_of_rl() -> Iterator[Check]:
    for name, relation, bound in (("bandit", "=", 0.0), ("stopping tree", ">", 0.05)):
        apart = total_variation(_reached(name, partial(dpo, beta=BETA), per_token=True), setting(name).optimum_S)
        yield Check("3", f"DPO on means per token: total variation from the optimum of RL, {name}", bound, apart, 1e-6, relation)


# --------------------------------------------------------------------------------------------- labels that may be wrong


def smoothed_labels_make_the_margin_finite() -> Iterator[Check]:
    smoothed = partial(dpo, beta=BETA, label_smoothing=EPSILON)
    for preferred in (0.8, 1.0):
        target = preferred * (1 - EPSILON) + (1 - preferred) * EPSILON
        measured = 1 / (1 + math.exp(-BETA * _best_gap(smoothed, preferred)))
        yield Check("4", f"cDPO, labels doubted by {EPSILON}, a pair preferred with P = {preferred:g}: sigma(beta gap) at the optimum", target, measured, 1e-8)


def without_smoothing_a_sure_preference_has_no_optimum() -> Iterator[Check]:
    rate, gap, margins = 1.0, 0.0, {}
    zero = torch.zeros(1, dtype=torch.float64)
    for step in range(1, 2001):
        gap -= rate * _slope(lambda x: dpo(x, zero, 1.0), gap)
        margins[step] = gap
    words = "DPO, a pair that is always preferred, gradient descent: margin"
    yield Check("4", f"{words} after 2,000 steps less that after 200: as log t", math.log(10), margins[2000] - margins[200], 0.05)
    finite = math.log((1 - EPSILON) / EPSILON)
    yield Check("4", f"{words} after 2,000 steps, over where cDPO stays", 2.0, margins[2000] / finite, relation=">")


def robust_dpo_forgets_the_flips() -> Iterator[Check]:
    gaps, zero = torch.linspace(-12, 12, 97, dtype=torch.float64).requires_grad_(), torch.zeros(97, dtype=torch.float64)
    clean = dpo(gaps, zero, BETA)
    for rate in (0.1, 0.3, 0.45):
        flipped = (1 - rate) * robust_dpo(gaps, zero, BETA, rate) + rate * robust_dpo(zero, gaps, BETA, rate)
        slopes = [torch.autograd.grad(x.sum(), gaps, retain_graph=True)[0] for x in (flipped, clean)]
        words = f"robust DPO, labels flipped with P = {rate}, its mean over flips less DPO on true labels, gaps of -12 to 12 nats: largest"
        yield Check("4", f"{words} value", 0, (flipped - clean).abs().max().item(), 1e-12)
        yield Check("4", f"{words} slope", 0, (slopes[0] - slopes[1]).abs().max().item(), 1e-12)
    naive = (1 - 0.3) * clean + 0.3 * dpo(zero, gaps, BETA)
    yield Check("4", "plain DPO under labels flipped with P = 0.3 less DPO on true labels: largest value", 1.0, (naive - clean).abs().max().item(), relation=">")


def robust_dpo_ends_where_true_labels_lead() -> Iterator[Check]:
    rate, preferred = 0.2, 0.9
    seen = preferred * (1 - rate) + (1 - preferred) * rate
    words = f"labels flipped with P = {rate} of a pair preferred with P = {preferred}: sigma(beta gap) at the optimum of"
    measured = 1 / (1 + math.exp(-BETA * _best_gap(partial(robust_dpo, beta=BETA, flip_rate=rate), seen)))
    yield Check("4", f"{words} robust DPO", preferred, measured, 1e-8)
    measured = 1 / (1 + math.exp(-BETA * _best_gap(partial(dpo, beta=BETA), seen)))
    yield Check("4", f"{words} plain DPO", seen, measured, 1e-8)


# -------------------------------------------------------------------------------------------------------------------- KTO


def _kto(log_ratios: Tensor, good: bool, z0: Tensor | float) -> Tensor:
    return kto(log_ratios, torch.full(log_ratios.shape, good), z0, BETA)


def a_reference_point_is_never_negative_and_gets_no_gradient() -> Iterator[Check]:
    log_ratios = torch.linspace(-6, 6, 49, dtype=torch.float64)
    for good in (True, False):
        below = _kto(log_ratios, good, -3.0) - _kto(log_ratios, good, 0.0)
        name = "good" if good else "bad"
        yield Check("5", f"KTO, {name} answers: largest difference between a reference point of -3 nats and of 0", 0, below.abs().max().item())
    z0 = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    learned = _kto(log_ratios.clone().requires_grad_(), True, z0).sum()
    (slope,) = torch.autograd.grad(learned, z0, allow_unused=True)
    yield Check("5", "KTO: gradient that reaches the reference point", 0, 0.0 if slope is None else slope.abs().item())
    at = _kto(_number(1.0), True, z0).item()
    yield Check("5", "KTO: loss of an answer whose log-ratio is the reference point, of weight 1", 0.5, at, 1e-12)


def a_bad_answer_is_pushed_as_a_good_one_is_pulled() -> Iterator[Check]:
    for z0 in (0.0, 1.5):
        sums = [_slope(partial(_kto, good=True, z0=z0), x) + _slope(partial(_kto, good=False, z0=z0), x) for x in (-4.0, 0.0, 0.7, 5.0)]
        yield Check("5", f"KTO, reference point {z0:g}: slope if good plus slope if bad, largest of 4 log-ratios", 0, max(map(abs, sums)), 1e-12)
    yield Check("5", "KTO: slope of a good answer at the reference point, -beta / 4", -BETA / 4, _slope(partial(_kto, good=True, z0=1.5), 1.5), 1e-12)


def kto_follows_the_majority_without_end() -> Iterator[Check]:
    for share in (0.6, 0.4):
        slopes = [share * _slope(partial(_kto, good=True, z0=0.0), x) + (1 - share) * _slope(partial(_kto, good=False, z0=0.0), x) for x in (-10.0, 0.0, 10.0)]
        claim = f"KTO, an answer called good with P = {share}: its slope over that of a sure label, of 3 log-ratios the"
        sure = [_slope(partial(_kto, good=True, z0=0.0), x) for x in (-10.0, 0.0, 10.0)]
        ratios = [a / b for a, b in zip(slopes, sure, strict=True)]
        yield Check("5", f"{claim} least", 2 * share - 1, min(ratios), 1e-12)
        yield Check("5", f"{claim} most", 2 * share - 1, max(ratios), 1e-12)


# ------------------------------------------------------------------------------------------------------ without reference


def _answers(policy: Tensor, reference: Tensor, lengths: list[int]) -> AnswerLogprobs:
    return AnswerLogprobs(policy, reference, torch.tensor(lengths))


def means_ask_for_no_reference() -> Iterator[Check]:
    policy = torch.tensor([-1.0, -2.0, -7.0, -3.0], dtype=torch.float64)
    references = [torch.zeros(4, dtype=torch.float64), torch.tensor([-3.0, -1.0, -9.0, -4.0], dtype=torch.float64)]
    for loss, needs in (("simpo", False), ("orpo", False), ("dpo", True)):
        config = Config(data="pairs", loss=loss)
        values = [pair_loss(_answers(policy, reference, [1, 2, 4, 3]), config) for reference in references]
        moved = (values[0] - values[1]).abs().max().item()
        claim = f"{loss}: largest change of a pair's loss with another reference"
        yield Check("5", claim, 0.01 if needs else 0, moved, relation=">" if needs else "=")
        yield Check("5", f"{loss}: 1 if its configuration asks for a reference", float(needs), float(config.needs_reference))


def an_answer_twice_as_long_earns_nothing() -> Iterator[Check]:
    short, long = torch.tensor([-1.0, -2.0], dtype=torch.float64), torch.tensor([-2.0, -2.0], dtype=torch.float64)
    nothing = torch.zeros(2, dtype=torch.float64)
    words = "chosen answer twice as long, with the same mean log-prob: change of the loss of"
    for loss, relation, bound in (("simpo", "=", 0.0), ("orpo", "=", 0.0), ("dpo", ">", 0.01)):
        config = Config(data="pairs", loss=loss)
        change = pair_loss(_answers(long, nothing, [2, 2]), config) - pair_loss(_answers(short, nothing, [1, 2]), config)
        yield Check("5", f"{words} {loss}", bound, change.abs().item(), relation=relation)


def gap_asked_of_either(preferred: float, margin: float) -> float:
    """Where P f(gap - margin) + (1 - P) f(-gap - margin) is least, f being -log sigma: the margin is asked of whichever was chosen."""
    a, lead = math.exp(-margin), 2 * preferred - 1
    return math.log((lead + math.sqrt(lead**2 + 4 * preferred * (1 - preferred) * a**2)) / (2 * (1 - preferred) * a))


def simpo_asks_for_its_margin() -> Iterator[Check]:
    beta, policy = 2.5, setting("stopping tree").start()
    first, second = 0, len(policy.sequences) - 1
    words = f"SimPO, answers of {policy.lengths[first]} and {policy.lengths[second]} tokens, the first preferred with"
    for preferred, gamma in ((0.8, 0.0), (0.8, 1.4), (0.5, 1.4)):
        policy = setting("stopping tree").start()

        def means(policy: EnumerablePolicy = policy) -> tuple[Tensor, Tensor]:
            means_S = policy.per_sequence(policy.logprobs()) / policy.lengths
            return means_S[first, None], means_S[second, None]

        def loss(p: float = preferred, gamma: float = gamma, means: Callable[[], tuple[Tensor, Tensor]] = means) -> Tensor:
            a, b = means()
            return (p * simpo(a, b, beta, gamma) + (1 - p) * simpo(b, a, beta, gamma)).sum()

        minimise(loss, policy.parameters())
        measured = beta * (means()[0] - means()[1]).item()
        claim = f"{words} P = {preferred:g}, gamma = {gamma:g}: beta times the gap of means at the optimum"
        yield Check("5", claim, gap_asked_of_either(preferred, gamma), measured, 1e-6)
    at_the_margin = simpo(_number(1.4 / beta), _number(0.0), beta, 1.4).item()
    yield Check("5", "SimPO: loss of a pair whose beta times gap is gamma, in units of reward", math.log(2), at_the_margin, 1e-12)


def orpo_stops_where_its_two_terms_balance() -> Iterator[Check]:
    """Two answers of one token, the only ones: their log-odds ratio is twice the logit of the first."""
    weight, preferred = 0.5, 0.8
    logit = _number(0.0).requires_grad_()

    def loss() -> Tensor:
        a, b = torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)
        return (preferred * orpo(a, b, weight) + (1 - preferred) * orpo(b, a, weight)).sum()

    minimise(loss, [logit])
    sigma = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    balance = brentq(lambda z: (preferred - sigma(z)) + 2 * weight * (preferred - sigma(2 * z)), -5, 5, xtol=1e-14)
    words = f"ORPO, two answers, the first preferred with P = {preferred}: its log-odds at the optimum"
    yield Check("5", f"{words}, against the root of (P - sigma(z)) + 2 lambda (P - sigma(2 z))", balance, logit.item(), 1e-6)
    yield Check("5", f"{words}, less those of plain SFT on the chosen answers, logit P", 0, logit.item() - math.log(4), relation="<")


CHECKS = (
    ipo_ends_at_its_own_optimum,
    ipo_on_means_ends_elsewhere,
    dpo_on_means_is_not_the_optimum_of_rl,
    smoothed_labels_make_the_margin_finite,
    without_smoothing_a_sure_preference_has_no_optimum,
    robust_dpo_forgets_the_flips,
    robust_dpo_ends_where_true_labels_lead,
    a_reference_point_is_never_negative_and_gets_no_gradient,
    a_bad_answer_is_pushed_as_a_good_one_is_pulled,
    kto_follows_the_majority_without_end,
    means_ask_for_no_reference,
    an_answer_twice_as_long_earns_nothing,
    simpo_asks_for_its_margin,
    orpo_stops_where_its_two_terms_balance,
)
