"""Preference losses by hand. Where they end is in `exact/`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from posttrain.losses.preference import bradley_terry, dpo, implicit_reward, ipo, kto, orpo, robust_dpo, simpo

LN2 = math.log(2)


def one(x: float) -> Tensor:
    return torch.tensor([x], dtype=torch.float64)


def minus_log_sigma(x: float) -> float:
    return math.log(1 + math.exp(-x))


PAIR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bradley_terry": bradley_terry,
    "dpo": partial(dpo, beta=0.1),
    "cdpo": partial(dpo, beta=0.1, label_smoothing=0.1),
    "robust_dpo": partial(robust_dpo, beta=0.1, flip_rate=0.1),
    "ipo": partial(ipo, beta=0.1),
    "orpo": partial(orpo, beta=0.1),
    "simpo": partial(simpo, beta=2.0, gamma=0.5),
}
every_pair_loss = pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES)


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_before_training_dpo_and_its_kin_cost_ln_2(beta: float):
    zero = one(0.0)
    assert dpo(zero, zero, beta).item() == pytest.approx(LN2)
    assert dpo(zero, zero, beta, label_smoothing=0.2).item() == pytest.approx(LN2)
    assert robust_dpo(zero, zero, beta, flip_rate=0.2).item() == pytest.approx(LN2)
    assert bradley_terry(one(3.0), one(3.0)).item() == pytest.approx(LN2)


def test_the_implicit_reward_is_beta_times_the_log_ratio():
    assert implicit_reward(one(-2.0), one(-5.0), 0.1).item() == pytest.approx(0.3)


def test_dpo_by_hand():
    assert dpo(one(3.0), one(-1.0), 0.5).item() == pytest.approx(minus_log_sigma(2.0))
    smoothed = 0.9 * minus_log_sigma(2.0) + 0.1 * minus_log_sigma(-2.0)
    assert dpo(one(3.0), one(-1.0), 0.5, label_smoothing=0.1).item() == pytest.approx(smoothed)


def test_robust_dpo_by_hand_and_without_flips_dpo():
    unbiased = (0.8 * minus_log_sigma(2.0) - 0.2 * minus_log_sigma(-2.0)) / 0.6
    assert robust_dpo(one(3.0), one(-1.0), 0.5, flip_rate=0.2).item() == pytest.approx(unbiased)
    assert torch.equal(robust_dpo(one(3.0), one(-1.0), 0.5, 0.0), dpo(one(3.0), one(-1.0), 0.5))
    assert robust_dpo(one(20.0), one(0.0), 1.0, 0.2).item() < 0


@pytest.mark.parametrize("flip_rate", [-0.1, 0.5, 0.7])
def test_labels_that_are_wrong_half_of_the_time_are_refused(flip_rate: float):
    with pytest.raises(ValueError, match="below 1/2"):
        robust_dpo(one(0.0), one(0.0), 0.1, flip_rate)


def test_ipo_is_least_at_a_gap_of_one_over_two_beta():
    assert ipo(one(1.0), one(0.0), 0.1).item() == pytest.approx((1 - 5) ** 2)
    assert ipo(one(2.0), one(-3.0), 0.1).item() == 0


def test_bradley_terry_by_hand():
    assert bradley_terry(one(3.0), one(1.0)).item() == pytest.approx(minus_log_sigma(2.0))
    assert bradley_terry(one(3.0), one(1.0), one(0.5)).item() == pytest.approx(minus_log_sigma(1.5))
    assert bradley_terry(one(3.0), one(1.0), centering=0.01).item() == pytest.approx(minus_log_sigma(2.0) + 0.16)
    assert bradley_terry(one(3.0), one(1.0), one(0.0)).item() == bradley_terry(one(3.0), one(1.0)).item()


def test_kto_by_hand():
    log_ratios, is_good = torch.tensor([3.0, 3.0], dtype=torch.float64), torch.tensor([True, False])
    sigma = 1 / (1 + math.exp(-0.5 * (3.0 - 1.0)))
    assert kto(log_ratios, is_good, 1.0, 0.5).tolist() == pytest.approx([1 - sigma, sigma])
    assert kto(log_ratios, is_good, 1.0, 0.5, good_weight=2.0, bad_weight=3.0).tolist() == pytest.approx([2 * (1 - sigma), 3 * sigma])


def test_ktos_reference_point_is_cut_at_zero():
    log_ratios, is_good = torch.tensor([1.0, -1.0]), torch.tensor([True, False])
    assert torch.equal(kto(log_ratios, is_good, -4.0, 0.1), kto(log_ratios, is_good, 0.0, 0.1))
    assert not torch.equal(kto(log_ratios, is_good, 4.0, 0.1), kto(log_ratios, is_good, 0.0, 0.1))


def test_orpo_by_hand():
    """p = 1/2 and 1/4 have odds 1 and 1/3."""
    assert orpo(one(math.log(0.5)), one(math.log(0.25)), 0.2).item() == pytest.approx(LN2 - 0.2 * math.log(0.75))


def test_orpos_odds_keep_their_digits_at_both_ends():
    for logp in (-1e-7, -1e-3, -LN2, -0.7, -5.0, -60.0):
        chosen = one(logp).requires_grad_()
        loss = orpo(chosen, one(-1.0), 1.0) + chosen
        log_odds = logp - math.log(-math.expm1(logp))
        assert loss.item() == pytest.approx(minus_log_sigma(log_odds + 1.0 + math.log(-math.expm1(-1.0))), rel=1e-9)
        assert torch.isfinite(torch.autograd.grad(loss, chosen)[0]).all()


def test_simpo_by_hand():
    assert simpo(one(-0.5), one(-1.5), 2.0, 0.5).item() == pytest.approx(minus_log_sigma(1.5))
    assert simpo(one(-0.5), one(-0.75), 2.0, 0.5).item() == pytest.approx(LN2)


@every_pair_loss
def test_descending_raises_the_chosen_answer_above_the_rejected(loss: Callable[[Tensor, Tensor], Tensor]):
    chosen, rejected = one(-1.0).requires_grad_(), one(-0.5).requires_grad_()
    for_chosen, for_rejected = torch.autograd.grad(loss(chosen, rejected).sum(), [chosen, rejected])
    assert for_chosen.item() < 0 < for_rejected.item()


@every_pair_loss
def test_each_pair_is_judged_by_itself_and_none_is_no_loss(loss: Callable[[Tensor, Tensor], Tensor]):
    chosen, rejected = torch.tensor([-1.0, -0.2, -3.0]), torch.tensor([-0.5, -2.0, -0.7])
    together = loss(chosen, rejected)
    alone = torch.cat([loss(chosen[i : i + 1], rejected[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)
    assert loss(torch.zeros(0), torch.zeros(0)).shape == (0,)


@every_pair_loss
def test_a_nan_is_not_hidden(loss: Callable[[Tensor, Tensor], Tensor]):
    found = loss(torch.tensor([math.nan, -1.0]), torch.tensor([-1.0, -2.0]))
    assert found.isnan().tolist() == [True, False]


@every_pair_loss
def test_no_gap_makes_a_loss_or_its_slope_overflow(loss: Callable[[Tensor, Tensor], Tensor]):
    for gap in (-700.0, 700.0):
        chosen, rejected = torch.tensor([min(gap, 0.0) - 0.1], requires_grad=True), torch.tensor([min(-gap, 0.0) - 0.1])
        value = loss(chosen, rejected)
        assert torch.isfinite(value).all() and torch.isfinite(torch.autograd.grad(value.sum(), chosen)[0]).all()


def test_a_nan_answer_and_no_answers_in_kto():
    assert kto(torch.tensor([math.nan, 0.0]), torch.tensor([True, True]), 0.0, 0.1).isnan().tolist() == [True, False]
    assert kto(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0.0, 0.1).shape == (0,)
