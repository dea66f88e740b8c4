"""The pass@k curves as a picture that stands alone, for a README or a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from posttrain.types import UserError

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 730, 84, 358
_LOOKS = {"base": ("#6a737f", "7 5"), "trained": ("#1f5fd0", "none")}
_FONT = "-apple-system, 'Segoe UI', 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Point(NamedTuple):
    k: int
    value: float
    low: float | None
    high: float | None


def pass_at_k_svg(comparison: Mapping[str, Any]) -> str:
    """Both models' pass@k over k, on a log2 axis with 95% interval bands, as the text of an SVG file.

    Its background is light and its own, so that it reads the same on a light and on a dark page; nothing in it is fetched.
    A value that is null or nan is left out, as is a band without both ends. Raises UserError where no value is left.
    """
    curves = {side: _points(comparison.get("pass_at_k") or {}, side) for side in _LOOKS}
    ks = sorted({point.k for points in curves.values() for point in points})
    if not ks:
        raise UserError("This comparison holds no pass@k to draw: compare with at least one problem and one sample.")
    parts = [_frame(comparison, ks), *(_curve(side, points, ks) for side, points in curves.items() if points)]
    legend = [_legend(comparison, side, at) for at, side in enumerate(side for side, points in curves.items() if points)]
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    label = _text(_spoken(comparison, curves), {'"': "&quot;"})
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}" font-family="{_FONT}" font-size="14">'
    return "\n".join([head, *parts, *legend, "</svg>", ""])


def _points(curves: Mapping[str, Any], side: str) -> list[_Point]:
    measures = zip(curves.get("k") or [], curves.get(side) or [], strict=False)
    points = [_Point(k, *(_known(measure, part) for part in ("value", "low", "high"))) for k, measure in measures if measure]
    return [point for point in points if point.value is not None]


def _known(measure: Mapping[str, Any], part: str) -> float | None:
    number = measure.get(part)
    return number if isinstance(number, int | float) and math.isfinite(number) else None


def _x(k: float, ks: Sequence[int]) -> float:
    span = math.log2(ks[-1]) - math.log2(ks[0])
    return _LEFT + 10 + (math.log2(k) - math.log2(ks[0])) / (span or 1) * (_RIGHT - _LEFT - 20)


def _y(value: float) -> float:
    return _BOTTOM - value * (_BOTTOM - _TOP)


def _curve(side: str, points: Sequence[_Point], ks: Sequence[int]) -> str:
    colour, dashes = _LOOKS[side]
    sure = [point for point in points if point.low is not None and point.high is not None]
    outline = [(point.k, point.high) for point in sure] + [(point.k, point.low) for point in reversed(sure)]
    band = f'<polygon points="{_places(outline, ks)}" fill="{colour}" fill-opacity="0.15"/>'
    places = _places([(point.k, point.value) for point in points], ks)
    line = f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'
    dots = (f'<circle cx="{_x(point.k, ks):.1f}" cy="{_y(point.value):.1f}" r="4" fill="{colour}"/>' for point in points)
    return "\n".join([band, line, *dots])


def _places(pairs: Sequence[tuple[float, float]], ks: Sequence[int]) -> str:
    return " ".join(f"{_x(k, ks):.1f},{_y(value):.1f}" for k, value in pairs)


def _frame(comparison: Mapping[str, Any], ks: Sequence[int]) -> str:
    card = f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>'
    grid = [
        f'<path d="M{_LEFT} {_y(part):.1f}H{_RIGHT}" stroke="{"#e4e7eb" if part else "#aab2bd"}"/>'
        f'<text x="{_LEFT - 10}" y="{_y(part) + 5:.1f}" text-anchor="end" fill="#57606a">{part:.0%}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    ]
    marks = [f'<text x="{_x(k, ks):.1f}" y="{_BOTTOM + 22}" text-anchor="middle" fill="#57606a">{k}</text>' for k in ks]
    name = f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 46}" text-anchor="middle" fill="#57606a">k attempts</text>'
    title = f'<text x="24" y="36" font-size="17" font-weight="600" fill="#1b1f24">{_text(_title(comparison))}</text>'
    return "\n".join([card, *grid, *marks, name, title])


def _title(comparison: Mapping[str, Any]) -> str:
    task = f" on {comparison['task']}" if comparison.get("task") else ""
    n = f" (n = {comparison['n_problems']:,} problems, bands: 95% intervals)" if comparison.get("n_problems") else ""
    return f"pass@k{task}{n}"


def _legend(comparison: Mapping[str, Any], side: str, at: int) -> str:
    colour, dashes = _LOOKS[side]
    left = 24 + 350 * at
    line = f'<path d="M{left} 59h30" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'
    return f'{line}<text x="{left + 40}" y="64" fill="#1b1f24">{_text(_label(comparison, side, 38))}</text>'


def _label(comparison: Mapping[str, Any], side: str, most: int = 200) -> str:
    label = str((comparison.get(side) or {}).get("label") or side)
    return label if len(label) <= most else label[: most - 1] + "…"


def _spoken(comparison: Mapping[str, Any], curves: Mapping[str, Sequence[_Point]]) -> str:
    values = {side: ", ".join(f"{point.value:.0%} at {point.k}" for point in points) for side, points in curves.items() if points}
    return "pass@k. " + "; ".join(f"{_label(comparison, side)}: {words}" for side, words in values.items())


def _text(words: str, entities: Mapping[str, str] | None = None) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", words), dict(entities or {}))
