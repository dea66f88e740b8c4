"""A chart: within its frame, between round ticks, and silent about what is not known."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from posttrain.evals.chart import BOTTOM, LEFT, RIGHT, TOP, Mark, Series, chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*series: Series) -> ElementTree.Element:
    return ElementTree.fromstring(chart("title", "x", "y", series))


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 37.0, 1e9])
def test_everything_lies_within_the_frame_and_ticks_are_round(scale: float) -> None:
    marks = [Mark(0.13 * scale, -0.7 * scale, (-1.1 * scale, 0.2 * scale)), Mark(0.92 * scale, 2.3 * scale, None, (0.5 * scale, 1.4 * scale))]
    svg = drawn(Series("dots", "#123456", marks), Series("line", "#654321", marks, is_line=True))
    for circle in svg.findall(f"{SVG}circle")[1:]:
        assert LEFT <= float(circle.attrib["cx"]) <= RIGHT and TOP <= float(circle.attrib["cy"]) <= BOTTOM
    numbers = [float(text) for text in texts(svg) if text.lstrip("-").replace(".", "").replace("e", "").replace("+", "").replace("-", "").isdigit()]
    assert len(numbers) >= 6 and min(numbers) <= -1.1 * scale and max(numbers) >= 2.3 * scale
    assert all(f"{number:.2e}".split("e")[0] in ("0.00", *(f"{sign}{m}.{h}0" for sign in ("", "-") for m in range(1, 10) for h in range(10))) for number in numbers)


def test_what_is_not_finite_is_left_out_and_nothing_at_all_is_no_picture() -> None:
    line = drawn(Series("line", "#123456", [Mark(0, 1), Mark(1, math.nan), Mark(math.inf, 1), Mark(2, 3)], is_line=True)).find(f"{SVG}polyline")
    assert line is not None and len(line.attrib["points"].split()) == 2
    assert chart("title", "x", "y", [Series("empty", "#123456", []), Series("nan", "#123456", [Mark(0, math.nan)])]) == ""


def test_a_single_value_has_a_frame_of_its_own() -> None:
    svg = drawn(Series("one", "#123456", [Mark(3, 0.5)]))
    circle = svg.findall(f"{SVG}circle")[1]
    assert LEFT <= float(circle.attrib["cx"]) <= RIGHT and TOP <= float(circle.attrib["cy"]) <= BOTTOM
    assert "0" in texts(drawn(Series("zero", "#123456", [Mark(0, 0)])))


def test_a_line_of_one_mark_is_seen_as_a_dot() -> None:
    one, two = (drawn(Series("line", "#123456", [Mark(x, 0.5, (0.4, 0.6)) for x in range(n)], is_line=True)) for n in (1, 2))
    assert len(one.findall(f"{SVG}circle")) == 2 and not one.findall(f"{SVG}polyline"), "one in the legend, one in its place"
    assert len(two.findall(f"{SVG}polyline")) == 1 and not two.findall(f"{SVG}circle")


def test_names_are_text_and_never_markup() -> None:
    svg = ElementTree.fromstring(chart("<a> & b", "x < y", '"q"', [Series("<script>", "#123456", [Mark(0, 1)])]))
    assert {"<a> & b", "x < y", '"q"', "<script>"} <= set(texts(svg)) and not list(svg.iter(f"{SVG}script"))


def test_many_names_stand_above_the_frame_and_within_the_picture() -> None:
    svg = drawn(*(Series(f"a name of some length, {i}", "#123456", [Mark(1, 1), Mark(2, 2)], is_line=True) for i in range(9)))
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    places = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in svg.iter(f"{SVG}text") if "a name" in (e.text or "")]
    title = next(float(e.attrib["y"]) for e in svg.iter(f"{SVG}text") if e.text == "title")
    assert len(places) == 9 and len(set(places)) == 9 and width == float(svg.attrib["width"]) and top + height == 400
    assert all(title < y < TOP - 3 and x < width for x, y in places) and top < title
