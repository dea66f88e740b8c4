"""Means, rates and their intervals are held against hand counts, enumeration and simulated truths."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from posttrain import statistics
from posttrain.types import Measurement

def test_the_error_is_the_spread_of_the_problem_means_by_hand() -> None:
    found = statistics.clustered_rate([[1, 0], [1, 1], [0, 0]])
    assert (found.value, found.n, found.n_unscored) == (0.5, 3, 0)
    assert found.stderr == pytest.approx(0.5 / math.sqrt(3))


def test_repeating_every_attempt_adds_no_certainty(rng: Generator) -> None:
    scores_PS = rng.integers(0, 2, (20, 4))
    assert statistics.clustered_rate(np.repeat(scores_PS, 50, axis=1)) == statistics.clustered_rate(scores_PS)


def test_what_could_not_be_scored_is_in_neither_value_nor_n_and_is_counted() -> None:
    nan = math.nan
    found = statistics.clustered_rate([[1, nan], [nan, nan], [0, 0]])
    assert found == statistics.rate_over_problems([1, 0], n_unscored=3)
    assert (found.value, found.n, found.n_unscored) == (0.5, 2, 3)


def test_every_problem_weighs_the_same_however_many_attempts_it_has() -> None:
    assert statistics.clustered_mean([[1.0], [0.0] * 9]).value == 0.5


@pytest.mark.parametrize("summary", [statistics.clustered_rate, statistics.clustered_mean])
def test_one_problem_has_a_value_and_no_error_and_none_has_neither(summary: Callable[..., Measurement]) -> None:
    one, none = summary([[1, 0]]), summary([])
    assert (one.value, one.n) == (0.5, 1)
    assert none.n == 0 and math.isnan(none.value)
    assert all(math.isnan(number) for found in (one, none) for number in (found.stderr, found.low, found.high))


def test_always_right_on_few_problems_is_not_certainty() -> None:
    found = statistics.clustered_rate([[1] * 8] * 30)
    assert (found.value, found.stderr, found.high) == (1.0, 0.0, 1.0)
    assert 0.85 < found.low < 0.9


def test_equal_values_have_no_spread_whatever_rounding_makes_of_their_mean() -> None:
    assert statistics.mean_over_problems([0.1 + 0.2] * 7).stderr == 0
    thirds = statistics.rate_over_problems([1 / 3] * 30)
    assert thirds.low < 0.25 and thirds.high > 0.45


def test_a_rate_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.rate_over_problems([0.5, 1.5])


POPULATIONS: dict[str, tuple[float, float, Callable[[Generator, tuple[int, int]], np.ndarray]]] = {
    "every problem at 50%": (0.5, 0.97, lambda rng, shape: np.full(shape, 0.5)),
    "every problem at 2%": (0.02, 1.0, lambda rng, shape: np.full(shape, 0.02)),
    "every problem at 98%": (0.98, 1.0, lambda rng, shape: np.full(shape, 0.98)),
    "rates spread out": (0.5, 0.97, lambda rng, shape: rng.beta(0.5, 0.5, shape)),
    "mostly hard": (0.1, 0.985, lambda rng, shape: rng.beta(1, 9, shape)),
    "hard, but for a few": (0.05, 0.98, lambda rng, shape: rng.beta(0.015, 0.285, shape)),
    "all or nothing": (0.1, 0.98, lambda rng, shape: (rng.random(shape) < 0.1).astype(float)),
}
"""The true rate, the most that the interval may cover, and how problems' own rates are drawn."""


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("samples", [1, 4, 32])
@pytest.mark.parametrize("n", [30, 100])
def test_the_interval_of_a_rate_covers_the_truth_in_95_of_100_runs(rng: Generator, n: int, samples: int, population: str) -> None:
    truth, most, draw = POPULATIONS[population]
    means_RP = rng.binomial(samples, draw(rng, (10_000, n))) / samples
    low, high = statistics.rate_interval(means_RP.mean(1), means_RP.std(1, ddof=1) / math.sqrt(n), n)
    assert 0.93 < ((low <= truth) & (truth <= high)).mean() < max(most, 0.981 if samples == 1 else 0)


def covered(n: int, interval: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], rates: np.ndarray) -> np.ndarray:
    """How often the interval of single attempts covers each rate, summed over every number of right ones."""
    right = np.arange(n + 1)
    low, high = interval(right)
    return np.array([stats.binom.pmf(right, n, p) @ ((low <= p) & (p <= high)) for p in rates])


def ours(right: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """`rate_interval` of single attempts."""
    rates = right / n
    return statistics.rate_interval(rates, np.sqrt(rates * (1 - rates) / (n - 1)), n)


def test_of_single_attempts_the_interval_is_wilsons() -> None:
    for n in (2, 30, 2500):
        assert np.allclose(ours(np.arange(n + 1), n), statistics.count_interval(np.arange(n + 1), n, "wilson"), atol=1e-12)


GRID = np.linspace(0.02, 0.98, 193)


@pytest.mark.parametrize(("n", "most"), [(30, 18), (60, 4), (100, 6), (164, 0), (198, 0), (300, 0), (500, 0), (1000, 0), (2500, 0)])
def test_single_attempts_are_covered_93_to_97_times_in_100_but_where_there_are_few_outcomes(n: int, most: int) -> None:
    """Exactly, at 193 rates from 2% to 98%: `most` of them may lie outside, by no more than a point."""
    found = covered(n, lambda right: ours(right, n), GRID)
    assert ((found < 0.93) | (found > 0.97)).sum() <= most and 0.92 < found.min() and found.max() < 0.981
    assert found.mean() == pytest.approx(0.95, abs=0.005)


def test_with_30_problems_no_interval_covers_93_to_97_times_in_100_at_every_rate() -> None:
    """With ends that grow with the count, the counts whose intervals hold a rate are consecutive; at ten rates of 193 no such set has 93 to 97%."""
    possible = {n: [fits(n, p) for p in GRID] for n in (30, 60)}
    assert possible[30].count(False) == 10 and possible[60].count(False) == 0
    found = covered(30, lambda right: ours(right, 30), GRID)
    assert not any(0.93 <= share <= 0.97 for share, fit in zip(found, possible[30], strict=True) if not fit)


def fits(n: int, p: float) -> bool:
    """Whether any set of consecutive counts has a chance of .93 to .97."""
    below = np.concatenate([[0.0], stats.binom.cdf(np.arange(n + 1), n, p)])
    chances = below[None] - below[:, None]
    return bool(((chances >= 0.93) & (chances <= 0.97)).any())


@pytest.mark.parametrize("samples", [1, 4, 16])
@pytest.mark.parametrize("n", [30, 60, 100, 300, 1000, 2500])
def test_over_all_rates_and_all_spreads_of_them_95_means_93_to_97(rng: Generator, n: int, samples: int) -> None:
    """Rates uniform from .05 to .95, on problems that are nearly all or nothing, mixed, or alike; 2000 evaluations."""
    truth_R1, spread_R1 = rng.uniform(0.05, 0.95, (2000, 1)), rng.choice([0.3, 1, 3, 1e6], (2000, 1))
    means_RP = rng.binomial(samples, rng.beta(truth_R1 * spread_R1, (1 - truth_R1) * spread_R1, (2000, n))) / samples
    low, high = statistics.rate_interval(means_RP.mean(1), means_RP.std(1, ddof=1) / math.sqrt(n), n)
    assert 0.93 < ((low <= truth_R1[:, 0]) & (truth_R1[:, 0] <= high)).mean() < 0.97


def test_the_normal_interval_of_textbooks_covers_too_little_and_the_others_do_not() -> None:
    at = lambda method, p: covered(30, lambda right: statistics.count_interval(right, 30, method), np.array([p]))[0]  # noqa: E731
    assert at("wald", 0.95) == pytest.approx(0.782, abs=0.001)
    assert at("wald", 0.02) < 0.46
    assert all(at(method, 0.95) > 0.93 for method in ("wilson", "jeffreys", "exact"))
    rates = np.linspace(0.02, 0.98, 33)
    assert covered(30, lambda right: statistics.count_interval(right, 30, "exact"), rates).min() >= 0.95, "exact never covers less"


def test_without_any_success_the_interval_of_a_count_is_that_of_the_rule_of_three() -> None:
    assert statistics.count_interval(0, 100, "exact")[1] == pytest.approx(1 - 0.025 ** (1 / 100), abs=1e-9)
    assert statistics.count_interval(0, 100, "wald")[1] == 0, "which is the trouble with it"


def test_an_interval_that_takes_attempts_for_problems_would_cover_far_less(rng: Generator) -> None:
    means_RP = rng.binomial(32, rng.beta(0.5, 0.5, (4000, 30))) / 32
    rate = means_RP.mean(1)
    low, high = statistics.rate_interval(rate, np.sqrt(rate * (1 - rate) / (30 * 32)), 30 * 32)
    assert ((low <= 0.5) & (high >= 0.5)).mean() < 0.45


def test_the_summary_uses_the_interval_that_was_simulated(rng: Generator) -> None:
    means_P = rng.random(30)
    found = statistics.rate_over_problems(means_P)
    assert (found.low, found.high) == statistics.rate_interval(means_P.mean(), means_P.std(ddof=1) / math.sqrt(30), 30)


def test_the_interval_of_a_mean_covers_the_truth_in_95_of_100_runs(rng: Generator) -> None:
    lengths_RPS = rng.normal(100, 20, (1500, 30, 1)) + rng.normal(0, 5, (1500, 30, 4))
    found = [statistics.clustered_mean(lengths_PS) for lengths_PS in lengths_RPS]
    assert np.mean([m.low <= 100 <= m.high for m in found]) == pytest.approx(0.95, abs=0.02)


# ------------------------------------------------------------------------------------------------------------- clusters


def test_the_clustered_error_is_millers_sum_over_pairs_within_clusters_by_hand(rng: Generator) -> None:
    """2411.00640, section 2.2: SE² = SE_CLT² + the sum over pairs of one cluster / n², but for the C / (C - 1) and n / (n - 1)."""
    values_P, clusters_P = rng.random(12), [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4]
    centred = values_P - values_P.mean()
    pairs = sum(centred[i] * centred[j] for i in range(12) for j in range(12) if clusters_P[i] == clusters_P[j])
    found = statistics.mean_over_problems(values_P, clusters=clusters_P)
    assert found.value == pytest.approx(values_P.mean()) and found.n == 5
    assert found.stderr == pytest.approx(math.sqrt(pairs * 5 / 4) / 12)


def test_clusters_of_one_change_nothing_and_clusters_of_copies_count_once(rng: Generator) -> None:
    rates_P = rng.random(20)
    alone = statistics.rate_over_problems(rates_P)
    assert statistics.rate_over_problems(rates_P, clusters=range(20)) == pytest.approx(alone)
    copied = statistics.rate_over_problems(np.repeat(rates_P, 7), clusters=np.repeat(np.arange(20), 7).tolist())
    assert (copied.value, copied.stderr, copied.low, copied.high, copied.n) == pytest.approx(
        (alone.value, alone.stderr, alone.low, alone.high, 20)
    )


def test_what_is_not_measured_leaves_its_cluster() -> None:
    found = statistics.mean_over_problems([1.0, math.nan, 3.0, 5.0], clusters=["a", "b", "a", "c"])
    assert (found.value, found.n) == (3, 2)
    with pytest.raises(ValueError, match="cluster labels"):
        statistics.mean_over_problems([1.0, 2.0], clusters=["a"])


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.9])
def test_the_clustered_error_exceeds_the_naive_one_by_the_root_of_the_design_effect(rng: Generator, rho: float) -> None:
    passages, questions = 400, 10
    shared = rng.normal(0, math.sqrt(rho), (passages, 1)) + rng.normal(0, math.sqrt(1 - rho), (passages, questions))
    clustered = statistics.mean_over_problems(shared.ravel(), clusters=np.repeat(np.arange(passages), questions).tolist())
    naive = statistics.mean_over_problems(shared.ravel())
    assert clustered.stderr / naive.stderr == pytest.approx(math.sqrt(1 + (questions - 1) * rho), rel=0.08)


def test_the_interval_over_clusters_covers_the_truth_and_the_one_over_problems_does_not(rng: Generator) -> None:
    labels = np.repeat(np.arange(30), 10).tolist()

    def both() -> tuple[Measurement, Measurement]:
        passage = rng.beta(1, 1, 30)
        right_P = rng.random(300) < np.repeat(passage, 10)
        return statistics.rate_over_problems(right_P), statistics.rate_over_problems(right_P, clusters=labels)

    found = [both() for _ in range(1200)]
    naive, clustered = (np.mean([pair[i].low <= 0.5 <= pair[i].high for pair in found]) for i in (0, 1))
    assert naive < 0.75 and clustered == pytest.approx(0.95, abs=0.02)
