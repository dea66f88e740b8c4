"""Curves and points with their intervals, as an SVG text that stands alone: its own light ground, nothing fetched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 68, 618, 78, 340
GREY, INK = "#57606a", "#1c2128"
NAME = 80
"""The most letters of a name in the legend: as many as are sure to fit into a row."""
BAND = 0.13
"""How dark a band is among at most five; the more there are, the fainter."""


@dataclass(frozen=True)
class Mark:
    """A value at a place, with the interval of either where it is known."""

    x: float
    y: float
    y_ends: tuple[float, float] | None = None
    x_ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Marks of one name."""

    name: str
    colour: str
    marks: Sequence[Mark]
    is_line: bool = False
    """Joined by a line, with the intervals of y as a band and those of x as bars; else, and where there is one mark alone, dots with bars."""
    dashes: str = ""
    """Of the line, as SVG writes them."""

    @property
    def known(self) -> list[Mark]:
        return [m for m in self.marks if math.isfinite(m.x) and math.isfinite(m.y)]


def chart(title: str, x_label: str, y_label: str, series: Sequence[Series], log_x: float = 0) -> str:
    """The picture, or nothing where no series has a finite mark. `log_x` is the base of a logarithmic x axis (2 or 10); 0 is a plain one.

    Raises ValueError for a place at or below 0 on a logarithmic axis.
    """
    marks = [m for s in series for m in s.known]
    if not marks:
        return ""
    if log_x:
        series = [_in_logs(s, log_x) for s in series]
        marks = [m for s in series for m in s.known]
    xs = [x for m in marks for x in (m.x, *(m.x_ends or ()))]
    ys = [y for m in marks for y in (m.y, *(m.y_ends or ()))]
    x_ticks, y_ticks = (_whole_ticks if log_x else _ticks)(min(xs), max(xs)), _ticks(min(ys), max(ys))
    x_at, y_at = _scale(x_ticks, LEFT, RIGHT), _scale(y_ticks, BOTTOM, TOP)
    legend, rows = _legend(series)
    top = -18 * max(rows - 1, 0)  # more rows than stand above the frame make the picture taller, above itself
    size = f'width="{WIDTH}" height="{HEIGHT - top}" viewBox="0 {top} {WIDTH} {HEIGHT - top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="13">'
    faint = BAND * min(1, 5 / len(series))
    drawn = [part for s in series if _joins(s) for part in _band(s, x_at, y_at, faint)]
    drawn += [part for s in series for part in (_line if _joins(s) else _dots)(s, x_at, y_at)]
    return "\n".join([head, *_title(title, top), *_frame(x_label, y_label, _named(x_ticks, log_x), y_ticks, x_at, y_at), *legend, *drawn, "</svg>"])


Place = Callable[[float], float]


def shortened(text: str, most: int) -> str:
    """The text, or its end: what tells long names apart stands there."""
    return text if len(text) <= most else f"…{text[-most + 1 :]}"


def _joins(s: Series) -> bool:
    """Whether there is a line to see: one mark makes none."""
    return s.is_line and len(s.known) > 1


def _band(s: Series, x_at: Place, y_at: Place, opacity: float) -> Iterator[str]:
    """The intervals of a line, beneath all lines."""
    sure = [m for m in s.known if m.y_ends]
    band = [(m.x, m.y_ends[1]) for m in sure] + [(m.x, m.y_ends[0]) for m in reversed(sure)]
    if len(sure) > 1:
        yield f'<polygon points="{_places(band, x_at, y_at)}" fill="{s.colour}" fill-opacity="{opacity:.3g}"/>'


def _line(s: Series, x_at: Place, y_at: Place) -> Iterator[str]:
    known = s.known
    for m in known:
        if m.x_ends:
            yield f'<path d="M{x_at(m.x_ends[0]):.1f} {y_at(m.y):.1f}H{x_at(m.x_ends[1]):.1f}" stroke="{s.colour}" stroke-opacity=".4"/>'
    places = _places([(m.x, m.y) for m in known], x_at, y_at)
    yield f'<polyline points="{places}" fill="none" stroke="{s.colour}" stroke-width="2" stroke-dasharray="{s.dashes or "none"}"/>'


def _dots(s: Series, x_at: Place, y_at: Place) -> Iterator[str]:
    for m in s.known:
        x, y = x_at(m.x), y_at(m.y)
        if m.y_ends:
            yield f'<path d="M{x:.1f} {y_at(m.y_ends[0]):.1f}V{y_at(m.y_ends[1]):.1f}" stroke="{s.colour}" stroke-width="2"/>'
        if m.x_ends:
            yield f'<path d="M{x_at(m.x_ends[0]):.1f} {y:.1f}H{x_at(m.x_ends[1]):.1f}" stroke="{s.colour}" stroke-width="2"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{s.colour}"/>'


def _places(pairs: Sequence[tuple[float, float]], x_at: Place, y_at: Place) -> str:
    return " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in pairs)


def _title(title: str, top: int) -> Iterator[str]:
    yield f'<rect y="{top}" width="{WIDTH}" height="{HEIGHT - top}" fill="#fff"/>'
    yield f'<text x="20" y="{top + 26}" font-size="15" font-weight="bold" fill="{INK}">{escape(shortened(title, 68))}</text>'


def _frame(x_label: str, y_label: str, x_ticks: list[tuple[float, str]], y_ticks: list[float], x_at: Place, y_at: Place) -> Iterator[str]:
    for y in y_ticks:
        yield f'<path d="M{LEFT} {y_at(y):.1f}H{RIGHT}" stroke="{"#aab2bd" if y == 0 else "#e4e7eb"}"/>'
        yield f'<text x="{LEFT - 8}" y="{y_at(y) + 4:.1f}" text-anchor="end" fill="{GREY}">{_number(y)}</text>'
    for x, name in x_ticks:
        yield f'<text x="{x_at(x):.1f}" y="{BOTTOM + 20}" text-anchor="middle" fill="{GREY}">{name}</text>'
    yield f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 44}" text-anchor="middle" fill="{GREY}">{escape(x_label)}</text>'
    middle = (TOP + BOTTOM) / 2
    yield f'<text x="16" y="{middle}" text-anchor="middle" fill="{GREY}" transform="rotate(-90 16 {middle})">{escape(y_label)}</text>'


def _legend(series: Sequence[Series]) -> tuple[list[str], int]:
    """The names in as many rows as it takes, the last of them above the frame, and how many these are."""
    left, row, places = 20, 0, []
    for s in (s for s in series if s.known):
        width = 42 + 7 * len(shortened(s.name, NAME))
        if left + width > WIDTH and left > 20:
            left, row = 20, row + 1
        places.append((s, left, row))
        left += width + 12
    first = 50 - 18 * row
    return [part for s, left, at in places for part in _name(s, left, first + 18 * at)], row + 1


def _name(s: Series, left: int, y: int) -> Iterator[str]:
    look = f'<path d="M{left} {y}h26" stroke="{s.colour}" stroke-width="2.5" stroke-dasharray="{s.dashes or "none"}"/>'
    yield look if _joins(s) else f'<circle cx="{left + 13}" cy="{y}" r="5" fill="{s.colour}"/>'
    yield f'<text x="{left + 34}" y="{y + 4}" fill="{INK}">{escape(shortened(s.name, NAME))}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in equal steps that enclose both."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _whole_ticks(low: float, high: float) -> list[float]:
    """Whole powers that enclose both; every other one where there are many."""
    first, last = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    step = 1 + (last - first) // 10
    return [float(i) for i in range(first, max(last, first + 1) + step, step)]


def _in_logs(s: Series, base: float) -> Series:
    """The series with the logarithms of its places."""
    if any(m.x <= 0 for m in s.known):
        raise ValueError(f"{s.name} has a place at or below 0, which has no logarithm")
    log = lambda x: math.log(x) / math.log(base)  # noqa: E731
    return replace(s, marks=[replace(m, x=log(m.x), x_ends=None if m.x_ends is None else tuple(map(log, m.x_ends))) for m in s.known])


def _named(ticks: Sequence[float], log_x: float) -> list[tuple[float, str]]:
    return [(tick, _number(log_x**tick if log_x else tick)) for tick in ticks]


def _scale(ticks: list[float], start: float, end: float) -> Place:
    return lambda v: start + (v - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start)


def _number(value: float) -> str:
    return f"{value:.6g}"
