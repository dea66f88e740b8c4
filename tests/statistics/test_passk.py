"""pass@k and pass^k against fractions, enumeration and simulation."""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from numpy.random import Generator
from scipy import stats

from posttrain import statistics

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


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 2), (32, 8), (32, 32)])
def test_pass_hat_k_is_the_fraction_of_subsets_that_hold_nothing_else(n: int, k: int) -> None:
    exact = [float(Fraction(comb(c, k), comb(n, k))) for c in range(n + 1)]
    np.testing.assert_allclose(statistics.pass_hat_k(n, range(n + 1), k), exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_pass_hat_k_is_unbiased_over_every_number_of_right_attempts(k: int) -> None:
    expected = stats.binom.pmf(np.arange(9), 8, 0.7) @ statistics.pass_hat_k(8, np.arange(9), k)
    assert expected == pytest.approx(0.7**k, abs=1e-12)


def test_being_right_always_is_failing_never() -> None:
    right = np.arange(13)
    np.testing.assert_allclose(statistics.pass_hat_k(12, right, 4), 1 - statistics.pass_at_k(12, 12 - right, 4), atol=1e-12)


def test_problems_of_mixed_difficulty_are_right_k_times_more_often_than_their_mean_suggests() -> None:
    """Jensen: E[p^k] is at least (E p)^k, so that independence on the average would promise too little."""
    assert statistics.pass_hat_k(8, [8, 0], 4).mean() == 0.5 > 0.5**4


def test_pass_hat_k_says_nothing_from_fewer_attempts_and_refuses_impossible_counts() -> None:
    assert math.isnan(statistics.pass_hat_k(3, 3, 4))
    with pytest.raises(ValueError, match=r"pass\^k needs"):
        statistics.pass_hat_k(4, 5, 1)
