"""One ability bare and in use on the page, drawn by the page's own script without a browser; and what is withheld there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.beside import UseChange, check_beside, side_by_side, use_changes
from posttrain.evals.beside_picture import LEFT, RIGHT, beside_svg
from posttrain.evals.compare import Subject, compare
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.records import plain
from posttrain.evals.report import write_report
from posttrain.tasks import load
from posttrain.types import Problem, Rollout, Score, UserError, unscored
from tests.evals.echo_task import EchoTask, says

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node is installed")
TASKS = [load("arithmetic:levels=1,n_test=20"), load("conversation:of=arithmetic,levels=1,n_test=20")]


def evaluated(forgets: int) -> list[Evaluation]:
    """Of a model that, late in a conversation, forgets answers that this divides."""

    def answer(problem: Problem, *_: int) -> str:
        return "I forgot" if len(problem.messages) > 1 and int(problem.answer) % forgets == 0 else problem.answer

    return [asyncio.run(measure(ScriptedAgent(answer), task, task.problems("test"), 1)) for task in TASKS]


def drawn(given: Any, folder: Path) -> ElementTree.Element:
    page = write_report(given, folder / "report.html")
    command = [str(NODE), str(Path(__file__).with_name("drawn_page.mjs")), str(page)]
    return ElementTree.fromstring(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def section(page: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(part for part in page.iter("section") if part.attrib.get("id") == name)


def words(part: ElementTree.Element) -> str:
    return " ".join(part.itertext())


@pytest.fixture(scope="module")
def changes() -> list[UseChange]:
    return use_changes(evaluated(2), evaluated(7))


@needs_node
def test_the_page_has_both_models_bare_and_in_use_and_the_difference_of_their_differences(changes: list[UseChange], tmp_path: Path) -> None:
    page = drawn({"base": {"label": "before"}, "trained": {"label": "<after>"}, "side_by_side": plain(changes)}, tmp_path)
    assert not [part for part in page.iter() if part.attrib.get("class") == "failed"], words(page)[:2000]
    found = section(page, "in-use")
    rows = list(found.find(".//tbody").iter("tr"))
    assert ["before" in words(rows[0]), "<after>" in words(rows[1]), "<after>'s change less before's" in words(rows[2])] == [True] * 3
    (change,) = changes
    for row, difference in zip(rows, (change.base.difference, change.trained.difference, change.difference), strict=True):
        assert f"{100 * difference.value:+.0f}".replace("-", "\N{MINUS SIGN}") in words(row).replace(".0", "")
    assert "worse" in words(rows[0]) and f"n {change.difference.n}" in words(rows[2])


@needs_node
def test_the_drawing_puts_each_value_where_it_is_on_one_scale_with_its_interval(changes: list[UseChange], tmp_path: Path) -> None:
    found = section(drawn({"side_by_side": plain(changes)}, tmp_path), "in-use")
    picture = next(part for part in found.iter("svg") if part.attrib.get("role") == "img" and "bare and" in part.attrib["aria-label"])
    (change,) = changes
    for name, side in (("base", change.base), ("trained", change.trained)):
        group = next(part for part in picture.iter("g") if part.attrib.get("class") == name)
        places = [float(circle.attrib["cx"]) for circle in group.iter("circle")]
        assert [(x - 24) / (420 - 48) for x in places] == pytest.approx([side.bare.value, side.in_use.value], abs=1e-3)
        assert len([bar for bar in group.iter("path") if bar.attrib["class"] == "whisker"]) == 2


@needs_node
def test_a_page_without_pairs_has_no_such_section_and_one_that_is_withheld_says_why(changes: list[UseChange], tmp_path: Path) -> None:
    assert not [part for part in drawn({"side_by_side": []}, tmp_path).iter("section") if part.attrib.get("id") == "in-use"]
    hidden = [replace(change, base=replace(change.base, withheld="12% of the attempts could not be scored")) for change in changes]
    found = section(drawn({"side_by_side": plain(hidden)}, tmp_path), "in-use")
    assert "withheld: 12% of the attempts could not be scored" in words(found) and not list(found.iter("circle"))


def test_bare_beside_in_use_is_withheld_with_too_many_unscored_unless_asked_for() -> None:
    class Shrugging(type(TASKS[1])):
        async def score(self, rollout: Rollout) -> Score:
            return unscored("who knows") if int(rollout.problem.answer) % 2 else await super().score(rollout)

    shrugging = Shrugging(TASKS[1].task)
    found = [evaluated(7)[0], asyncio.run(measure(says("{answer}"), shrugging, shrugging.problems("test"), 1))]
    (hidden,), (asked_for,) = side_by_side(found), side_by_side(found, unscored_ok=True)
    assert "could not be scored" in hidden.withheld and asked_for.withheld == "" and asked_for.in_use == hidden.in_use


def test_the_picture_of_one_model_has_each_pair_on_one_scale_and_none_that_is_withheld() -> None:
    (pair,) = side_by_side(evaluated(2))
    picture = ElementTree.fromstring(beside_svg("<m>", [pair, replace(pair, withheld="too few")]))
    bare, used = (float(circle.attrib["cx"]) for circle in picture.iter("{http://www.w3.org/2000/svg}circle"))
    assert [(x - LEFT) / (RIGHT - LEFT) for x in (bare, used)] == pytest.approx([pair.bare.value, pair.in_use.value], abs=1e-3)
    assert f"{pair.task} (n = {pair.difference.n})" in words(picture) and beside_svg("m", [replace(pair, withheld="too few")]) == ""


def test_a_task_in_use_is_not_set_beside_one_that_asks_other_problems() -> None:
    def chosen(*specs: str) -> list[Any]:
        return [(task, task.problems("test")) for task in map(load, specs)]

    check_beside(chosen("arithmetic:levels=1,n_test=9", "conversation:of=arithmetic,levels=1,n_test=9", "facts"))
    check_beside(chosen("conversation:of=arithmetic,levels=1,n_test=9"))
    with pytest.raises(UserError, match="arithmetic in a long conversation does not ask the problems of arithmetic"):
        check_beside(chosen("arithmetic:levels=1,n_test=9", "conversation:of=arithmetic,levels=2,n_test=9"))


@needs_node
def test_what_the_terminal_withholds_stands_on_no_page_and_the_warnings_do(tmp_path: Path) -> None:
    def page(unscored_ok: bool) -> ElementTree.Element:
        task = EchoTask(20)
        subjects = [Subject(name, name, says(*texts)) for name, texts in (("base", ("mumble", "{answer}")), ("trained", ("{answer}", "{answer}")))]
        found = asyncio.run(compare(*subjects, task, task.problems("test"), 2, heldout_tokens=0, unscored_ok=unscored_ok))
        return drawn(found.to_json(), tmp_path)

    hidden, shown = page(False), page(True)
    accuracy = next(row for row in section(hidden, "changes").iter("tr") if words(row).startswith("Accuracy"))
    assert "withheld" in words(accuracy) and "%" not in words(accuracy) and "pass-at-k" not in {part.attrib.get("id") for part in hidden.iter("section")}
    assert "50% of the attempts could not be scored" in words(hidden)
    assert "%" in words(next(row for row in section(shown, "changes").iter("tr") if words(row).startswith("Accuracy"))) and section(shown, "pass-at-k")


@needs_node
def test_a_single_attempt_at_each_problem_has_no_curve_over_k(tmp_path: Path) -> None:
    task = EchoTask(6)
    subjects = [Subject(name, name, says("{answer}")) for name in ("base", "trained")]
    found = asyncio.run(compare(*subjects, task, task.problems("test"), 1, heldout_tokens=0))
    assert "pass-at-k" not in {part.attrib.get("id") for part in drawn(found.to_json(), tmp_path).iter("section")}
