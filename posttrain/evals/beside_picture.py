"""One ability bare and in use as a picture that stands alone: for each pair the bare accuracy above, the one in use below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from posttrain.evals.beside import SideBySide
from posttrain.evals.chart import GREY, INK, shortened
from posttrain.types import Measurement

WIDTH, LEFT, RIGHT, TOP, EACH, BELOW = 640, 24, 616, 66, 56, 46
LOOK = "#1f5fd0"


def beside_svg(model: str, pairs: Sequence[SideBySide]) -> str:
    """Accuracies between 0 and 1 with their 95% intervals, as the text of an SVG file; nothing where no pair may be shown."""
    shown = [pair for pair in pairs if not pair.withheld and math.isfinite(pair.difference.value)]
    if not shown:
        return ""
    bottom = TOP + EACH * len(shown)
    size = f'width="{WIDTH}" height="{bottom + BELOW}" viewBox="0 0 {WIDTH} {bottom + BELOW}"'
    title = escape(shortened(f"{model}: the same problems bare and in use", 68))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}" font-family="sans-serif" font-size="13">'
    drawn = [part for i, pair in enumerate(shown) for part in _pair(pair, TOP + EACH * i)]
    return "\n".join([head, f'<rect width="{WIDTH}" height="{bottom + BELOW}" fill="#fff"/>', *_frame(title, bottom), *drawn, "</svg>"])


def _frame(title: str, bottom: int) -> Iterator[str]:
    yield f'<text x="{LEFT}" y="26" font-size="15" font-weight="bold" fill="{INK}">{title}</text>'
    yield f'<text x="{LEFT}" y="48" fill="{GREY}">open and above: bare; filled and below: in use; bars are 95% intervals over problems</text>'
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        yield f'<path d="M{_x(share)} {TOP}V{bottom}" stroke="#e4e7eb"/>'
        yield f'<text x="{_x(share)}" y="{bottom + 18}" text-anchor="middle" fill="{GREY}">{share:.0%}</text>'
    yield f'<text x="{(LEFT + RIGHT) / 2}" y="{bottom + 38}" text-anchor="middle" fill="{GREY}">accuracy</text>'


def _pair(pair: SideBySide, top: int) -> Iterator[str]:
    yield f'<text x="{LEFT + 4}" y="{top + 16}" fill="{INK}">{escape(pair.task)} (n = {pair.difference.n})</text>'
    above, below = top + 29, top + 43
    yield f'<path d="M{_x(pair.bare.value)} {above}L{_x(pair.in_use.value)} {below}" stroke="{LOOK}" stroke-dasharray="2 3"/>'
    yield from _value(pair.bare, above, "#fff")
    yield from _value(pair.in_use, below, LOOK)


def _value(accuracy: Measurement, y: int, fill: str) -> Iterator[str]:
    if math.isfinite(accuracy.low):
        yield f'<path d="M{_x(accuracy.low)} {y}H{_x(accuracy.high)}" stroke="{LOOK}" stroke-width="2" stroke-opacity=".55"/>'
    yield f'<circle cx="{_x(accuracy.value)}" cy="{y}" r="4.5" fill="{fill}" stroke="{LOOK}" stroke-width="2"/>'


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 1)
