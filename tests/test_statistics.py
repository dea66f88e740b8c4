"""The error bars are held against hand counts, exact enumeration and simulated truths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from posttrain import statistics
from posttrain.types import Measurement


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(20240)


# ----------------------------------------------------------------------------------------------------------- pass at k


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 2), (32, 8), (32, 32), (256, 100), (10_000, 64)])
def test_pass_at_k_is_the_fraction_of_subsets_that_hold_a_right_attempt(n: int, k: int) -> None:
    right = sorted({0, 1, 2, n // 2, n - 1, n} & set(range(n + 1)))
    exact = [float(1 - Fraction(comb(n - c, k), comb(n, k))) for c in right]
    np.testing.assert_allclose(statistics.pass_at_k(n, right, k), exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_pass_at_k_is_unbiased_over_every_number_of_right_attempts(k: int, p: float) -> None:
    right = np.arange(9)
    expected = stats.binom.pmf(right, 8, p) @ statistics.pass_at_k(8, right, k)
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


def test_pass_at_k_agrees_with_drawing_k_attempts_again_and_again(rng: Generator) -> None:
    right = rng.permuted(np.tile(np.arange(12) < 3, (40_000, 1)), axis=1)
    drawn = right[:, :4].any(1)
    assert drawn.mean() == pytest.approx(float(statistics.pass_at_k(12, 3, 4)), abs=4 * drawn.std() / math.sqrt(drawn.size))


def test_the_plug_in_estimate_of_pass_at_k_is_biased_and_ours_is_not(rng: Generator) -> None:
    right = rng.binomial(8, 0.1, 40_000)
    truth = 1 - 0.9**4
    assert statistics.pass_at_k(8, right, 4).mean() == pytest.approx(truth, abs=0.006)
    assert abs((1 - (1 - right / 8) ** 4).mean() - truth) > 0.03


def test_fewer_than_k_attempts_say_nothing_about_k() -> None:
    np.testing.assert_array_equal(statistics.pass_at_k([3, 4, 0], [3, 4, 0], 4), [math.nan, 1.0, math.nan])


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k needs"):
        statistics.pass_at_k(n, c, k)


# ------------------------------------------------------------------------------------------------ means and their error


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


POPULATIONS: dict[str, tuple[float, Callable[[Generator, tuple[int, int]], np.ndarray]]] = {
    "every problem at 50%": (0.5, lambda rng, shape: np.full(shape, 0.5)),
    "every problem at 2%": (0.02, lambda rng, shape: np.full(shape, 0.02)),
    "every problem at 98%": (0.98, lambda rng, shape: np.full(shape, 0.98)),
    "rates spread out": (0.5, lambda rng, shape: rng.beta(0.5, 0.5, shape)),
    "mostly hard": (0.1, lambda rng, shape: rng.beta(1, 9, shape)),
    "all or nothing": (0.1, lambda rng, shape: (rng.random(shape) < 0.1).astype(float)),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("samples", [1, 4, 32])
@pytest.mark.parametrize("n", [30, 100])
def test_the_interval_of_a_rate_covers_the_truth_in_95_of_100_runs(rng: Generator, n: int, samples: int, population: str) -> None:
    truth, draw = POPULATIONS[population]
    means_RP = rng.binomial(samples, draw(rng, (20_000, n))) / samples
    low, high = statistics.rate_interval(means_RP.mean(1), means_RP.std(1, ddof=1) / math.sqrt(n), n)
    assert 0.925 < ((low <= truth) & (truth <= high)).mean() < 0.985


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


# --------------------------------------------------------------------------------------------------------------- ratios


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


# ----------------------------------------------------------------------------------------------------- answers that differ


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


# -------------------------------------------------------------------------------------------------- paired differences


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
    assert 0.92 < np.mean([m.low <= after - before <= m.high for m in found]) < 0.98


# ------------------------------------------------------------------------------------------------------------- tests


def test_the_sign_flip_test_counts_every_pattern_of_signs(rng: Generator) -> None:
    differences = rng.integers(-3, 5, 8) / 8
    flipped = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.array(flipped) >= abs(differences.sum()) - 1e-12)
    assert statistics.sign_flip_p_value(np.zeros(8), differences) == pytest.approx(exact)


def test_without_a_true_difference_small_p_values_are_as_rare_as_they_say(rng: Generator) -> None:
    p_values = np.array([statistics.sign_flip_p_value(*rng.random((2, 9))) for _ in range(400)])
    assert np.mean(p_values <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_many_problems_are_tested_by_seeded_draws_and_the_p_value_is_never_0(rng: Generator) -> None:
    before_P = rng.random(60)
    p_value = statistics.sign_flip_p_value(before_P, before_P + 1, resamples=999)
    assert p_value == statistics.sign_flip_p_value(before_P, before_P + 1, resamples=999) == pytest.approx(2 / 1000)


def test_without_differences_nothing_is_significant_and_without_problems_nothing_is_known() -> None:
    assert statistics.sign_flip_p_value([0.5, 0.5], [0.5, 0.5]) == 1
    assert statistics.sign_flip_p_value([0.0, 1.0], [1.0, 1.0]) == 1
    assert math.isnan(statistics.sign_flip_p_value([math.nan], [1.0]))


def test_a_problem_is_named_as_changed_only_where_its_attempts_leave_no_doubt() -> None:
    right_before, n_before = [0, 8, 4, 0, 0], [8, 8, 8, 8, 0]
    right_after, n_after = [8, 0, 5, 2, 8], [8, 8, 8, 8, 8]
    np.testing.assert_array_equal(statistics.significant_changes(right_before, n_before, right_after, n_after), [1, -1, 0, 0, 0])


def test_what_is_doubtful_alone_is_not_when_every_problem_shows_it() -> None:
    """5 of 8 after 0 of 8 has p = .026: too much for one problem among ten, enough where all ten agree."""
    n_P, never_P = np.full(10, 8), np.zeros(10, int)
    np.testing.assert_array_equal(statistics.significant_changes(never_P, n_P, np.full(10, 5), n_P), np.ones(10))
    np.testing.assert_array_equal(statistics.significant_changes(never_P, n_P, [5] + [0] * 9, n_P), np.zeros(10))


def test_among_equal_models_hardly_any_run_names_a_changed_problem(rng: Generator) -> None:
    n_P = np.full(50, 16)
    pairs = rng.binomial(16, 0.4, (300, 2, 50))
    assert np.mean([statistics.significant_changes(was_P, n_P, now_P, n_P).any() for was_P, now_P in pairs]) < 0.07


def test_problems_without_attempts_are_not_tested() -> None:
    np.testing.assert_array_equal(statistics.significant_changes([0, 0], [0, 0], [0, 8], [0, 8]), [0, 0])
