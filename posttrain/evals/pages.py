"""What the pages of figures share: a file that stands alone, tables of text, and measurements in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1320px;margin:2em auto;padding:0 1em;color:#1c2128;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0 2em}td,th{padding:.3em .9em;text-align:left;border-bottom:1px solid #d5d9de}"
    "caption{text-align:left;font-weight:bold;padding:.4em 0}figure{display:inline-block;margin:0}"
)
Table = tuple[str, tuple[str, ...], list[list[str]]]
"""A title, the names of the columns, and rows of text."""


def standing_alone(title: str, body: str, figures: Any, heading: str = "") -> str:
    """An HTML file with the figures as JSON behind its body. No script runs in it, nothing is fetched. `body` is HTML, the others text."""
    data = json.dumps(figures).replace("<", "\\u003c")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f'<body><h1>{escape(heading or title)}</h1>{body}<script type="application/json" id="figures">{data}</script></body></html>'
    )


def html_figures(pictures: Iterable[str]) -> str:
    return "".join(f"<figure>{picture}</figure>" for picture in pictures)


def html_list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def html_tables(tables: Iterable[Table]) -> str:
    return "".join(_html_table(*table) for table in tables)


def _html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{body}</table>"


def spoken(m: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A measurement, as JSON has it, with its interval; without one where n is too small for it."""
    if not m or m["value"] is None:
        return ""
    low_high = ends(m)
    return f"{m['value']:.{digits}f}" + (f" [{low_high[0]:.{digits}f} {low_high[1]:.{digits}f}]" if low_high else "")


def ends(m: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval of a measurement, as JSON has it; None where n is too small for one."""
    return (m["low"], m["high"]) if m["low"] is not None and math.isfinite(m["low"]) else None
