"""What each attempt counts in rejection sampling, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from posttrain.algorithms.reject import Config, effective_share, expert_iteration, kept, kept_reward, raft, rwr, weights
from tests.algorithms.toy import made_round, tiny

NAN = math.nan
BEST, THRESHOLD, WEIGHTED = raft(), expert_iteration(), rwr(Config(beta=0.5))


def counted(config: Config, *groups: list[float], truncated: tuple[tuple[int, int], ...] = ()) -> list[list[float]]:
    values_PG = torch.tensor(groups, dtype=torch.float64)
    truncated_PG = torch.zeros_like(values_PG, dtype=torch.bool)
    for p, g in truncated:
        truncated_PG[p, g] = True
    return weights(values_PG, truncated_PG, config).tolist()


def test_best_keeps_one_of_each_group_and_of_equals_the_first():
    assert counted(BEST, [0.1, 0.9, 0.3], [0.5, 0.7, 0.7], [0.0, 0.0, 0.0]) == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_threshold_keeps_all_that_reach_it():
    assert counted(THRESHOLD, [1.0, 0.99, 1.0], [0.0, 0.5, 0.2]) == [[1, 0, 1], [0, 0, 0]]
    assert counted(replace(THRESHOLD, threshold=-1.0), [-1.0, -2.0, 3.0]) == [[1, 0, 1]]


def test_weighted_counts_e_times_as_much_for_each_beta_more():
    ((low, high),) = counted(WEIGHTED, [0.0, 0.5])
    assert high / low == pytest.approx(math.e)
    assert low + high == pytest.approx(2), "the weights of a group mean 1"
    assert counted(WEIGHTED, [0.3, 0.3, 0.3]) == [[pytest.approx(1)] * 3]


@pytest.mark.parametrize("config", [BEST, THRESHOLD, WEIGHTED], ids=lambda c: c.keep)
def test_what_could_not_be_scored_counts_nothing(config: Config):
    with_gaps, whole = counted(config, [NAN, 1.0, NAN, 0.0]), counted(config, [1.0, 0.0])
    assert [with_gaps[0][i] for i in (1, 3)] == pytest.approx(whole[0])
    assert with_gaps[0][0] == with_gaps[0][2] == 0
    assert counted(config, [NAN, NAN], [1.0, NAN]) == [[0, 0], [pytest.approx(1), 0]]


@pytest.mark.parametrize("config", [BEST, THRESHOLD, WEIGHTED], ids=lambda c: c.keep)
def test_an_attempt_that_ran_out_of_tokens_is_imitated_only_if_asked_for(config: Config):
    left, asked = (counted(c, [1.0, 0.5], truncated=((0, 0),)) for c in (config, replace(config, keep_truncated=True)))
    assert left[0][0] == 0 and asked[0][0] > 0
    assert asked == counted(config, [1.0, 0.5])
    assert counted(config, [1.0, 2.0], truncated=((0, 0), (0, 1))) == [[0, 0]]


def test_great_scores_overflow_nothing():
    assert counted(WEIGHTED, [1000.0, -1000.0, 0.0]) == [[pytest.approx(3), 0, 0]]


def test_the_effective_share_by_hand():
    share = lambda *rows: effective_share(Tensor(rows).double())  # noqa: E731
    assert share([1, 1], [1, 1]) == 1
    assert share([2, 0], [2, 0]) == 0.5
    assert share([3, 1], [0, 0]) == pytest.approx(16 / (4 * 10))
    assert share([0, 0]) == 0


def test_the_reward_that_is_imitated_is_the_weighted_mean():
    values, counts = torch.tensor([[1.0, NAN, 0.0]]).double(), torch.tensor([[3.0, 0.0, 1.0]]).double()
    assert kept_reward(values, counts) == pytest.approx(0.75)
    assert math.isnan(kept_reward(values, torch.zeros(1, 3).double()))


def test_kept_attempts_are_imitated_at_temperature_1_whatever_they_were_sampled_at():
    policy = tiny()
    round = made_round(policy, ((3, 5), (2, 4)), ((1.0, 0.0), (0.0, NAN)), temperature=0.7)
    sequences, counts = kept(round, torch.tensor([[0.0, 2.5], [1.5, 0.0]]))
    assert [len(s.tokens) for s in sequences] == [5, 2] and counts == [2.5, 1.5]
    assert {s.temperature for s in sequences} == {1.0}
    assert sequences[0].tokens == round.rollouts_PG[0][1].completions[0].token_ids
