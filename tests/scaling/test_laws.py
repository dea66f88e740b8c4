"""The laws of coverage on published counts and on mixtures whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posttrain.scaling import laws
from posttrain.types import UserError

COUNTS = np.loadtxt(Path(__file__).parents[1] / "data_files" / "qwen1p5b_math500_T1_ncorrect.txt", dtype=int)
KS = (1, 2, 4, 8, 16, 32, 64)


def test_the_published_counts_give_the_published_coverage():
    assert len(COUNTS) == 500 and COUNTS.mean() / 64 == 0.40140625
    np.testing.assert_allclose(laws.coverage(COUNTS, 64, KS), [0.4014, 0.5229, 0.6244, 0.7080, 0.7778, 0.8339, 0.8760], atol=5e-5)


def test_the_beta_fit_of_the_published_counts_predicts_the_slope_of_their_failures():
    fit = laws.fit_beta_binomial(COUNTS, 64)
    assert (fit.a, fit.b) == (pytest.approx(0.427, abs=1e-3), pytest.approx(0.675, abs=1e-3))
    covered = laws.coverage(COUNTS, 64, KS)[3:]
    assert laws.failure_slope(KS[3:], covered) == pytest.approx(-0.41, abs=0.005)
    assert laws.fit_power_law(KS[3:], covered).exponent == pytest.approx(0.46, abs=0.005)


def test_a_power_law_is_recovered_from_its_own_points():
    law = laws.PowerLaw(0.9, 0.4)
    fit = laws.fit_power_law(KS, [law.pass_at(k) for k in KS])
    assert (fit.scale, fit.exponent) == (pytest.approx(0.9), pytest.approx(0.4))


def test_a_uniform_mixture_solves_k_of_k_plus_one():
    assert [laws.BetaBinomial(1, 1, 0).pass_at(k) for k in (1, 3, 99)] == [pytest.approx(x) for x in (0.5, 0.75, 0.99)]


def test_eight_attempts_forecast_sixty_four():
    eight = np.random.default_rng(0).hypergeometric(COUNTS, 64 - COUNTS, 8)
    measured = laws.forecast(eight, 8, 64)
    assert measured.low < 0.8760 < measured.high
    assert measured.low < measured.value < measured.high < measured.low + 0.1


def test_the_published_counts_are_no_single_solve_rate_and_equal_problems_are():
    assert laws.compare_with_exponential(COUNTS, 64).p_value < 1e-10
    equal = laws.compare_with_exponential(np.random.default_rng(0).binomial(64, 0.4, 500), 64)
    assert equal.p_value > 0.05
    assert equal.single.pass_at(64) == pytest.approx(equal.mixture.pass_at(64), abs=1e-6)


def test_the_wall_bounds_what_never_worked():
    wall = laws.wall(COUNTS, 64)
    assert (wall.n_unsolved, wall.n_problems) == (62, 500)
    assert (1 - wall.rate_bound) ** 64 == pytest.approx(0.05)


def test_forecasts_from_two_attempts_hold_the_truth_as_often_as_they_say():
    rng, law = np.random.default_rng(0), laws.BetaBinomial(0.4, 0.7, 0)
    found = [laws.forecast(rng.binomial(2, rng.beta(law.a, law.b, 30)), 2, 16) for _ in range(100)]
    assert np.mean([f.low <= law.pass_at(16) <= f.high for f in found]) >= 0.92
    assert np.mean([f.high - f.low for f in found]) < 0.6, "and say something"


@pytest.mark.parametrize("counts", [[0] * 15 + [2] * 15, [0] * 12 + [1] * 12, [0] * 30, [2] * 30, [0] * 14 + [1] + [2] * 15])
def test_a_forecast_leaves_room_also_where_the_fit_is_at_an_end_of_what_can_be(counts: list[int]):
    found = laws.forecast(counts, 2, 16)
    assert found.value < 0.01 or found.low < found.value - 0.01
    assert found.value > 0.98 or found.high > found.value + 0.01


def test_all_or_nothing_in_two_attempts_may_yet_be_problems_that_two_attempts_did_not_solve():
    found = laws.forecast([0] * 10 + [2] * 10, 2, 64)
    assert found.value == pytest.approx(0.5, abs=1e-2) and found.high > 0.75


def test_forecasts_grow_with_k_and_a_single_problem_has_no_interval():
    found = laws.forecasts([0, 1, 2, 2, 0, 4, 1], 4, (1, 2, 4, 64))
    assert all(np.diff([getattr(f, part) for f in found]).min() > 0 for part in ("low", "value", "high"))
    assert found[0].value == pytest.approx(10 / 28, abs=0.02)
    assert np.isnan([laws.forecast([1], 4, 64).low, laws.forecast([1], 4, 64).high]).all()


@pytest.mark.parametrize("counts", [[], [65], [-1], [1.5]])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(UserError, match="between 0 and the number of attempts"):
        laws.coverage(counts, 64, KS)


def test_a_law_needs_coverages_strictly_between_nothing_and_everything():
    with pytest.raises(UserError, match="strictly between"):
        laws.fit_power_law((1, 2), (0.5, 1.0))
