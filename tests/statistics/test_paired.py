"""Two models, on the same problems and on different ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Generator
from scipy import special, stats

from posttrain import statistics

def test_values_less_themselves_are_exactly_0_with_no_error(rng: Generator) -> None:
    values_P = rng.normal(size=30)
    found = statistics.paired_difference(values_P, values_P)
    assert (found.value, found.stderr, found.low, found.high) == (0, 0, 0, 0)


def test_pairing_shrinks_the_interval_by_what_the_problems_share(rng: Generator) -> None:
    difficulty_P = rng.beta(1, 1, 100)
    before_P, after_P = difficulty_P * 0.9, difficulty_P * 0.9 + 0.1 * rng.random(100)
    for difference in (statistics.paired_rate_difference, statistics.paired_difference):
        paired = difference(before_P, after_P)
        shuffled = difference(before_P, rng.permutation(after_P))
        assert paired.value == pytest.approx(shuffled.value)
        assert paired.high - paired.low < 0.25 * (shuffled.high - shuffled.low)


def test_the_difference_is_over_the_problems_that_both_could_be_scored_on() -> None:
    found = statistics.paired_difference([0, math.nan, 1, 0], [1, 1, math.nan, 0])
    assert (found.value, found.n) == (0.5, 2)


def test_two_models_that_are_never_right_may_still_differ() -> None:
    found = statistics.paired_rate_difference([0.0] * 30, [0.0] * 30)
    assert found.value == 0 and found.low < -0.1 and found.high > 0.1


def test_two_models_that_agree_on_a_few_problems_may_differ_on_others() -> None:
    few, many = (statistics.paired_rate_difference([0.0, 1.0] * n, [0.0, 1.0] * n) for n in (2, 200))
    assert few.value == 0 and few.low < -0.1 and few.high > 0.1
    assert many.value == 0 and -0.01 < many.low < 0 < many.high < 0.01


def test_a_difference_of_rates_stays_within_what_rates_allow() -> None:
    for before, after in (([0.0, 0.0, 0.1], [1.0, 1.0, 0.9]), ([1.0, 1.0, 0.9], [0.0, 0.0, 0.1])):
        found = statistics.paired_rate_difference(before, after)
        assert -1 <= found.low <= found.value <= found.high <= 1


def test_pairing_different_problems_is_refused() -> None:
    with pytest.raises(ValueError, match="same problems"):
        statistics.paired_difference([0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    ("before", "after", "spread", "samples"),
    [(0.02, 0.05, 5, 8), (0.06, 0.2, 3, 4), (0.5, 0.6, 1, 8), (0.9, 0.98, 3, 8), (0.02, 0.9, 5, 8)],
)
def test_the_interval_of_a_paired_difference_covers_the_truth_in_95_of_100_runs(
    rng: Generator, before: float, after: float, spread: float, samples: int
) -> None:
    difficulty_RP = rng.random((700, 30))
    rates = [stats.beta.ppf(difficulty_RP, mean * spread, (1 - mean) * spread) for mean in (before, after)]
    was_RP, now_RP = (rng.binomial(samples, rate_RP) / samples for rate_RP in rates)
    found = [statistics.paired_rate_difference(was_P, now_P) for was_P, now_P in zip(was_RP, now_RP, strict=True)]
    assert 0.93 < np.mean([m.low <= after - before <= m.high for m in found])
    assert np.mean([m.high - m.low for m in found]) < 0.32


@pytest.mark.parametrize("samples", [1, 4, 16])
@pytest.mark.parametrize("n", [30, 100, 300, 1000])
def test_over_all_rates_and_all_spreads_of_them_95_means_93_to_97(rng: Generator, n: int, samples: int) -> None:
    """Two models that find nearly the same problems hard, the second better by up to 1 in log-odds; 1200 evaluations."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(81)

    def holds(sigma: float) -> bool:
        mus, z = special.logit(rng.uniform(0.05, 0.95)) + np.array([0.0, rng.uniform()]), rng.normal(size=(2, n))
        before, after = (rng.binomial(samples, special.expit(mu + sigma * hard)) / samples for mu, hard in zip(mus, (z[0], 0.8 * z[0] + 0.6 * z[1])))
        was, now = (weights @ special.expit(mu + sigma * nodes) / weights.sum() for mu in mus)
        found = statistics.paired_rate_difference(before, after)
        return found.low <= now - was <= found.high

    assert 0.93 < np.mean([holds(sigma) for sigma in (0.0, 1.0, 3.0) for _ in range(400)]) < 0.97


def test_a_contrast_is_what_the_second_pair_changes_more_than_the_first() -> None:
    first, second = ([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, math.nan]), ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0])
    found = statistics.paired_rate_contrast(first, second)
    assert found.value == pytest.approx((1 - 1 + 1) / 3) and found.n == 3 and found.low < found.value < found.high
    still = statistics.paired_rate_contrast(([0.0] * 30,) * 2, ([0.0] * 30,) * 2)
    assert still.value == 0 and -0.3 < still.low < 0 < still.high < 0.3
    assert statistics.paired_rate_contrast(first, second, clusters=["a", "a", "b", "b"]).n == 2


def test_the_interval_of_a_contrast_covers_the_truth_in_95_of_100_runs(rng: Generator) -> None:
    base_RP = rng.beta(1, 1, (400, 40))
    rates = [base_RP, 0.8 * base_RP, 0.9 * base_RP, 0.9 * 0.5 * base_RP]
    was, used, now, now_used = (rng.binomial(4, rate_RP) / 4 for rate_RP in rates)
    found = [statistics.paired_rate_contrast(*pairs) for pairs in zip(zip(was, used), zip(now, now_used))]
    truth = -0.45 * 0.5 + 0.2 * 0.5
    assert 0.93 < np.mean([m.low <= truth <= m.high for m in found]) < 0.985
    assert np.mean([m.high - m.low for m in found]) < 0.3


def test_pairing_within_clusters_is_cluster_robust() -> None:
    before, after, labels = [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]
    found = statistics.paired_difference(before, after, clusters=labels)
    assert (found.value, found.n) == (0.5, 2)
    assert found.stderr == pytest.approx(0.5)
    rates = statistics.paired_rate_difference(before, after, clusters=labels)
    assert rates.n == 2 and rates.low < statistics.paired_rate_difference(before, after).low


# --------------------------------------------------------------------------------------------------- different problems


def test_different_problems_are_compared_as_two_samples(rng: Generator) -> None:
    before, after = rng.normal(1, 2, 40), rng.normal(3, 1, 25)
    found = statistics.unpaired_difference(before, after, "tokens")
    welch = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert (found.value, found.n, found.unit) == (pytest.approx(after.mean() - before.mean()), 25, "tokens")


def test_pairing_is_worth_what_the_problems_share(rng: Generator) -> None:
    difficulty_P = rng.beta(0.5, 0.5, 100)
    after_P = np.clip(difficulty_P + 0.05, 0, 1)
    paired, apart = (d(difficulty_P, after_P) for d in (statistics.paired_rate_difference, statistics.unpaired_rate_difference))
    assert paired.value == pytest.approx(apart.value)
    assert apart.high - apart.low > 3 * (paired.high - paired.low)


def test_the_interval_of_an_unpaired_difference_covers_the_truth_in_95_of_100_runs(rng: Generator) -> None:
    def covers() -> bool:
        before, after = (rng.binomial(8, rng.beta(3 * p, 3 * (1 - p), n)) / 8 for p, n in ((0.1, 30), (0.3, 50)))
        found = statistics.unpaired_rate_difference(before, after)
        return found.low <= 0.2 <= found.high

    assert np.mean([covers() for _ in range(1000)]) == pytest.approx(0.955, abs=0.02)


def test_two_samples_without_spread_still_have_an_interval_of_their_rates() -> None:
    found = statistics.unpaired_rate_difference([0.0] * 30, [0.0] * 20)
    assert found.low < -0.1 and found.high > 0.1
    assert math.isnan(statistics.unpaired_rate_difference([0.0], [0.5, 1.0]).low)
