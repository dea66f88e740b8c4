"""The page a person reads after a comparison: one HTML file that needs no network, server or other file.

The page carries the comparison as JSON and draws it with a script of its own. Whatever a model wrote is data: it is
embedded with `<`, `>` and `&` escaped, becomes text nodes only, and a content security policy lets no other script run
and nothing be fetched.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from posttrain.evals.quantities import rests_on_scores
from posttrain.evals.records import plain
from posttrain.types import UserError


def write_report(comparison: Mapping[str, Any], path: str | Path, *, title: str = "What training changed") -> Path:
    """Writes the comparison as one self-contained page, and returns its path.

    Any part of `comparison` may be missing or null; its section is then left out. A nan or an infinity is written as
    null, "not known". The file appears whole or not at all: it is written beside `path` and renamed. Missing folders are
    made. Raises UserError where `path` is a folder, OSError where the disk refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file to write the report to, for example {path / 'report.html'}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, _page(comparison, title))
    return path


def verdict(comparison: Mapping[str, Any]) -> str:
    """What the comparison shows, as a paragraph in words.

    It opens with the row named `accuracy`, or else the first row. A difference is claimed only where its 95% interval
    leaves out 0 and the test agrees, with several tasks after adjusting for their number; otherwise the two are tied at this n.
    Where there is no interval, as with a single problem, nothing is claimed.
    """
    return " ".join(_verdict_sentences(comparison))


def headline(comparison: Mapping[str, Any]) -> str:
    """The beginning of the verdict: better, worse, or tied at this n, and what was found of pass@k and temperature."""
    n_found = 0 if comparison.get("withheld") else len(comparison.get("findings") or [])
    return " ".join(_verdict_sentences(comparison)[: 1 + n_found])


# ------------------------------------------------------------------------------------------------------------- the page


def _page(comparison: Mapping[str, Any], title: str) -> str:
    assets = files("posttrain.evals")
    style, script, page = (assets.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    data = {"title": title, "verdict": _verdict_sentences(comparison), "comparison": _shown(comparison)}
    return Template(page).substitute(
        title=html.escape(title),
        style=style,
        script=script,
        script_hash="sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode(),
        data=_embeddable(data),
    )


def _shown(comparison: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the page shows of it: what is withheld is on no page either, save the problems and attempts themselves."""
    why = comparison.get("withheld")
    if not why:
        return comparison
    hidden = {"base": None, "trained": None, "difference": None, "p_value": None, "withheld": True}
    rows = [{**row, **hidden, "note": row.get("note") or why} if rests_on_scores(str(row.get("name"))) else row for row in _parts(comparison, "rows")]
    return {**comparison, "rows": rows, "pass_at_k": None, "matched": None, "calibration": None}


def _embeddable(data: Any) -> str:
    """JSON that a script element can hold whatever its strings say, in ASCII, lone surrogates included."""
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8", errors="xmlcharrefreplace", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------- the verdict


def _verdict_sentences(comparison: Mapping[str, Any]) -> list[str]:
    rows = _parts(comparison, "rows")
    if not rows:
        return ["Nothing was measured."]
    lead = next((row for row in rows if row.get("name") == "accuracy"), rows[0])
    if comparison.get("withheld"):
        return [f"No headline: {comparison['withheld']}.", *_side_effects([row for row in rows if not rests_on_scores(str(row.get("name")))], lead)]
    found = [str(sentence) for sentence in comparison.get("findings") or []]
    sentences = [_headline(lead, comparison), *found, _solved_and_lost(comparison), *_side_effects(rows, lead), _not_judged(lead)]
    return [sentence for sentence in sentences if sentence]


def _headline(row: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    title, difference = _title(row), row.get("difference") or {}
    before, after = (_quantity(row, (row.get(side) or {}).get("value"), difference) for side in ("base", "trained"))
    if _direction(row) is None:
        known = f"was {before} before training and {after} after"
        return f"{title} {known}; there is no interval for the difference, so this run cannot say whether it changed."
    evidence, verdict = _evidence(row, difference), comparison.get("verdict") or {}
    if _is_known(comparison.get("p_holm")):
        evidence += f", p = {comparison['p_holm']:.2g} adjusted for all tasks"
    elif _direction(row) and verdict.get("outcome") == "tied" and _is_known(row.get("p_value")):
        evidence += f", but p = {row['p_value']:.2g}"
    if _direction(row) == 0 or verdict.get("outcome") == "tied":
        return f"{title}: tied at this n ({before} before, {after} after; {evidence}){_what_it_takes(row, verdict)}."
    return f"{title} {'rose' if _direction(row) > 0 else 'fell'} from {before} to {after} ({evidence})."


def _what_it_takes(row: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """How many problems would show such a difference, and how small a one these could have shown, four times in five."""
    needed, detectable = verdict.get("n_needed"), verdict.get("detectable")
    if not detectable:
        return ""
    could = f"{verdict['n']:,} show differences from about {_number(row, detectable, {})}{' points' if _is_fraction(row) else ''} on"
    if not needed:
        return f"; {could}"
    return f"; it would take about {float(f'{needed:.2g}'):,.0f} problems to show one of this size, and {could}"


def _evidence(row: Mapping[str, Any], difference: Mapping[str, Any]) -> str:
    """`+53 points, 95% interval 46 to 60, n = 64 problems`."""
    value, low, high = (_number(row, difference[key], difference) for key in ("value", "low", "high"))
    unit = " points" if _is_fraction(row) else f" {difference['unit']}" if difference.get("unit") else ""
    n = f"{difference['n']:,}" if _is_known(difference.get("n")) else "unknown"
    noun = " problems" if row.get("name") == "accuracy" and n != "unknown" else ""
    return f"{'+' if difference['value'] > 0 else ''}{value}{unit}, 95% interval {low} to {high}, n = {n}{noun}"


def _solved_and_lost(comparison: Mapping[str, Any]) -> str:
    changes = [problem.get("change") for problem in _parts(comparison, "problems")]
    if not changes:
        return ""
    solved, lost = changes.count("newly_solved"), changes.count("newly_lost")
    counts = f"Of {_count(len(changes), 'problem')}, {solved:,} {_be(solved)} newly solved and {lost:,} newly lost"
    return f"{counts}, one right attempt being enough."


def _side_effects(rows: list[Mapping[str, Any]], headline: Mapping[str, Any]) -> list[str]:
    """The other rows of both models whose interval leaves out 0, sorted by whether that is welcome."""
    moved: dict[str, list[Mapping[str, Any]]] = {"Also better": [], "Worse": [], "Moved, with no better direction": []}
    for row in rows:
        # What only two models together have (KL, problems gained) is never below 0, so that leaving out 0 says nothing.
        if row is not headline and _direction(row) and (row.get("base") or row.get("trained")):
            moved[_welcome(row)].append(row)
    return [f"{word}: {', '.join(_listed(found))}." for word, found in moved.items() if found]


def _listed(rows: list[Mapping[str, Any]]) -> list[str]:
    """Title and direction of each; the points of the pass@k curve, which move together, as one."""
    curve = [row for row in rows if str(row.get("name")).startswith("pass@")]
    through = f"{curve[0]['name']} to {curve[-1]['name']}" if len(curve) > 1 else ""
    shown = [row for row in rows if row not in curve[1:]]
    titles = [through if through and row in curve else str(row.get("title") or row.get("name")) for row in shown]
    return [f"{title} ({'up' if _direction(row) > 0 else 'down'})" for title, row in zip(titles, shown, strict=True)]


def _welcome(row: Mapping[str, Any]) -> str:
    if row.get("better") not in ("higher", "lower"):
        return "Moved, with no better direction"
    return "Also better" if (_direction(row) > 0) == (row["better"] == "higher") else "Worse"


def _not_judged(row: Mapping[str, Any]) -> str:
    count = sum((row.get(side) or {}).get("n_unscored") or 0 for side in ("base", "trained"))
    counted = f"{_be(count)} counted neither as right nor as wrong"
    return f"{_count(count, 'attempt')} could not be judged and {counted}." if count else ""


def _direction(row: Mapping[str, Any]) -> int | None:
    """1 or -1 where the difference's interval leaves out 0, 0 where it holds it, None where there is no interval."""
    difference = row.get("difference") or {}
    value, low, high = (difference.get(key) for key in ("value", "low", "high"))
    if not all(_is_known(number) for number in (value, low, high)):
        return None
    return 1 if low > 0 else -1 if high < 0 else 0


def _is_fraction(row: Mapping[str, Any]) -> bool:
    return any((row.get(side) or {}).get("unit") == "fraction" for side in ("base", "trained", "difference"))


def _quantity(row: Mapping[str, Any], value: Any, difference: Mapping[str, Any]) -> str:
    return _number(row, value, difference) + ("%" if _is_fraction(row) and _is_known(value) else "")


def _number(row: Mapping[str, Any], value: Any, difference: Mapping[str, Any]) -> str:
    """The number with as many decimals as the difference's interval can bear, and a typographic minus."""
    if not _is_known(value):
        return "unknown"
    factor, low, high = (100 if _is_fraction(row) else 1), difference.get("low"), difference.get("high")
    doubt = factor * (high - low) / 2 if _is_known(low) and _is_known(high) and high > low else abs(factor * value)
    decimals = min(6, max(0, math.ceil(-math.log10(doubt / 2)))) if doubt else 0
    return f"{factor * value:z,.{decimals}f}".replace("-", "−")


def _is_known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _title(row: Mapping[str, Any]) -> str:
    title = str(row.get("title") or row.get("name"))
    return re.sub(r"^[a-z](?=[a-z-]*( |$))", lambda letter: letter[0].upper(), title)


def _parts(comparison: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [part for part in comparison.get(key) or [] if part]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
