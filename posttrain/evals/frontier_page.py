"""The reward–KL frontier as a picture and a page that stand alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 62, 620, 46, 326
COLOURS = {"start": "#6a737f", "ppo": "#1f5fd0", "dpo": "#c2571a", "raft": "#1a8a4a"}


def frontier_svg(title: str, points: Sequence[Mapping[str, Any]], paths: Mapping[str, Sequence[tuple[float, float]]], best_of_n: Sequence[Mapping[str, Any]], side: str) -> str:
    """Reward (`side`: proxy or gold) against KL, with 95% intervals; thin lines are what training passed through, dashes best-of-n."""
    shown = [p for p in points if p.get(side)]
    bon = [(b["kl_bound_nats"], b[side]["value"]) for b in best_of_n if b.get(side)]
    xs = [0.0, *(p["kl_nats"]["value"] for p in shown), *(x for x, _ in bon), *(x for path in paths.values() for x, _ in path)]
    ys = [*(v for p in shown for v in _ends(p[side])), *(y for _, y in bon), *(y for path in paths.values() for _, y in path)]
    xs, ys = [x for x in xs if math.isfinite(x)], [y for y in ys if math.isfinite(y)]
    if not ys:
        return ""
    x_at, y_at = _scale(min(xs), max(xs), LEFT, RIGHT), _scale(min(ys), max(ys), BOTTOM, TOP)
    parts = [_frame(title, side, min(xs), max(xs), min(ys), max(ys), x_at, y_at)]
    if len(bon) > 1:
        parts.append(f'<polyline points="{_line(bon, x_at, y_at)}" fill="none" stroke="#6a737f" stroke-width="1.5" stroke-dasharray="5 5"/>')
    for name, path in paths.items():
        kept = [(x, y) for x, y in path if math.isfinite(x) and math.isfinite(y)]
        parts.append(f'<polyline points="{_line(kept, x_at, y_at)}" fill="none" stroke="{_colour(name)}" stroke-width="1" opacity=".45"/>')
    for p in shown:
        x, y, (low, high), colour = x_at(p["kl_nats"]["value"]), y_at(p[side]["value"]), _ends(p[side]), _colour(p["name"])
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y_at(low):.1f}" y2="{y_at(high):.1f}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        anchor, dx = ("end", -9) if x > RIGHT - 60 else ("start", 9)
        parts.append(f'<text x="{x + dx:.1f}" y="{y - 7:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(p["name"])}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="13">'
    return "\n".join([head, *parts, "</svg>"])


def page(found: Mapping[str, Any]) -> str:
    """One HTML file: the pictures, the table, and the figures as JSON."""
    pictures = [frontier_svg(f"{side} reward against KL", found["points"], found["paths"].get(side, {}), found["best_of_n"], side) for side in ("proxy", "gold")]
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table_rows(found))
    header = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    data = json.dumps(found).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>RLHF: what each method paid</title><style>body{font:15px/1.5 sans-serif;'
        "max-width:1320px;margin:2em auto;padding:0 1em;color:#1c2128;background:#fff}table{border-collapse:collapse}td,th{padding:.3em .9em;"
        "text-align:left;border-bottom:1px solid #d5d9de}figure{display:inline-block;margin:0}</style>"
        f"<h1>RLHF: what each method paid for its reward</h1><p>{escape(found['about'])}</p>"
        + "".join(f"<figure>{picture}</figure>" for picture in pictures)
        + f"<p>Points are the finished models, with 95% intervals over problems; thin lines what training passed through; dashes the best of"
        f" n samples of the start, at the upper bound of its KL.</p><table><tr>{header}</tr>{rows}</table>"
        f'<script type="application/json" id="figures">{data}</script></html>'
    )


COLUMNS = (
    "model", "proxy reward", "gold reward", "KL to start, nats", "length, tokens", "held-out log-prob/token, change", "untouched accuracy",
    "accuracy by letter", "ECE by letter (by chance)", "n",
)  # fmt: skip


def table_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells as text."""
    return [
        [
            p["name"], spoken(p["proxy"]), spoken(p["gold"]), spoken(p["kl_nats"]), spoken(p["length_tokens"], 1), spoken(p.get("heldout_change"), 4),
            spoken(p.get("untouched")), spoken(p["choices"]["accuracy"]) if p.get("choices") else "",
            f"{p['choices']['ece']:.3f} ({p['choices']['ece_by_chance']:.3f})" if p.get("choices") else "", str(p["proxy"]["n"]),
        ]
        for p in found["points"]
    ]  # fmt: skip


def spoken(m: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A measurement with its interval."""
    return f"{m['value']:.{digits}f} [{m['low']:.{digits}f} {m['high']:.{digits}f}]" if m else ""


def _ends(m: Mapping[str, Any]) -> tuple[float, float]:
    return (m["low"], m["high"]) if math.isfinite(m["low"]) else (m["value"], m["value"])


def _colour(name: str) -> str:
    return COLOURS.get(name, "#7a3db8")


def _scale(low: float, high: float, start: float, end: float):
    span = (high - low) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def _line(path: Sequence[tuple[float, float]], x_at, y_at) -> str:
    return " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in path)


def _frame(title: str, side: str, x0: float, x1: float, y0: float, y1: float, x_at, y_at) -> str:
    ticks = [f'<text x="{x_at(v):.1f}" y="{BOTTOM + 18}" text-anchor="middle" fill="#57606a">{v:.2g}</text>' for v in _ticks(x0, x1)]
    ticks += [f'<text x="{LEFT - 8}" y="{y_at(v) + 4:.1f}" text-anchor="end" fill="#57606a">{v:.3g}</text>' for v in _ticks(y0, y1)]
    lines = [f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y_at(v):.1f}" y2="{y_at(v):.1f}" stroke="#e4e7eb"/>' for v in _ticks(y0, y1)]
    return (
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{LEFT}" y="24" font-size="15" font-weight="bold" fill="#1c2128">{escape(title)}</text>'
        + "".join(lines + ticks)
        + f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle" fill="#57606a">KL to the start, nats per answer</text>'
    )


def _ticks(low: float, high: float, n: int = 5) -> list[float]:
    return [low + (high - low) * i / (n - 1) for i in range(n)] if high > low else [low]
