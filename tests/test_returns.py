"""Rewards of tokens, advantages with a critic, whitening and the adaptive coefficient, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from posttrain.returns import AdaptiveKL, gae, token_rewards, whiten


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --------------------------------------------------------------------------------------------------------------- rewards


def test_a_score_is_paid_at_the_last_token_and_the_kl_at_each():
    rewards = token_rewards(t(1.0, -1.0), t(0.5, -0.5, 1.0, 2.0), [3, 1], kl_coef=0.1)
    assert rewards.tolist() == pytest.approx([-0.05, 0.05, 0.9, -1.2])


def test_an_answer_without_tokens_has_no_place_for_its_score():
    assert token_rewards(t(7.0, 1.0, 9.0), t(0.0, 0.0), [0, 2, 0], 0.1).tolist() == [0.0, 1.0]
    assert token_rewards(t(7.0), t(), [0], 0.1).shape == (0,)


def test_what_could_not_be_scored_spoils_only_its_own_end():
    rewards = token_rewards(t(math.nan, 1.0), t(0.0, 0.0, 0.0), [2, 1], 0.1)
    assert rewards.isnan().tolist() == [False, True, False]


# ------------------------------------------------------------------------------------------------------------ advantages


def test_advantages_by_hand():
    """Errors .1, .1 and .3, each carried back by half."""
    assert gae(t(0, 0, 1), t(0.5, 0.6, 0.7), [3], 1.0, 0.5).tolist() == pytest.approx([0.225, 0.25, 0.3])


def test_lambda_1_is_return_less_value_and_lambda_0_the_one_step_error():
    rewards, values = t(0, 0, 1), t(0.5, 0.6, 0.7)
    assert gae(rewards, values, [3], 0.9, 1.0).tolist() == pytest.approx([0.81 - 0.5, 0.9 - 0.6, 1 - 0.7])
    assert gae(rewards, values, [3], 0.9, 0.0).tolist() == pytest.approx([0.9 * 0.6 - 0.5, 0.9 * 0.7 - 0.6, 1 - 0.7])


def test_behind_an_end_there_is_nothing_and_behind_a_cut_what_the_critic_says():
    rewards, values = t(1, 1), t(0, 0)
    assert gae(rewards, values, [1, 1], 1.0, 0.95).tolist() == [1, 1]
    assert gae(rewards, values, [1, 1], 0.5, 0.95, t(0, 6)).tolist() == [1, 4]


def test_nothing_flows_from_one_answer_into_another():
    rewards, values = torch.randn(7), torch.randn(7)
    apart = torch.cat([gae(rewards[:4], values[:4], [4]), gae(rewards[4:], values[4:], [3])])
    assert torch.equal(gae(rewards, values, [4, 0, 3]), apart)
    rewards[5] = math.nan
    assert gae(rewards, values, [4, 3]).isnan().tolist() == [False] * 4 + [True, True, False]


def test_no_gradient_flows_through_an_advantage():
    rewards, values = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    assert not gae(rewards, values, [3], last_values=torch.randn(1, requires_grad=True)).requires_grad


# ------------------------------------------------------------------------------------------------------------- whitening


def test_whitened_by_hand():
    assert whiten(t(1, 3)).tolist() == pytest.approx([-1, 1])
    assert whiten(t(1, 3), keep_mean=True).tolist() == pytest.approx([1, 3])
    assert whiten(t(10, 30), keep_mean=True).tolist() == pytest.approx([19, 21])


def test_statistics_can_be_of_a_part():
    where = torch.tensor([True, True, False])
    assert whiten(t(1, 3, 5), where=where).tolist() == pytest.approx([-1, 1, 3])


def test_equal_numbers_and_none_are_no_division_by_zero():
    assert whiten(t(2, 2, 2)).tolist() == [0, 0, 0]
    assert whiten(t(2)).tolist() == [0]
    assert whiten(t()).shape == (0,)


# ------------------------------------------------------------------------------------------------- adaptive coefficient


@pytest.mark.parametrize(("kl", "factor"), [(6.0, 1.0), (6.6, 1 + 0.1 * 0.0256), (100.0, 1 + 0.2 * 0.0256), (0.0, 1 - 0.2 * 0.0256)])
def test_the_coefficient_moves_by_the_bounded_error_times_the_share_of_the_horizon(kl: float, factor: float):
    controller = AdaptiveKL(0.2, target_nats=6.0, horizon=10_000)
    assert controller.update(kl, n_episodes=256) == AdaptiveKL(pytest.approx(0.2 * factor), 6.0, 10_000)


@given(st.floats(0, 1e6), st.integers(1, 512))
def test_above_its_target_a_kl_costs_more_and_below_it_less(kl: float, n: int):
    moved = AdaptiveKL(0.1, target_nats=5.0).update(kl, n).coef
    assert (moved > 0.1) == (kl > 5) or math.isclose(kl, 5.0, rel_tol=1e-9)
    assert 0.1 * (1 - 0.2 * n / 10_000) <= moved <= 0.1 * (1 + 0.2 * n / 10_000) + 1e-15
