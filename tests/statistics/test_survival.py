"""Survival against its closed forms and statsmodels; p and its drift against simulations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from posttrain.statistics import clustered_rate, hazard_slope, step_accuracy, survival


def simulated(p_T: np.ndarray, problems: int, samples: int, seed: int = 0) -> tuple[list[int], list[bool], list[int]]:
    """Attempts whose step t is right with the chance p_T[t]."""
    rng = np.random.default_rng(seed)
    right = (rng.random((problems * samples, len(p_T))) < p_T).cumprod(1).sum(1)
    return right.tolist(), (right < len(p_T)).tolist(), np.repeat(range(problems), samples).tolist()


def test_by_hand() -> None:
    values = [m.value for m in survival([0, 1, 2, 2], [True, True, False, True], range(4))]
    assert values == pytest.approx([3 / 4, 3 / 4 * 2 / 3, 3 / 4 * 2 / 3 * 0]), "the third came to its end after two steps, right as far as known"
    assert step_accuracy([0, 1, 2, 2], [True, True, False, True], range(4)).value == pytest.approx(5 / 8)


def test_without_censoring_survival_is_the_share_still_right_with_its_clustered_error() -> None:
    right, failed, clusters = simulated(np.full(6, 0.8), 20, 5)
    for t, found in enumerate(survival(right, failed, clusters)[:6], 1):
        shares = clustered_rate((np.reshape(right, (20, 5)) >= t).astype(float))
        assert (found.value, found.stderr, found.low, found.high, found.n) == pytest.approx((shares.value, shares.stderr, shares.low, shares.high, 20))


def test_with_censoring_it_is_kaplan_and_meiers_with_greenwoods_error() -> None:
    rng = np.random.default_rng(1)
    right, failed, _ = simulated(np.full(12, 0.85), 300, 1)
    cut = rng.integers(1, 13, 300)
    failed = [f and r < c for r, f, c in zip(right, failed, cut, strict=True)]
    right = np.minimum(right, cut).tolist()
    oracle = SurvfuncRight(np.array(right) + failed, np.array(failed, int))
    found = survival(right, failed, range(300))
    at = oracle.surv_times.astype(int) - 1
    assert [found[t].value for t in at] == pytest.approx(oracle.surv_prob)
    assert [found[t].stderr for t in at] == pytest.approx(oracle.surv_prob_se * math.sqrt(300 / 299))


def test_attempts_that_repeat_one_another_are_no_more_evidence() -> None:
    right, failed, clusters = simulated(np.full(8, 0.8), 30, 1)
    once, often = survival(right, failed, clusters), survival(right * 10, failed * 10, clusters * 10)
    assert [m.value for m in once] == pytest.approx([m.value for m in often])
    assert [m.stderr for m in once] == pytest.approx([m.stderr for m in often]) and {m.n for m in (*once, *often)} == {30}
    assert step_accuracy(right, failed, clusters).stderr == pytest.approx(step_accuracy(right * 10, failed * 10, clusters * 10).stderr)


def test_p_of_independent_steps_is_covered_and_so_is_p_to_the_t() -> None:
    held, above = [], []
    for seed in range(200):
        right, failed, clusters = simulated(np.full(8, 0.9), 24, 4, seed)
        p, curve = step_accuracy(right, failed, clusters), survival(right, failed, clusters)
        held.append(p.low <= 0.9 <= p.high)
        above.append(curve[7].low <= 0.9**8 <= curve[7].high)
    assert 0.92 <= np.mean(held) <= 0.99 and 0.92 <= np.mean(above) <= 0.99


def test_a_constant_rate_has_no_slope_and_a_drift_has_one() -> None:
    inside = []
    for seed in range(40):
        slope = hazard_slope(*simulated(np.full(16, 0.9), 30, 4, seed))
        inside.append(slope.low <= 0 <= slope.high)
    assert np.mean(inside) >= 0.85
    log_odds = -4 + 0.8 * np.log2(np.arange(1, 17))
    slope = hazard_slope(*simulated(1 / (1 + np.exp(log_odds)), 200, 8))
    assert slope.low <= 0.8 <= slope.high and slope.low > 0.5


def test_what_says_nothing_is_nan_and_what_never_fails_has_an_interval_all_the_same() -> None:
    assert math.isnan(hazard_slope([4, 4], [False, False], [0, 1]).value)
    never = survival([4] * 20, [False] * 20, range(20))
    assert [(m.value, m.high) for m in never] == [(1, 1)] * 4 and 0.8 < never[3].low < 0.9
    assert survival([0], [False], [0]) == ()
    with pytest.raises(ValueError, match="do not fit together"):
        survival([1], [True, False], [0])
