"""Advantages by hand, and what they may never do: blow up on rounding, learn from what was not scored, hide a lone group."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posttrain.advantages import group_mean, has_signal, leave_one_out, max_rl, std_scaled

ALL = [group_mean, leave_one_out, std_scaled, max_rl]
every_advantage = pytest.mark.parametrize("advantage", ALL, ids=lambda f: f.__name__)


def rewards(*groups: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(groups, dtype=dtype)


def test_group_mean_by_hand():
    assert group_mean(rewards([1, 0, 0, 0])).tolist() == [[0.75, -0.25, -0.25, -0.25]]


def test_leave_one_out_by_hand():
    torch.testing.assert_close(leave_one_out(rewards([1, 0, 0, 0])), rewards([1, -1 / 3, -1 / 3, -1 / 3]))


@pytest.mark.parametrize(("ddof", "std"), [(0, math.sqrt(3 / 16)), (1, math.sqrt(1 / 4))])
def test_std_scaled_by_hand(ddof, std):
    scaled = std_scaled(rewards([1, 0, 0, 0]), eps=1e-6, ddof=ddof)
    torch.testing.assert_close(scaled, rewards([0.75, -0.25, -0.25, -0.25]) / (std + 1e-6))


def test_max_rl_by_hand():
    assert max_rl(rewards([1, 0, 0, 0], [1, 1, 0, 0])).tolist() == [[3, -1, -1, -1], [1, 1, -1, -1]]


@every_advantage
def test_each_group_is_judged_by_itself(advantage):
    both = rewards([1, 0, 0, 0], [0, 5, 1, 2])
    assert torch.equal(advantage(both), torch.cat([advantage(both[:1]), advantage(both[1:])]))


@every_advantage
def test_what_could_not_be_scored_is_in_no_mean_and_gets_nothing(advantage):
    with_gaps = advantage(rewards([1, math.nan, 0, 0, math.nan, 0]))
    scored = [0, 2, 3, 5]
    assert torch.equal(with_gaps[:, scored], advantage(rewards([1, 0, 0, 0])))
    assert with_gaps[0, [1, 4]].tolist() == [0, 0]


@every_advantage
@pytest.mark.parametrize("group", [[1, math.nan, math.nan], [math.nan] * 3])
def test_fewer_than_two_scored_attempts_have_nothing_to_be_compared_with(advantage, group):
    assert advantage(rewards(group)).tolist() == [[0, 0, 0]]


@every_advantage
@pytest.mark.parametrize("size", [0, 1])
def test_a_group_of_one_is_refused(advantage, size):
    with pytest.raises(ValueError, match="groups of 2 or more"):
        advantage(torch.ones(4, size))


@every_advantage
@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
def test_an_infinite_reward_is_refused(advantage, infinite):
    with pytest.raises(ValueError, match="infinite"):
        advantage(rewards([infinite, 0, 1]))


@every_advantage
def test_no_problems_have_no_advantages(advantage):
    assert advantage(torch.zeros(0, 4)).shape == (0, 4)


@every_advantage
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", range(1, 11))
@pytest.mark.parametrize("size", [3, 8, 24])
def test_equal_rewards_give_exact_zeros_whatever_their_mean_rounds_to(advantage, dtype, k, size):
    assert not advantage(torch.full((2, size), 0.1 * k, dtype=dtype)).any()


@every_advantage
def test_rewards_that_differ_by_rounding_alone_are_equal(advantage):
    almost = [0.1 + 0.2, 0.3, 3 * 0.1, 0.3]
    assert len(set(almost)) > 1
    assert not advantage(rewards(almost, dtype=torch.float64)).any()


@every_advantage
def test_a_small_difference_that_is_more_than_rounding_still_counts(advantage):
    assert has_signal(advantage(rewards([0.5, 0.5001], dtype=torch.float32))).all()


@given(st.lists(st.integers(0, 8), min_size=2, max_size=9))
def test_the_mean_with_self_is_leave_one_out_shrunk_by_one_over_the_group(values):
    group = rewards([v / 8 for v in values], dtype=torch.float64)
    n = len(values)
    torch.testing.assert_close(group_mean(group), leave_one_out(group) * (n - 1) / n)


@given(st.lists(st.integers(0, 8), min_size=2, max_size=9))
def test_advantages_of_a_group_sum_to_zero(values):
    group = rewards([v / 8 for v in values], dtype=torch.float64)
    for advantage in ALL:
        assert advantage(group).sum().abs() < 1e-9


@given(st.lists(st.integers(0, 8), min_size=2, max_size=9), st.integers(-5, 5))
def test_adding_a_constant_to_every_reward_changes_nothing_where_nothing_divides_by_the_mean(values, shift):
    group = rewards([v / 8 for v in values], dtype=torch.float64)
    for advantage in (group_mean, leave_one_out, std_scaled):
        torch.testing.assert_close(advantage(group), advantage(group + shift))


def test_scaling_by_std_forgets_the_scale_of_the_rewards():
    group = rewards([1, 0, 0, 3], dtype=torch.float64)
    torch.testing.assert_close(std_scaled(group, eps=1e-12), std_scaled(1000 * group, eps=1e-12))


def test_max_rl_refuses_a_negative_mean_even_where_all_rewards_are_equal():
    for group in ([-1, 0], [-1, -1]):
        with pytest.raises(ValueError, match="mean is negative"):
            max_rl(rewards([1, 0], group))


def test_max_rl_gives_nothing_where_nothing_succeeded():
    assert max_rl(rewards([0, 0, 0])).tolist() == [[0, 0, 0]]


def test_a_signal_is_any_advantage_that_is_not_zero():
    advantages = group_mean(rewards([1, 1], [1, 0], [0, 0], [math.nan, 1]))
    assert has_signal(advantages).tolist() == [False, True, False, False]


def test_shapes_are_checked_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError, match="rewards_PG"):
        group_mean(torch.ones(4))
    with pytest.raises(jaxtyping.TypeCheckError, match="rewards_PG"):
        group_mean(torch.ones(4, 2, dtype=torch.long))
