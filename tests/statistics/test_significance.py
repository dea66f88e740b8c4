"""Tests of one difference, and of many at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from posttrain import statistics

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


def test_mcnemar_tosses_a_coin_for_each_problem_that_differs() -> None:
    """Eight gained and one lost of 40: 2 P(X <= 1) with X ~ B(9, 1/2) = 20/512."""
    before, after = [0] * 8 + [1] + [1] * 20 + [0] * 11, [1] * 8 + [0] + [1] * 20 + [0] * 11
    assert statistics.mcnemar_p_value(before, after) == pytest.approx(20 / 512)
    assert statistics.sign_flip_p_value(before, after) == pytest.approx(20 / 512), "the sign-flip test of single attempts is McNemar's"
    assert math.isnan(statistics.mcnemar_p_value([math.nan], [1]))
    with pytest.raises(ValueError, match="single attempts"):
        statistics.mcnemar_p_value([0.5], [1])


def test_the_sign_flip_test_flips_clusters_as_a_whole() -> None:
    before, after, labels = [0.0] * 12, [1.0] * 6 + [0.5] * 6, list("aabbccddeeff")
    assert statistics.sign_flip_p_value(before, after, clusters=labels) == pytest.approx(2 / 2**6)
    assert statistics.sign_flip_p_value(before, after) == pytest.approx(2 / 2**12)


def test_a_benchmark_is_saturated_when_fewer_than_six_problems_leave_anything_to_gain() -> None:
    assert statistics.is_saturated([1.0] * 95 + [0.5] * 5)
    assert not statistics.is_saturated([1.0] * 94 + [0.5] * 6)
    assert statistics.is_saturated([0.25] * 50, of=0.25) and not statistics.is_saturated([])


# ----------------------------------------------------------------------------------------------------------- many tests


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less_and_never_falls() -> None:
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.benjamini_hochberg([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02])


def test_what_was_not_tested_is_no_test() -> None:
    np.testing.assert_allclose(statistics.holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])
    assert np.isnan(statistics.benjamini_hochberg([math.nan])).all() and statistics.holm([]).size == 0


def test_among_twenty_equal_tasks_unadjusted_tests_find_something_and_adjusted_ones_hardly_ever(rng: Generator) -> None:
    p_values = rng.random((1000, 20))
    assert (p_values.min(1) < 0.05).mean() == pytest.approx(1 - 0.95**20, abs=0.04)
    assert (20 * p_values.min(1) < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert statistics.holm(p_values[0]).min() == pytest.approx(min(1, 20 * p_values[0].min())), "the smallest times the number of tests"


def test_problems_gained_by_chance_alone_are_counted_exactly() -> None:
    """Of one right attempt in two and two, half fall after; of two, C(2,2) / C(4,2); of three, some fall before; of none, none."""
    found = statistics.changes_by_chance([0, 0, 1, 0], [2] * 4, [1, 2, 2, 0], [2] * 4)
    assert found.expected == pytest.approx(1 / 2 + 1 / 6)
    assert found.p_value == pytest.approx(1 / 2 * 1 / 6), "both were gained, and no more can be"
    none = statistics.changes_by_chance([1, 0], [2, 0], [0, 1], [2, 2])
    assert (none.expected, none.p_value) == (1 / 2, 1), "a problem without attempts before is left out"


def test_models_that_are_one_gain_as_many_problems_as_chance_says() -> None:
    dice = np.random.default_rng(0)
    rates = dice.beta(0.3, 1.5, 80)
    seen, expected, small = [], [], []
    for _ in range(150):
        before, after = dice.binomial(4, rates), dice.binomial(4, rates)
        found = statistics.changes_by_chance(before, [4] * 80, after, [4] * 80)
        seen.append(((before == 0) & (after > 0)).sum())
        expected.append(found.expected)
        small.append(found.p_value <= 0.05)
    assert np.mean(seen) == pytest.approx(np.mean(expected), rel=0.05)
    assert np.mean(small) <= 0.08
