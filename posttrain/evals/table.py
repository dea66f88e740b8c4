"""Measurements as tables for a terminal, readable as plain text and at 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from posttrain.calibration_intervals import Calibration
from posttrain.evals.beside import SideBySide, UseChange
from posttrain.evals.comparison import Comparison, FormCalibration, Row
from posttrain.evals.measure import Evaluation
from posttrain.evals.quantities import rests_on_scores
from posttrain.types import Measurement

WITHHELD = Text("withheld")

BESIDES = ("aspect/", "ece_")
"""What the names of rows begin with that are shown beside accuracy where several tasks share a table."""


def table(comparison: Comparison) -> Table:
    """Both models and what changed, with 95% intervals; a change whose interval leaves out 0 is coloured by its welcome."""
    size = f"{comparison.n_problems} problems × {comparison.samples} attempts, 95% intervals"
    found = _table(f"{comparison.task} ({comparison.split}): {size}", comparison.base.label, comparison.trained.label, "change")
    notes: list[str] = []
    for row in comparison.rows:
        named, n = _named(row.title, row.difference, row.note, notes), str(row.difference.n) if row.difference else ""
        if comparison.withheld and rests_on_scores(row.name):
            found.add_row(named, *[WITHHELD] * 3, n)
            continue
        change = Text(figure(row.difference, signed=row.base is not None), style=_style(row))
        found.add_row(named, _cell(row.base), _cell(row.trained), change, n)
    return _captioned(found, notes)


def evaluation_table(evaluation: Evaluation, unscored_ok: bool = False) -> Table:
    """One model's measurements, with 95% intervals. What speaks of too few of the attempts is withheld, unless `unscored_ok`."""
    title = f"{evaluation.task}: {len(evaluation.records)} problems × {evaluation.samples} attempts, 95% intervals"
    found = _table(title, "value")
    withheld = bool(evaluation.withheld) and not unscored_ok
    for quantity in evaluation.quantities:
        measurement = quantity.measurement
        cell = WITHHELD if withheld and rests_on_scores(quantity.name) else _cell(measurement)
        found.add_row(_named(quantity.title, measurement, "", []), cell, str(measurement.n))
    return _captioned(found, list(evaluation.notes))


def evaluations_table(evaluations: Sequence[Evaluation], unscored_ok: bool = False) -> Table:
    """One model on several tasks, a row for each."""
    found = _table("95% intervals over problems", "accuracy", "the best of all attempts", "ran into the limit", "could not be scored", first="task")
    notes: list[str] = []
    for evaluation in evaluations:
        withheld = bool(evaluation.withheld) and not unscored_ok
        best = evaluation[f"pass@{evaluation.ks[-1]}"] if evaluation.samples > 1 else None
        scores = [WITHHELD] * 2 if withheld else [_cell(measurement) for measurement in (evaluation["accuracy"], best)]
        others = [_cell(evaluation[name]) for name in ("truncated_frac", "unscored_frac")]
        often = f" × {evaluation.samples}" if evaluation.samples > 1 else ""
        found.add_row(_noted(f"{evaluation.task}{often}", evaluation.notes, notes), *scores, *others, str(evaluation["unscored_frac"].n))
    return _captioned(found, notes)


def aspects_table(evaluations: Sequence[Evaluation], unscored_ok: bool = False) -> Table:
    """What several tasks wanted reported beside accuracy."""
    found = _table("what else the answers say, 95% intervals", "value", first="task", second="what")
    for evaluation in evaluations:
        withheld = bool(evaluation.withheld) and not unscored_ok
        for i, quantity in enumerate(evaluation.quantity(asked.name) for asked in evaluation.aspects):
            cell = WITHHELD if withheld else _cell(quantity.measurement)
            found.add_row(Text("" if i else evaluation.task), Text(quantity.title), cell, str(quantity.measurement.n))
    return found


def side_table(pairs: Sequence[SideBySide]) -> Table:
    """Each ability bare and in use, and what the use changes, problem by problem; p by Holm over the pairs."""
    found = _table("the same problems bare and in use: accuracy, 95% intervals, p by Holm", "bare", "in use", "change", "p", first="task")
    for pair in pairs:
        cells = [WITHHELD] * 4 if pair.withheld else [_cell(pair.bare), _cell(pair.in_use), *_changed(pair.difference, pair.p_holm)]
        found.add_row(Text(pair.task), *cells, str(pair.difference.n))
    return found


def use_table(changes: Sequence[UseChange], base: str, trained: str) -> Table:
    """Each ability bare and in use, of both models, and whether the use does the same to both; p by Holm over the pairs."""
    title = "the same problems bare and in use: accuracy, 95% intervals, p by Holm"
    found = _table(title, "bare", "in use", "change", "p", first="task", second="model")
    for change in changes:
        for i, (name, side) in enumerate(((base, change.base), (trained, change.trained))):
            cells = [WITHHELD] * 4 if change.withheld else [_cell(side.bare), _cell(side.in_use), *_changed(side.difference, side.p_holm)]
            found.add_row(Text("" if i else change.task), Text(name), *cells, str(side.difference.n))
        cells = [WITHHELD] * 2 if change.withheld else _changed(change.difference, change.p_holm)
        found.add_row("", Text("difference"), "", "", *cells, str(change.difference.n), end_section=True)
    return found


def _changed(difference: Measurement, p: float) -> list[Text]:
    return [Text(figure(difference, signed=True)), Text(_p_value(p))]


def comparisons_table(comparisons: Sequence[Comparison]) -> Table:
    """Two models on several tasks, a row for each; p values and verdicts are adjusted for their number."""
    base, trained = comparisons[0].base.label, comparisons[0].trained.label
    title = f"accuracy on {len(comparisons)} tasks, 95% intervals, p by Holm"
    found = _table(title, base, trained, "change", "p", "verdict", first="task")
    notes: list[str] = []
    for comparison in comparisons:
        row = comparison["accuracy"]
        figures = [_cell(row.base), _cell(row.trained), Text(figure(row.difference, signed=True))]
        found_out = [Text(_p_value(comparison.p_holm)), Text(comparison.verdict.outcome)]
        cells = [WITHHELD] * 5 if comparison.withheld else [*figures, *found_out]
        found.add_row(_named(comparison.task, None, row.note, notes), *cells, str(comparison.verdict.n))
    return _captioned(found, notes)


def besides_table(comparisons: Sequence[Comparison]) -> Table | None:
    """What several tasks wanted reported beside accuracy, and how far each model's confidence is off; None where there is nothing."""
    base, trained = comparisons[0].base.label, comparisons[0].trained.label
    found = _table("what else the answers say, 95% intervals", base, trained, "change", first="task", second="what")
    for comparison in comparisons:
        rows = [row for row in comparison.rows if row.name.startswith(BESIDES) and row.difference is not None]
        for i, row in enumerate(rows):
            change = Text(figure(row.difference, signed=True), style=_style(row))
            cells = [WITHHELD] * 3 if comparison.withheld else [_cell(row.base), _cell(row.trained), change]
            found.add_row(Text("" if i else comparison.task), Text(row.title), *cells, str(row.difference.n if row.difference else ""))
    return found if found.rows else None


def calibration_table(forms: Sequence[FormCalibration]) -> Table:
    """How sure one model is, by each way of asking, against how often it is right."""
    found = _table("calibration, 95% intervals over problems", "right", "confidence", "ECE", "by chance", "Brier", "AUROC", first="asked by")
    notes: list[str] = []
    for one in forms:
        c, unparsed = one.calibration, f"{one.n_unparsed} without a confidence" if one.n_unparsed else ""
        note = "; ".join(part for part in (one.note, unparsed) if part)
        cells = [_cell(c.accuracy), _cell(c.confidence), *_errors(c)]
        found.add_row(_named(one.title, None, f"{one.title}: {note}" if note else "", notes), *cells, str(c.accuracy.n))
    return _captioned(found, notes)


def calibrations_table(forms: Sequence[tuple[str, FormCalibration]]) -> Table:
    """The same of several tasks, each named; how often it is right stands elsewhere."""
    found = _table("calibration, 95% intervals over problems", "ECE", "by chance", "Brier", "AUROC", first="task", second="asked by")
    for task, one in forms:
        found.add_row(Text(task), Text(one.title), *_errors(one.calibration), str(one.calibration.accuracy.n))
    return found


def _errors(c: Calibration) -> list[Text]:
    """How far confidence is from what comes true, and how well it tells right from wrong."""
    by_chance = "–" if math.isnan(c.ece.by_chance) else f"{c.ece.by_chance:.1%}"
    return [_cell(c.ece.error), Text(by_chance), _cell(c.brier), _cell(c.auroc)]


def _p_value(p: float | None) -> str:
    return "–" if p is None or math.isnan(p) else "< .001" if p < 0.001 else f"{p:.2g}"


def _table(title: str, *values: str, first: str = "", second: str = "") -> Table:
    found = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    found.add_column(first, min_width=14)
    if second:
        found.add_column(second)
    for value in values:
        found.add_column(Text(value), justify="right")
    found.add_column("n", justify="right")
    return found


def _captioned(found: Table, notes: list[str]) -> Table:
    found.caption = Text("\n".join(f"({i}) {note}" for i, note in enumerate(notes, 1)))
    return found


def _named(title: str, measurement: Measurement | None, note: str, notes: list[str]) -> Text:
    """The title with its unit and the number of its note; equal notes share one."""
    unit = measurement.unit if measurement and measurement.unit != "fraction" else ""
    return _noted(title + (f", {unit}" if unit else ""), [note] * bool(note), notes)


def _noted(title: str, own: Sequence[str], notes: list[str]) -> Text:
    """The title with the numbers of its notes, of which equal ones share one."""
    notes += [note for note in own if note not in notes]
    return Text(title + (f" ({', '.join(str(notes.index(note) + 1) for note in own)})" if own else ""))


def _cell(measurement: Measurement | None) -> Text:
    return Text(figure(measurement))


def figure(measurement: Measurement | None, signed: bool = False) -> str:
    """`23.1% [19.0 27.5]` for a share (points for its change), `5.35 ±0.08` otherwise, with at most two digits of the doubt."""
    if measurement is None or math.isnan(measurement.value):
        return "–"
    share = measurement.unit == "fraction"
    value, low, high = ((100 if share else 1) * number for number in (measurement.value, measurement.low, measurement.high))
    decimals = min(_decimals((high - low) / 2), 1 if share else 3)
    figure = f"{value:{'+' if signed else ''}z.{decimals}f}{'%' if share and not signed else ''}"
    if math.isnan(low):
        return figure
    return f"{figure} [{low:z.{decimals}f} {high:z.{decimals}f}]" if share else f"{figure} ±{(high - low) / 2:.{decimals}f}"


def _decimals(doubt: float) -> int:
    """As many as show two digits of the doubt; many where there is none."""
    return max(0, 1 - math.floor(math.log10(doubt))) if math.isfinite(doubt) and doubt > 0 else 9


def _style(row: Row) -> str:
    difference = row.difference
    if difference is None or not (difference.low > 0 or difference.high < 0):
        return ""
    if row.better is None or row.base is None:  # what only two models together have cannot fall below 0: its sign proves nothing
        return "bold"
    return "bold green" if (difference.low > 0) == (row.better == "higher") else "bold red"
