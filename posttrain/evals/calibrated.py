"""What a model's confidences are worth, before training and after: figures, one temperature that may mend them, pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from posttrain import statistics
from posttrain.calibration import fit_temperature
from posttrain.calibration_intervals import Calibration, calibrate, calibration_change
from posttrain.evals.chart import Mark, Series, chart
from posttrain.evals.comparison import FormCalibration, FormChange, Row, Scaling
from posttrain.evals.confidence import Confidences, softmax
from posttrain.types import Measurement

REFITS = 200
"""Resamples of the problems that a temperature is fitted on: each costs a fit."""

FIGURES = (("ece", "ECE", "lower"), ("brier", "Brier score", "lower"), ("auroc", "AUROC", "higher"))


def form_calibration(confidences: Confidences, seed: int = 0) -> FormCalibration:
    """All that one model's confidences of one form say."""
    measured = calibrate(confidences.predictions, confidences.n_unparsed, seed)
    return FormCalibration(confidences.form, confidences.title, measured, scaled(confidences, seed), confidences.n_unparsed, confidences.note)


def form_changes(before: Sequence[Confidences], after: Sequence[Confidences], seed: int = 0) -> tuple[FormChange, ...]:
    """The forms that both models were asked in."""
    pairs = [(was, now) for was in before for now in after if was.form == now.form]
    return tuple(
        FormChange(was.form, was.title, form_calibration(was, seed), form_calibration(now, seed), calibration_change(was.predictions, now.predictions, seed))
        for was, now in pairs
    )


def form_rows(changes: Sequence[FormChange]) -> Iterator[Row]:
    """ECE, Brier score and AUROC of each form as rows of a comparison."""
    for found in changes:
        notes = {"ece": _floor_note(found), "brier": _unparsed_note(found), "auroc": ""}
        for name, title, better in FIGURES:
            was, now = (figure(side.calibration, name) for side in (found.base, found.trained))
            change = getattr(found.change, name)
            yield Row(f"{name}_{found.form}", f"{title}, {found.title}", better, was, now, change, None, notes[name])


def figure(calibration: Calibration, name: str) -> Measurement:
    """A figure by its name in `FIGURES`."""
    return calibration.ece.error if name == "ece" else getattr(calibration, name)


def _floor_note(found: FormChange) -> str:
    was, now = (side.calibration for side in (found.base, found.trained))
    if math.isnan(was.ece.by_chance) or math.isnan(now.ece.by_chance):
        return f"{found.title}: expected calibration error in 15 bins; one of the two has no confidences to measure"
    floors = " and ".join(f"{c.ece.by_chance:.1%} (95 of 100 samples below {c.ece.by_chance_high:.1%})" for c in (was, now))
    return f"{found.title}: expected calibration error in 15 bins; chance alone gives a calibrated model {floors}, base and trained"


def _unparsed_note(found: FormChange) -> str:
    counts = [side.n_unparsed for side in (found.base, found.trained)]
    said = [f"{who}: {side.note}" for who, side in (("base", found.base), ("trained", found.trained)) if side.note]
    unparsed = [f"without a confidence, and in no figure: {counts[0]} of the base's and {counts[1]} of the trained model's"] if any(counts) else []
    return "; ".join([f"{found.title}: {'; '.join(said)}" if said else found.title, *unparsed]) if said or unparsed else ""


# ---------------------------------------------------------------------------------------------------- temperature scaling


def scaled(confidences: Confidences, seed: int = 0) -> Scaling | None:
    """One temperature for all of a form's logits, from half of the problems, and what it does on the other half.

    The halves are of problems (`statistics.halves`), and fixed by the seed. The temperature's interval is over the problems it was fitted
    on, the errors' are over the others and take the temperature as given.
    """
    if not confidences.logits:
        return None
    fitted_on, _ = statistics.halves(confidences.predictions.clusters, seed)
    is_fitted = np.array([cluster in fitted_on for cluster in confidences.predictions.clusters])
    clusters = [cluster for cluster in confidences.predictions.clusters if cluster in fitted_on]
    rest = confidences.predictions.where((~is_fitted).tolist())
    if len(fitted_on) < 2 or rest.n < 2:
        return None
    logits, truth = _padded(confidences.logits), np.array(confidences.truth)
    temperature = _temperature(logits[is_fitted], truth[is_fitted], clusters, seed)
    cooled = [
        float(softmax(row, temperature.value)[i]) for row, i, fit in zip(confidences.logits, confidences.chosen, is_fitted, strict=True) if not fit
    ]
    after = replace(rest, confidences=tuple(cooled))
    change = calibration_change(rest, after, seed).ece
    return Scaling(temperature, calibrate(rest, seed=seed).ece, calibrate(after, seed=seed).ece, change)


def _padded(logits: Sequence[Sequence[float]]) -> np.ndarray:
    """The rows in one table: questions of fewer options have impossible ones behind them."""
    most = max(map(len, logits))
    return np.array([[*row, *(-math.inf,) * (most - len(row))] for row in logits], float)


def _temperature(logits: np.ndarray, truth: np.ndarray, clusters: Sequence[str], seed: int) -> Measurement:
    value = fit_temperature(logits, truth.tolist())
    names = list(dict.fromkeys(clusters))
    rows = [np.flatnonzero([cluster == name for cluster in clusters]) for name in names]
    refits = []
    for weights in statistics.resampled_weights(len(names), REFITS, seed):
        chosen = np.concatenate([np.repeat(row, weight) for row, weight in zip(rows, weights, strict=True)])
        refits.append(fit_temperature(logits[chosen], truth[chosen].tolist()))
    low, high = statistics.percentile_interval(np.array(refits))
    return Measurement(value, statistics.spread(np.array(refits)), min(low, value), max(high, value), len(names))


# --------------------------------------------------------------------------------------------------------------- pictures

COLOURS = {"base": "#6a737f", "trained": "#1f5fd0"}


def reliability_svg(title: str, sides: dict[str, Calibration], names: dict[str, str] | None = None) -> str:
    """Accuracy over confidence in bins, with 95% intervals, against the diagonal on which a calibrated model lies; nothing without a bin."""
    if not any(calibration.bins for calibration in sides.values()):
        return ""
    found = [Series("calibrated", "#aab2bd", [Mark(0, 0), Mark(1, 1)], is_line=True, dashes="2 4")]
    for side, calibration in sides.items():
        marks = [Mark(b.confidence, b.accuracy.value, _ends(b.accuracy)) for b in calibration.bins]
        found.append(Series((names or {}).get(side, side)[:24], COLOURS[side], marks))
    n = next(iter(sides.values())).accuracy.n
    return chart(f"{title} (n = {n} problems)", "confidence", "right", found)


def _ends(m: Measurement) -> tuple[float, float] | None:
    return (m.low, m.high) if math.isfinite(m.low) else None


def _scaling_line(title: str, scaling: Scaling, whose: str = "") -> str:
    t, change = scaling.temperature, scaling.change
    ends = " (where the fit ends: these logits say next to nothing)" if t.value > 99 else ""
    return (
        f"{title}{whose}: one temperature, {t.value:.2f} [{t.low:.2f} {t.high:.2f}]{ends} from {t.n} problems, takes the ECE on the other"
        f" {change.n} from {_percent(scaling.before.error)} to {_percent(scaling.after.error)}"
        f" ({100 * change.value:+.1f} points [{100 * change.low:.1f} {100 * change.high:.1f}]; chance alone gives {scaling.after.by_chance:.1%})"
    )


def form_lines(found: Sequence[FormCalibration]) -> list[str]:
    """The temperatures of one model, in words."""
    return [_scaling_line(one.title, one.scaling) for one in found if one.scaling]


def change_lines(changes: Sequence[FormChange]) -> list[str]:
    """The temperatures of both models, in words."""
    sides = [(found, name, side) for found in changes for name, side in (("base", found.base), ("trained", found.trained))]
    return [_scaling_line(found.title, side.scaling, f" ({name})") for found, name, side in sides if side.scaling]


def _percent(m: Measurement) -> str:
    return f"{m.value:.1%} [{100 * m.low:.1f} {100 * m.high:.1f}]"
