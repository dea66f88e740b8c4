"""Policy losses by hand, and where their gradients flow, stop and must not stop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from posttrain.losses.policy import cispo, clip_fraction, clipped_surrogate, gspo, reinforce
from posttrain.losses.ratio import importance_ratio

LOW, HIGH = 0.2, 0.28


def each_its_own_sequence(logprobs: Tensor, old: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """GSPO on completions of one token each."""
    return gspo(logprobs, old, advantages, torch.arange(len(logprobs)), len(logprobs), clip_low, clip_high)


RATIO_LOSSES = [clipped_surrogate, cispo, each_its_own_sequence]
every_ratio_loss = pytest.mark.parametrize("loss", RATIO_LOSSES, ids=lambda f: f.__name__)


def value_and_gradient(loss, logprobs: Tensor, *rest) -> tuple[Tensor, Tensor]:
    """The per-token values, and the gradient of their sum by the log-probs."""
    logprobs = logprobs.detach().requires_grad_()
    values = loss(logprobs, *rest)
    return values.detach(), torch.autograd.grad(values.sum(), logprobs)[0]


def at_ratio(loss, ratio: float, advantage: float, low: float = LOW, high: float = HIGH) -> tuple[float, float]:
    """One token whose probability has changed by `ratio`."""
    old, advantages = torch.tensor([-1.5], dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64)
    value, gradient = value_and_gradient(loss, old + math.log(ratio), old, advantages, low, high)
    return value.item(), gradient.item()


def test_reinforce_by_hand():
    value, gradient = value_and_gradient(reinforce, torch.tensor([-2.0, -1.0]), torch.tensor([0.5, -1.0]))
    assert value.tolist() == [1.0, -1.0]
    assert gradient.tolist() == [-0.5, 1.0]


@every_ratio_loss
@pytest.mark.parametrize("clip", [0.0, 0.2, math.inf])
def test_before_the_first_step_every_loss_has_the_gradient_of_reinforce(loss, clip):
    logprobs, advantages = -torch.rand(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    _, expected = value_and_gradient(reinforce, logprobs, advantages)
    _, measured = value_and_gradient(loss, logprobs, logprobs, advantages, clip, clip)
    assert_close(measured, expected)


@pytest.mark.parametrize("loss", [clipped_surrogate, each_its_own_sequence])
def test_a_loss_of_zero_says_nothing_about_the_gradient(loss):
    advantages = torch.tensor([0.75, -0.25, -0.25, -0.25])
    value, gradient = value_and_gradient(loss, torch.zeros(4), torch.zeros(4), advantages, LOW, HIGH)
    assert value.sum() == 0
    assert gradient.tolist() == (-advantages).tolist()


@pytest.mark.parametrize("loss", [clipped_surrogate, each_its_own_sequence])
@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "gradient"),
    [
        (1.1, 2.0, -2.2, -2.2),  # inside: the ratio times the advantage
        (1.5, 2.0, -2.56, 0.0),  # likelier already, and good: far enough
        (0.5, 2.0, -1.0, -1.0),  # good but less likely: must still be able to come back
        (0.9, -2.0, 1.8, 1.8),
        (0.5, -2.0, 1.6, 0.0),  # less likely already, and bad: far enough
        (1.5, -2.0, 3.0, 3.0),  # bad but likelier: must still be able to come back
    ],
)
def test_the_clip_only_stops_steps_that_have_already_gone_far_enough(loss, ratio, advantage, value, gradient):
    assert at_ratio(loss, ratio, advantage) == pytest.approx((value, gradient))


@every_ratio_loss
def test_the_two_bounds_are_not_mixed_up(loss):
    inside = at_ratio(loss, 1.25, 1.0, low=0.1, high=0.3)
    assert inside[1] == pytest.approx(at_ratio(loss, 1.25, 1.0, low=math.inf, high=math.inf)[1])
    above, below = at_ratio(loss, 1.25, 1.0, low=0.3, high=0.1), at_ratio(loss, 0.75, -1.0, low=0.1, high=0.3)
    assert above != pytest.approx(inside)
    assert below != pytest.approx(at_ratio(loss, 0.75, -1.0, low=0.3, high=0.1))


@pytest.mark.parametrize(("ratio", "weight"), [(0.5, 0.8), (0.9, 0.9), (1.2, 1.2), (3.0, 1.28)])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_bounds_a_tokens_weight_and_never_silences_it(ratio, weight, advantage):
    value, gradient = at_ratio(cispo, ratio, advantage)
    assert gradient == pytest.approx(-weight * advantage)
    assert value == pytest.approx(-weight * advantage * (-1.5 + math.log(ratio)))


def test_a_lower_bound_of_one_is_none_for_cispo():
    assert at_ratio(cispo, 0.01, 1.0, low=1.0)[1] == pytest.approx(-0.01)


def test_the_tokens_of_a_gspo_sequence_are_clipped_together():
    old, ids = torch.zeros(4, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    new = torch.tensor([1.9, 0.7, 1.9, 1.1], dtype=torch.float64).log()  # sequence ratios 1.153 and 1.446
    _, gradient = value_and_gradient(gspo, new, old, torch.ones(4, dtype=torch.float64), ids, 2, 0.2, 0.2)
    assert_close(gradient, torch.tensor([-math.sqrt(1.9 * 0.7)] * 2 + [0.0, 0.0], dtype=torch.float64))


def test_gspo_reduced_by_sequence_is_the_papers_sequence_objective():
    ids, lengths = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([3, 2, 1])
    old, new = torch.randn(2, 6, dtype=torch.float64)
    advantages_S = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)

    def objective(logprobs: Tensor) -> Tensor:
        ratio_S = torch.stack([(logprobs - old)[ids == i].mean().exp() for i in range(3)])
        return -torch.minimum(ratio_S * advantages_S, ratio_S.clamp(0.8, 1.28) * advantages_S) / 3

    def ours(logprobs: Tensor) -> Tensor:
        return gspo(logprobs, old, advantages_S[ids], ids, 3, LOW, HIGH) / (3 * lengths[ids])

    (value, gradient), (expected_value, expected_gradient) = value_and_gradient(ours, new), value_and_gradient(objective, new)
    assert_close(value.sum(), expected_value.sum())
    assert_close(gradient, expected_gradient)


@every_ratio_loss
@pytest.mark.parametrize("log_ratio", [60.0, 200.0, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_no_log_ratio_makes_a_loss_or_its_gradient_overflow(loss, log_ratio, sign, advantage):
    old = torch.tensor([-1.0])
    value, gradient = value_and_gradient(loss, old + sign * log_ratio, old, torch.tensor([advantage]), LOW, HIGH)
    assert value.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("loss", [clipped_surrogate, each_its_own_sequence])
def test_a_bad_token_that_became_much_likelier_is_still_pushed_down(loss):
    _, gradient = value_and_gradient(loss, torch.tensor([-1.0]), torch.tensor([-61.0]), torch.tensor([-1.0]), LOW, HIGH)
    assert gradient.item() == pytest.approx(math.exp(20), rel=1e-6)


@every_ratio_loss
def test_no_advantage_no_gradient(loss):
    value, gradient = value_and_gradient(loss, torch.randn(9), torch.randn(9), torch.zeros(9), LOW, HIGH)
    assert not value.any() and not gradient.any()


@every_ratio_loss
def test_no_tokens_no_values(loss):
    empty = torch.zeros(0)
    assert loss(empty, empty, empty, LOW, HIGH).shape == (0,)


@every_ratio_loss
@pytest.mark.parametrize("bounds", [(-0.1, 0.2), (0.2, -0.1), (math.nan, 0.2)])
def test_a_negative_bound_is_refused(loss, bounds):
    with pytest.raises(ValueError, match="not negative"):
        loss(torch.zeros(1), torch.zeros(1), torch.ones(1), *bounds)


def test_a_nan_is_not_hidden():
    bad = torch.tensor([math.nan, 0.0])
    for loss in RATIO_LOSSES:
        assert loss(bad, torch.zeros(2), torch.ones(2), LOW, HIGH).isnan().tolist() == [True, False]


def test_clipped_tokens_are_counted_by_the_sign_of_their_advantage():
    ratios = torch.tensor([0.5, 0.5, 0.5, 2.0, 2.0, 2.0, 1.0, 1.0])
    advantages = torch.tensor([-1.0, 1.0, 0.0, -1.0, 1.0, 0.0, -1.0, 1.0])
    too_low, too_high = clip_fraction(ratios, advantages, LOW, HIGH)
    assert (too_low.item(), too_high.item()) == (1 / 8, 1 / 8)


def test_the_clip_fraction_is_the_share_of_tokens_whose_gradient_the_clip_stops():
    old, advantages = torch.randn(2, 500)
    new = old + 0.5 * torch.randn(500)
    _, gradient = value_and_gradient(clipped_surrogate, new, old, advantages, LOW, HIGH)
    too_low, too_high = clip_fraction(importance_ratio(new, old), advantages, LOW, HIGH)
    assert 0 < too_low and 0 < too_high
    assert (too_low + too_high).item() == pytest.approx(gradient.eq(0).float().mean().item())


def test_of_no_tokens_none_are_clipped():
    assert [share.item() for share in clip_fraction(torch.zeros(0), torch.zeros(0), LOW, HIGH)] == [0, 0]
