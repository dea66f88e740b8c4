"""Calibration by hand, and the bias that chance alone gives it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posttrain.calibration import auroc, bin_ids, brier, brier_parts, ece, ece_floor, ece_under_calibration, fit_temperature, reliability

CONFIDENCES = [0.9, 0.9, 0.9, 0.9, 0.6, 0.6]
OUTCOMES = [1, 1, 0, 0, 1, 0]
"""Of the four that are 90% sure half are right, of the two that are 60% sure one."""


def test_the_error_is_the_gap_of_each_bin_weighed_by_its_predictions():
    assert ece(CONFIDENCES, OUTCOMES, n_bins=10) == pytest.approx(4 / 6 * 0.4 + 2 / 6 * 0.1)
    assert ece(CONFIDENCES, OUTCOMES, n_bins=1) == pytest.approx(0.8 - 0.5)


def test_within_a_bin_gaps_of_opposite_sign_cancel():
    assert ece([0.2, 0.2, 0.8, 0.8], [1, 1, 0, 0], n_bins=1) == 0
    assert ece([0.2, 0.2, 0.8, 0.8], [1, 1, 0, 0], n_bins=10) == pytest.approx(0.8)


def test_equal_widths_end_at_1_and_equal_masses_never_part_equal_confidences():
    assert bin_ids([0.0, 0.0999, 0.1, 1.0], n_bins=10).tolist() == [0, 0, 1, 9]
    assert bin_ids([0.1, 0.2, 0.3, 0.4], n_bins=2, bins="equal_mass").tolist() == [0, 0, 1, 1]
    ids = bin_ids([0.5] * 7 + [0.9], n_bins=4, bins="equal_mass")
    assert len(set(ids[:7])) == 1
    assert ece([0.7] * 5, [1, 1, 1, 0, 0], bins="equal_mass") == pytest.approx(0.1)


def test_a_diagram_has_a_row_for_each_bin_that_holds_something():
    low, high = reliability(CONFIDENCES, OUTCOMES, n_bins=10)
    assert (low.low, low.high, low.n, low.confidence, low.accuracy.value) == pytest.approx((0.6, 0.7, 2, 0.6, 0.5))
    assert (high.low, high.high, high.n, high.confidence, high.accuracy.value) == pytest.approx((0.9, 1.0, 4, 0.9, 0.5))
    assert high.accuracy.low < 0.5 < high.accuracy.high
    first, second = reliability([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], n_bins=2, bins="equal_mass")
    assert (first.low, first.high, second.low, second.high) == (0.1, 0.2, 0.3, 0.4)


def test_brier_by_hand_and_its_parts_add_up():
    assert brier([0.9, 0.4], [1, 1]) == pytest.approx((0.01 + 0.36) / 2)
    parts = brier_parts(CONFIDENCES, OUTCOMES, n_bins=10)
    assert parts.reliability == pytest.approx(4 / 6 * 0.16 + 2 / 6 * 0.01)
    assert (parts.resolution, parts.uncertainty, parts.within) == pytest.approx((0, 0.25, 0))


@pytest.mark.parametrize("bins", ["equal_width", "equal_mass"])
def test_the_parts_add_up_whatever_the_bins_hide(bins: str):
    dice = np.random.default_rng(0)
    confidences = dice.random(200)
    outcomes = (dice.random(200) < confidences).astype(float)
    parts = brier_parts(confidences, outcomes, 4, bins)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert total == pytest.approx(brier(confidences, outcomes), abs=1e-12)
    assert parts.resolution > 0.01


def test_auroc_is_the_chance_that_the_right_one_is_the_surer_ties_counting_half():
    assert auroc([0.9, 0.8, 0.3], [1, 0, 0]) == 1
    assert auroc([0.9, 0.8, 0.3], [0, 1, 1]) == 0
    assert auroc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)
    assert auroc([0.5] * 4, [1, 0, 1, 0]) == 0.5
    assert math.isnan(auroc([0.5, 0.6], [1, 1])) and math.isnan(auroc([], []))


def test_chance_alone_makes_an_error_that_falls_with_n():
    few, many = (ece_floor([0.7] * n, draws=400) for n in (50, 1250))
    assert few == pytest.approx(math.sqrt(2 * 0.7 * 0.3 / math.pi / 50), rel=0.1)
    assert many == pytest.approx(few / 5, rel=0.15)
    assert ece_under_calibration([0.7] * 50, draws=20).shape == (20,)
    assert np.array_equal(ece_under_calibration([0.7] * 50, draws=20, seed=3), ece_under_calibration([0.7] * 50, draws=20, seed=3))


def test_certainty_that_is_right_leaves_nothing_to_chance():
    assert ece_floor([1.0, 0.0, 1.0]) == 0
    assert math.isnan(ece_floor([]))


def test_the_temperature_that_makes_logits_say_how_often_they_are_right():
    """A logit gap of 5, right in 8 of 10: the gap should have been log 4."""
    logits, labels = [[5.0, 0.0]] * 10, [0] * 8 + [1] * 2
    assert fit_temperature(logits, labels) == pytest.approx(5 / math.log(4), rel=1e-3)
    assert fit_temperature([[0.5, 0.0]] * 10, labels) == pytest.approx(0.5 / math.log(4), rel=1e-3)


def test_nothing_in_is_nan_out_and_bad_columns_are_refused():
    assert math.isnan(ece([], [])) and math.isnan(brier([], [])) and reliability([], []) == []
    parts = brier_parts([], [])
    assert all(math.isnan(x) for x in (parts.reliability, parts.resolution, parts.uncertainty, parts.within))
    with pytest.raises(ValueError, match="2 confidences for 1 outcomes"):
        ece([0.1, 0.2], [1])
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            brier([bad], [1])
    with pytest.raises(ValueError, match="n labels"):
        fit_temperature([], [])
