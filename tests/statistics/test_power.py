"""How many problems a difference takes: the published examples, the identities, and the verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.random import Generator

from posttrain import statistics
from posttrain.types import Measurement


def test_the_published_sample_size_for_three_points_is_969() -> None:
    """Miller, 2411.00640, section 5: w² = 1/9, no noise of sampling, three points, 80% power."""
    assert statistics.problems_needed(0.03, statistics.difference_variance(1 / 9)) == 969


def test_the_published_gain_from_ten_samples_on_198_problems() -> None:
    """The same section: w² = 1/9 and s² = 1/6, one sample and ten; printed there as 13.2% and 7.5%, cut and not rounded."""
    one, ten = (statistics.detectable_effect(198, statistics.difference_variance(1 / 9, 1 / 6, 1 / 6, k, k)) for k in (1, 10))
    assert (one, ten) == (pytest.approx(0.13273, abs=1e-5), pytest.approx(0.07567, abs=1e-5))
    assert [math.floor(1000 * effect) / 10 for effect in (one, ten)] == [13.2, 7.5]


def test_two_samples_in_place_of_one_cut_the_published_variance_by_a_third_and_more_by_no_more_than_it_holds() -> None:
    one, two, many = (statistics.difference_variance(1 / 9, 1 / 9, 1 / 9, k, k) for k in (1, 2, 10**9))
    assert two / one == pytest.approx(2 / 3) and many == pytest.approx(1 / 9)


def test_the_number_of_problems_and_the_detectable_effect_are_inverses() -> None:
    n = statistics.problems_needed(0.05, 0.2)
    assert statistics.detectable_effect(n, 0.2) <= 0.05 < statistics.detectable_effect(n - 1, 0.2)
    assert statistics.problems_needed(-0.05, 0.2) == n
    assert statistics.power_of(0.05, n, 0.2) == pytest.approx(0.8, abs=0.001)
    assert statistics.power_of(0.0, n, 0.2) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="no number of problems"):
        statistics.problems_needed(0.0, 0.2)


def test_a_true_difference_is_found_as_often_as_the_power_says(rng: Generator) -> None:
    n = statistics.problems_needed(0.1, 0.25)
    found = rng.normal(0.1, 0.5, (4000, n))
    shown = np.abs(found.mean(1)) > 1.96 * found.std(1, ddof=1) / math.sqrt(n)
    assert shown.mean() == pytest.approx(0.8, abs=0.025)


# ---------------------------------------------------------------------------------------------------------- the verdict


def difference(value: float, half: float, n: int = 100) -> Measurement:
    return Measurement(value, half / 1.984, value - half, value + half, n)


def test_an_interval_that_leaves_out_0_is_better_or_worse_by_what_is_welcome() -> None:
    assert statistics.verdict(difference(0.2, 0.1)).outcome == "better"
    assert statistics.verdict(difference(-0.2, 0.1)).outcome == "worse"
    assert statistics.verdict(difference(-0.2, 0.1), "lower").outcome == "better"
    assert statistics.verdict(difference(0.1, 0.1)).outcome == "tied"


def test_a_p_value_that_was_adjusted_can_withdraw_what_an_interval_shows() -> None:
    assert statistics.verdict(difference(0.2, 0.1), p_value=0.04).outcome == "better"
    assert statistics.verdict(difference(0.2, 0.1), p_value=0.06).outcome == "tied"


def test_a_tie_says_how_many_problems_would_tell() -> None:
    """Half the interval's half-width takes (2.80 / 1.96 / 0.5)² = 8.2 times as many, a little less for Student's quantile."""
    found = statistics.verdict(difference(0.05, 0.1))
    assert found.outcome == "tied" and found.n_needed == pytest.approx(100 * (2.8016 / 1.984 / 0.5) ** 2, abs=1)
    assert found.detectable == pytest.approx(0.1 * 2.8016 / 1.984, rel=1e-3)
    many = statistics.verdict(difference(0.05, 0.1), tests=10)
    assert many.n_needed is not None and many.n_needed > found.n_needed and many.detectable > found.detectable


def test_a_difference_of_exactly_0_needs_no_number_of_problems() -> None:
    assert statistics.verdict(difference(0.0, 0.1)).n_needed is None
    alike = statistics.verdict(difference(0.0, 0.0))
    assert (alike.outcome, alike.n_needed, alike.detectable) == ("tied", None, 0)


def test_a_tie_never_claims_that_fewer_problems_would_do() -> None:
    found = statistics.verdict(Measurement(0.3, 0.11, -0.01, 0.61, 5))
    assert found.n_needed is not None and found.n_needed > 5


def test_without_an_interval_there_is_no_verdict() -> None:
    found = statistics.verdict(Measurement(1.0, math.nan, math.nan, math.nan, 1))
    assert found.outcome == "unknown" and math.isnan(found.detectable)
