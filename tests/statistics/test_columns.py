"""One number for each problem: ratios, and answers that differ."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.random import Generator

from posttrain import statistics

def test_contributions_average_to_the_ratio_of_sums() -> None:
    contributions_P = statistics.ratio_contributions([1.0, 6.0, math.nan, 0.0], [1, 2, 5, 0])
    assert contributions_P[:2].mean() == pytest.approx(7 / 3)
    assert np.isnan(contributions_P[2:]).all()


def test_a_ratio_without_any_spread_has_no_error() -> None:
    assert statistics.mean_over_problems(statistics.ratio_contributions([2.0, 4.0, 8.0], [1, 2, 4])).stderr == 0


def test_the_interval_of_a_ratio_covers_the_truth_in_95_of_100_runs(rng: Generator) -> None:
    def covers() -> bool:
        tokens_P = rng.integers(20, 200, 60)
        nats_P = tokens_P * rng.normal(-2, 0.4, 60)
        found = statistics.mean_over_problems(statistics.ratio_contributions(nats_P, tokens_P))
        return found.low <= -2 <= found.high

    assert np.mean([covers() for _ in range(1500)]) == pytest.approx(0.945, abs=0.02)


def test_disagreement_is_the_share_of_pairs_that_differ() -> None:
    assert statistics.disagreement(["4", "4", "5"]) == pytest.approx(2 / 3)
    assert statistics.disagreement(["4", "4"]) == 0
    assert statistics.disagreement(["4", "5"]) == 1
    assert math.isnan(statistics.disagreement(["4"]))


def test_disagreement_is_unbiased_over_every_outcome() -> None:
    chances = {"a": 0.6, "b": 0.3, "c": 0.1}
    draws = itertools.product(chances, repeat=4)
    expected = sum(math.prod(chances[x] for x in draw) * statistics.disagreement(draw) for draw in draws)
    assert expected == pytest.approx(1 - sum(p * p for p in chances.values()))
