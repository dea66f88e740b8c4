"""Calibration with its doubt, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from posttrain import calibration
from posttrain.calibration_intervals import Predictions, Resamples, calibrate, calibration_change


def made(confidences: np.ndarray, chances: np.ndarray, seed: int = 0) -> Predictions:
    """Each on a problem of its own, right with its chance."""
    names = tuple(map(str, range(len(confidences))))
    outcomes = (np.random.default_rng(seed).random(len(confidences)) < chances).astype(float)
    return Predictions(tuple(confidences.tolist()), tuple(outcomes.tolist()), names, names)


def uniform(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(n)


def test_a_calibrated_model_shows_the_floor_and_its_interval_holds_nothing_at_all() -> None:
    sure = uniform(400)
    found = calibrate(made(sure, sure)).ece
    assert found.error.value == pytest.approx(found.by_chance, rel=0.4)
    assert found.error.low == 0 and found.error.value < found.by_chance_high
    assert found.by_chance == pytest.approx(calibration.ece_floor(sure), abs=1e-12)


def test_a_model_that_is_too_sure_by_a_fifth_is_so_by_all_figures() -> None:
    sure = 0.2 + 0.8 * uniform(600)
    found = calibrate(made(sure, sure - 0.2))
    for error in (found.ece, found.ece_adaptive):
        assert error.error.low < 0.2 < error.error.high and error.error.low > 0.1
        assert error.error.value > error.by_chance_high
    assert found.confidence.value - found.accuracy.value == pytest.approx(0.2, abs=0.05)
    assert found.parts.reliability == pytest.approx(0.04, abs=0.02)
    assert found.brier.value == pytest.approx(calibration.brier(sure, made(sure, sure - 0.2).outcomes))
    assert found.brier.low < found.brier.value < found.brier.high


def test_one_confidence_has_the_plain_gap_for_its_error() -> None:
    found = calibrate(made(np.full(100, 0.9), np.ones(100)))
    assert found.ece.error.value == pytest.approx(0.1) and found.auroc.value != found.auroc.value
    (only,) = found.bins
    assert (only.n, only.accuracy.value, only.accuracy.n) == (100, 1, 100)


def test_auroc_has_an_interval_even_where_nothing_is_out_of_place() -> None:
    names = tuple(map(str, range(12)))
    found = calibrate(Predictions((0.9,) * 6 + (0.1,) * 6, (1.0,) * 6 + (0.0,) * 6, names, names)).auroc
    assert (found.value, found.high) == (1, 1) and 0.4 < found.low < 0.95


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_the_intervals_cover_the_truth(shift: float) -> None:
    """100 problems, confidence uniform, right that much less often; the error's truth by a sample of a million."""
    many = uniform(1_000_000)
    truth = calibration.ece(many, np.clip(many - shift, 0, 1))
    right = (uniform(1_000_000, 2) < many - shift).astype(float)
    ranked = calibration.auroc(many, right)
    hits = np.zeros(2)
    for seed in range(60):
        sure = uniform(100, 10 + seed)
        found = calibrate(made(sure, sure - shift, seed))
        hits += [found.ece.error.low <= truth + 1e-9 and truth <= found.ece.error.high, found.auroc.low <= ranked <= found.auroc.high]
    assert (hits >= 52).all()


def test_saying_the_same_five_times_over_is_no_more_evidence() -> None:
    sure = uniform(60)
    once = made(sure, sure)
    five = Predictions(*(tuple(value for value in column for _ in range(5)) for column in (once.confidences, once.outcomes, once.clusters, once.together)))
    a, b = calibrate(once), calibrate(five)
    assert (b.ece.error.n, b.n_predictions) == (60, 300)
    for name in ("accuracy", "brier", "auroc"):
        assert (getattr(b, name).low, getattr(b, name).high) == pytest.approx((getattr(a, name).low, getattr(a, name).high)), name
    assert b.ece.by_chance == pytest.approx(a.ece.by_chance, rel=0.05)
    assert (b.ece.error.low, b.ece.error.high) == pytest.approx((a.ece.error.low, a.ece.error.high), abs=0.03)


def test_a_problem_that_is_drawn_once_gives_the_plain_figures() -> None:
    """One cluster is drawn once whatever happens: every resample is the sample."""
    sure = uniform(30)
    given = made(sure, sure)
    drawn = Resamples(Predictions(given.confidences, given.outcomes, ("all",) * 30, given.together), ("all",))
    columns = given.confidences, given.outcomes
    for bins in ("equal_width", "equal_mass"):
        assert drawn.ece(bins) == pytest.approx(calibration.ece(*columns, 15, bins))
    assert drawn.auroc() == pytest.approx(calibration.auroc(*columns)) and drawn.brier() == pytest.approx(calibration.brier(*columns))


def test_the_same_confidences_before_and_after_changed_by_exactly_nothing() -> None:
    sure = uniform(50)
    given = made(sure, sure)
    for found in vars(calibration_change(given, given)).values():
        assert (found.value, found.low, found.high, found.n) == (0, 0, 0, 50)


def test_confidence_that_rises_without_reason_is_a_change_in_calibration_and_not_in_ranking() -> None:
    sure = 0.6 * uniform(300)
    before = made(sure, sure)
    after = Predictions(tuple((sure + 0.35).tolist()), before.outcomes, before.clusters, before.together)
    found = calibration_change(before, after)
    assert found.ece.low > 0.15 and found.ece.high < 0.45 and found.brier.low > 0.05
    assert (found.auroc.value, found.auroc.low, found.auroc.high) == (0, 0, 0)


def test_pairing_on_the_same_problems_is_worth_its_price() -> None:
    sure, chances = uniform(200), uniform(200)
    before = made(sure, chances)
    after = Predictions(tuple(np.clip(sure + 0.05, 0, 1).tolist()), before.outcomes, before.clusters, before.together)
    elsewhere = Predictions(after.confidences, after.outcomes, tuple(f"other{i}" for i in range(200)), after.together)
    paired, apart = calibration_change(before, after).brier, calibration_change(before, elsewhere).brier
    assert paired.value == apart.value and paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_one_problem_has_no_interval_and_none_has_no_figures() -> None:
    one = calibrate(Predictions((0.5, 0.6), (1.0, 0.0), ("a", "a"), ("0", "1")))
    assert one.ece.error.n == 1 and math.isnan(one.ece.error.low) and math.isnan(one.brier.low)
    nothing = calibrate(Predictions((), (), (), ()), n_unparsed=3)
    assert math.isnan(nothing.ece.error.value) and nothing.ece.error.n_unscored == 3 and nothing.bins == ()
