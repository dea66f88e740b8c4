"""What the page draws of calibration and of the base at another temperature: its own script run without a browser."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from posttrain.evals.compare import Subject, compare, paired_row
from posttrain.evals.comparison import Comparison
from posttrain.evals.confidence import agreement, answers_of
from posttrain.evals.matched import match_base
from posttrain.evals.report import verdict, write_report
from tests.evals.tabular import Tabular
from tests.evals.test_matched import world

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node is installed")


@pytest.fixture(scope="module")
def found() -> Comparison:
    """A table, and the same at half the temperature."""
    task, logits = world(30)

    async def confide(task, records):
        return (agreement(records, answers_of(task)),)

    async def matched(before, after):
        return await match_base(lambda t: Subject("base", "", Tabular(logits).at(t)), task, before, after, paired_row)

    base, trained = (Subject(name, name, Tabular(table), confide=confide) for name, table in (("base", logits), ("<trained>", 2 * logits)))
    return asyncio.run(compare(base, trained, task, task.problems("test"), 8, matched=matched))


@pytest.fixture(scope="module")
def drawn(found: Comparison, tmp_path_factory: pytest.TempPathFactory) -> ElementTree.Element:
    page = write_report(found.to_json(), tmp_path_factory.mktemp("page") / "report.html")
    command = [str(NODE), str(Path(__file__).with_name("drawn_page.mjs")), str(page)]
    return ElementTree.fromstring(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def section(drawn: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(part for part in drawn.iter("section") if part.attrib["id"] == name)


@needs_node
def test_every_section_is_drawn(drawn: ElementTree.Element) -> None:
    assert not [part for part in drawn.iter() if part.attrib.get("class") == "failed"], "".join(drawn.itertext())[:2000]


@needs_node
def test_the_diagram_has_a_dot_and_a_bar_for_each_bin_of_both_models(found: Comparison, drawn: ElementTree.Element) -> None:
    (form,) = found.calibration
    svg = next(part for part in section(drawn, "calibration").iter("svg") if part.attrib.get("role") == "img")
    for side in ("base", "trained"):
        bins = getattr(form, side).calibration.bins
        groups = [part for part in svg.iter("g") if part.attrib.get("class") == side]
        assert len(groups) == len(bins)
        places = [(float(g.find("circle").attrib["cx"]), float(g.find("circle").attrib["cy"])) for g in groups]  # type: ignore[union-attr]
        assert [x for x, _ in places] == sorted(x for x, _ in places), "in the order of their confidence"
        higher = sorted(zip(bins, places, strict=True), key=lambda pair: pair[0].accuracy.value)
        assert [y for _, (_, y) in higher] == sorted((y for _, (_, y) in higher), reverse=True), "y grows downwards"
        assert all(g.find("path") is not None for g, b in zip(groups, bins, strict=True) if b.accuracy.n > 1)


@needs_node
def test_the_figures_stand_below_with_the_floor_and_the_models_names_are_text(found: Comparison, drawn: ElementTree.Element) -> None:
    words = " ".join(section(drawn, "calibration").itertext())
    floor = found.calibration[0].base.calibration.ece.by_chance
    assert f"{floor:.1%}" in words and "<trained>" in words and "Answer agreement" in words
    table = section(drawn, "matched").find(".//tbody")
    assert table is not None and len(table) == 4 and found.matched is not None
    assert f"{found.matched.temperature:.3g}" in " ".join(section(drawn, "matched").itertext())


def test_the_verdict_says_what_the_temperature_explains(found: Comparison) -> None:
    said = verdict(found.to_json())
    assert said.startswith("Accuracy") and all(sentence in said for sentence in found.findings) and len(found.findings) == 2
    assert "this shows no more than the base at a lower temperature" in said
