"""Confidences before and after, the temperature that mends them, and their picture."""

from __future__ import annotations

import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from posttrain.calibration_intervals import Predictions, calibrate
from posttrain.evals.confidence import Confidences, options, softmax
from posttrain.evals.calibrated import change_lines, form_calibration, form_changes, form_lines, form_rows, reliability_svg, scaled
from posttrain.evals.table import calibration_table

SVG = "{http://www.w3.org/2000/svg}"


def quiz(sharpness: float, n: int = 400, seed: int = 0) -> Confidences:
    """Questions of four options whose truth is drawn from known laws, answered with those laws to the power of `sharpness`."""
    dice = np.random.default_rng(seed)
    laws = dice.dirichlet((1.2, 0.6, 0.6, 0.6), n)
    truth = [(int(dice.choice(4, p=law)),) for law in laws]
    return options(sharpness * np.log(laws + 1e-12), truth, [str(i) for i in range(n)])


def test_a_model_that_is_twice_too_sharp_needs_a_temperature_of_two_and_is_mended_on_the_other_half() -> None:
    found = scaled(quiz(2.0, n=1000))
    assert found is not None
    assert found.temperature.low < 2 < found.temperature.high and found.temperature.n == 500
    assert found.before.error.low > 0.05 and found.before.error.n == found.after.error.n == 500
    assert found.after.error.value < found.after.by_chance_high < found.before.error.value
    assert found.change.high < 0


def test_a_calibrated_model_needs_none_and_is_not_made_worse() -> None:
    found = scaled(quiz(1.0))
    assert found is not None and found.temperature.low < 1 < found.temperature.high
    assert found.change.low < 0 < found.change.high


def test_questions_of_fewer_options_are_as_if_the_others_were_impossible() -> None:
    few, most = quiz(2.0, n=60), quiz(2.0, n=60, seed=1)
    short = [row[:2] for row in few.logits]
    rows, truth = [*short, *most.logits], [*(min(place, 1) for place in few.truth), *most.truth]
    clusters = [str(i) for i in range(120)]
    padded = [[*row, *[-np.inf] * (4 - len(row))] for row in rows]
    found, same = (scaled(options(logits, [(place,) for place in truth], clusters)) for logits in (rows, padded))
    assert found is not None and found == same and np.isfinite(found.temperature.value)


def test_where_nothing_was_sure_of_anything_no_floor_is_claimed() -> None:
    none = Confidences("verbalised", Predictions((), (), (), ()), 8)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(calibration_table([form_calibration(none)]))
    assert "nan" not in console.export_text() and not any("nan" in row.note for row in form_rows(form_changes([none], [none])))


def test_a_temperature_changes_how_sure_and_never_which() -> None:
    sharp = quiz(2.0)
    cooled = [softmax(row, 2.0) for row in sharp.logits]
    assert [int(row.argmax()) for row in cooled] == list(sharp.chosen)
    assert softmax([2.0, 0.0], 2.0) == pytest.approx(softmax([1.0, 0.0]))


def test_the_halves_are_of_problems_so_that_no_problem_is_on_both() -> None:
    given = quiz(2.0, n=40)
    twice = options([*given.logits, *given.logits], [(place,) for place in (*given.truth, *given.truth)], [*given.predictions.clusters, *given.predictions.clusters])
    found, once = scaled(twice), scaled(given)
    assert found is not None and once is not None
    assert (found.temperature.n, found.before.error.n) == (20, 20)
    assert found.temperature.value == pytest.approx(once.temperature.value, rel=1e-3)


def test_without_logits_or_problems_there_is_nothing_to_scale() -> None:
    assert scaled(Confidences("agreement", Predictions((0.5, 0.5), (1.0, 0.0), ("a", "b"), ("0", "1")))) is None
    assert scaled(quiz(1.0, n=3)) is None and form_calibration(quiz(1.0, n=3)).scaling is None


def test_sharpening_shows_as_calibration_lost_with_its_rows_and_its_words() -> None:
    before, after = quiz(1.0), quiz(3.0)
    changes = form_changes((before,), (after,))
    rows = {row.name: row for row in form_rows(changes)}
    assert set(rows) == {"ece_options", "brier_options", "auroc_options"}
    ece = rows["ece_options"]
    assert ece.difference is not None and ece.difference.low > 0.05 and ece.better == "lower" and "chance alone" in ece.note
    lines = change_lines(changes)
    assert len(lines) == 2 and lines[1].startswith("option likelihood (trained): one temperature, 2.9")
    assert form_lines([form_calibration(after)])[0].startswith("option likelihood: one temperature, 2.9")


def test_forms_that_only_one_model_was_asked_in_are_not_compared() -> None:
    assert form_changes((quiz(1.0, n=8),), ()) == ()


def test_the_picture_has_a_dot_for_each_bin_at_its_confidence_and_accuracy_and_a_diagonal() -> None:
    found = calibrate(quiz(1.0).predictions)
    svg = ElementTree.fromstring(reliability_svg("P(True), <facts>", {"base": found, "trained": found}))
    dots = [circle for circle in svg.findall(f"{SVG}circle") if circle.attrib["cy"] != "50"]
    assert len(dots) == 2 * len(found.bins)
    line = svg.find(f"{SVG}polyline")
    assert line is not None and len(line.attrib["points"].split()) == 2
    xs = [float(dot.attrib["cx"]) for dot in dots[: len(found.bins)]]
    assert xs == sorted(xs) and "P(True), <facts> (n = 400 problems)" in [text.text for text in svg.iter(f"{SVG}text")]


def test_without_any_confidence_there_is_no_picture() -> None:
    assert reliability_svg("agreement", {"trained": replace(calibrate(quiz(1.0, n=20).predictions), bins=())}) == ""
