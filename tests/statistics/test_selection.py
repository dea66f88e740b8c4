"""The best of many owes something to luck: how much, and a value that does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Generator

from posttrain import statistics


def test_the_expected_maximum_by_hand() -> None:
    """Of two normals 1 / sqrt(pi), of three 3 / (2 sqrt(pi)); of ten 1.53875 in every table."""
    found = [statistics.expected_maximum(m) for m in (1, 2, 3, 10)]
    assert found == pytest.approx([0, 1 / math.sqrt(math.pi), 1.5 / math.sqrt(math.pi), 1.538753], abs=1e-6)
    assert statistics.expected_maximum(10, 0.75) == pytest.approx(1.538753 / 2, abs=1e-6)
    assert statistics.expected_maximum(10, 1.0) == 0
    with pytest.raises(ValueError, match="at least one"):
        statistics.expected_maximum(0)


def test_the_best_of_equal_checkpoints_looks_better_by_as_much_as_chance_makes_it_and_the_honest_value_does_not(rng: Generator) -> None:
    m, n = 10, 100
    found = [statistics.select(rng.random((m, n)) < 0.5, resamples=100) for _ in range(300)]
    luck = statistics.expected_maximum(m) * 0.05
    assert np.mean([s.naive.value for s in found]) == pytest.approx(0.5 + luck, abs=0.01)
    assert np.mean([s.honest.value for s in found]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([s.bias for s in found]) == pytest.approx(luck, abs=0.015)


def test_the_honest_interval_covers_the_truth_and_the_naive_one_does_not(rng: Generator) -> None:
    found = [statistics.select(rng.random((20, 60)) < 0.5, resamples=200) for _ in range(200)]
    honest, naive = (np.mean([m.low <= 0.5 <= m.high for m in side]) for side in zip(*((s.honest, s.naive) for s in found), strict=True))
    assert naive < 0.7 and honest > 0.95


def test_a_checkpoint_that_is_far_better_keeps_its_value() -> None:
    scores_MP = np.array([[0.0, 1.0] * 20, [1.0, 1.0] * 20])
    found = statistics.select(scores_MP)
    assert (found.best, found.naive.value, found.honest.value, found.bias) == (1, 1, 1, 0)


def test_the_first_of_equals_is_the_best_and_a_model_without_scores_never_is() -> None:
    assert statistics.select(np.ones((3, 4))).best == 0
    assert statistics.select(np.array([[math.nan] * 4, [0.0] * 4])).best == 1


def test_one_problem_cannot_both_choose_and_measure() -> None:
    with pytest.raises(ValueError, match="two problems"):
        statistics.select(np.ones((3, 1)))
    with pytest.raises(ValueError, match="no model has a score"):
        statistics.select(np.full((2, 3), math.nan))
