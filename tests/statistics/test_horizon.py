"""Laws of success against the horizon, found again where they hold, and told apart where they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posttrain.statistics import fit_horizon, half_life

HORIZONS = (1, 2, 4, 8, 16)


def exact(chance, problems: int = 10, attempts: int = 10**6) -> tuple[list[int], list[int], list[int]]:
    """So many attempts that shares are chances."""
    rows = [(h, round(attempts * chance(h)), attempts) for h in HORIZONS for _ in range(problems)]
    return tuple(map(list, zip(*rows, strict=True)))


def drawn(chance, problems: int, attempts: int, seed: int = 0) -> tuple[list[int], list[int], list[int]]:
    rng = np.random.default_rng(seed)
    rows = [(h, int(rng.binomial(attempts, chance(h))), attempts) for h in HORIZONS for _ in range(problems)]
    return tuple(map(list, zip(*rows, strict=True)))


def test_a_constant_rate_is_found_with_its_half_life_and_shape_1() -> None:
    fit = fit_horizon(*exact(lambda h: 0.9**h))
    assert fit.step.value == pytest.approx(0.9, abs=1e-5) and fit.half_life.value == pytest.approx(math.log(0.5) / math.log(0.9), rel=1e-4)
    assert fit.shape.value == pytest.approx(1, abs=1e-3) and fit.constant_at(8) == pytest.approx(fit.free_at(8), abs=1e-3)
    assert half_life(0.5) == 1 and half_life(1) == math.inf and half_life(0) == 0


def test_the_free_laws_find_their_own_parameters() -> None:
    fit = fit_horizon(*exact(lambda h: math.exp(-((h / 6) ** 1.7))))
    assert fit.weibull == pytest.approx((6, 1.7), rel=1e-3)
    fit = fit_horizon(*exact(lambda h: 1 / (1 + (h / 5) ** 1.5)))
    assert fit.logistic == pytest.approx((5, 1.5), rel=1e-3)
    assert fit.h80.value == pytest.approx(5 * 0.25 ** (1 / 1.5), rel=1e-3)


def covered(chance, problems: int, attempts: int, sets: int, step: float, shape: float) -> tuple[float, float]:
    """In what share of drawn sets the intervals hold a step's accuracy and the shape."""
    fits = [fit_horizon(*drawn(chance, problems, attempts, seed)) for seed in range(sets)]
    return np.mean([f.step.low <= step <= f.step.high for f in fits]), np.mean([f.shape.low <= shape <= f.shape.high for f in fits])


def test_intervals_hold_the_truth_of_a_constant_rate_in_95_of_100_sets_and_leave_out_a_drift() -> None:
    for share in covered(lambda h: 0.93**h, 20, 4, 200, 0.93, 1):
        assert share >= 0.92, "200 sets of a coverage of .95 fall below .92 in 3 of 100"
    assert fit_horizon(*drawn(lambda h: math.exp(-((h / 8) ** 2)), 30, 4)).shape.low > 1.2


def test_attempts_that_are_alike_widen_an_interval_as_fewer_would() -> None:
    rows = drawn(lambda h: 0.93**h, 40, 1)
    alike = fit_horizon(rows[0], [8 * right for right in rows[1]], [8] * len(rows[0]))
    single = fit_horizon(*rows)
    for name in ("step", "shape", "h50", "h80"):
        a, b = getattr(alike, name), getattr(single, name)
        assert (a.low, a.high, a.stderr) == pytest.approx((b.low, b.high, b.stderr), rel=0.06), "between problems as between attempts, but for chance"


def test_an_interval_without_an_end_says_so_and_one_problem_has_none() -> None:
    fit = fit_horizon([1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 0], [1] * 6)
    assert (fit.h50.low, fit.h50.high) == (0, math.inf) and fit.step.low < fit.step.value < fit.step.high < 1
    assert math.isnan(fit_horizon([4], [1], [2]).step.low)


def test_problems_that_are_unlike_make_success_fall_slower_than_a_constant_rate() -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(6, 1, 60)
    rows = [(h, int(rng.binomial(4, p**h)), 4) for h in HORIZONS for p in rates]
    assert fit_horizon(*zip(*rows, strict=True)).shape.high < 1


def test_where_all_or_nothing_succeeds_p_has_an_interval_and_the_free_laws_are_silent() -> None:
    all_right = fit_horizon([1, 4] * 10, [3] * 20, [3] * 20)
    assert (all_right.step.value, all_right.step.high) == (1, 1) and 0.9 < all_right.step.low < 0.97
    assert all_right.half_life.value == math.inf and 8 < all_right.half_life.low < 10 and math.isnan(all_right.shape.value)
    none = fit_horizon([1, 4] * 10, [0] * 20, [3] * 20)
    assert (none.step.value, none.step.low, none.half_life.value) == (0, 0, 0) and none.step.high < 0.6
    with pytest.raises(ValueError, match="could be judged"):
        fit_horizon([1], [0], [0])
