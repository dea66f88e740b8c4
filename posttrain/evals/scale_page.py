"""Performance against tokens and attempts as pictures and tables on a page that stands alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.evals.chart import Mark, Series, chart
from posttrain.evals.pages import Table, ends, html_figures, html_list, html_tables, spoken, standing_alone

COLOURS = ("#1f5fd0", "#c2571a", "#1a8a4a", "#7a3db8", "#b3261e", "#8a6d00", "#0b7a83", "#d0408f", "#3d4a9a", "#5f7d1e")
GREY = "#6a737f"


def page(found: Mapping[str, Any]) -> str:
    """One HTML file: the pictures, what stands in them as tables, the wall, and the figures as JSON. No script runs, nothing is fetched."""
    about = (
        "<p>Bands and bars are 95% intervals over problems. Coverage (dashed) is what an oracle would find among k attempts: a ceiling for every"
        " selection, and no accuracy. Selections are expectations over all subsets of k attempts of one pool. Tokens are all that were read and"
        " written for one problem: prompts (anew for each attempt), thoughts and answers, judges, and attempts that estimated difficulty."
        " Beams, looks ahead and revisions draw attempts of their own; against attempts they stand at the number of their beams or turns, and what they"
        " cost stands against tokens, where every step reads all that came before it anew."
        " The forecast (dotted) is a beta law of solve rates, fitted on the few attempts named and on nothing else; the wall is the share of"
        " problems that some attempt has solved.</p>"
    )
    body = f"{html_list(sentences(found))}{html_figures(pictures_of(found))}{about}{html_tables(tables_of(found))}"
    return standing_alone(f"What attempts and tokens buy on {found['task']}", body, found)


# --------------------------------------------------------------------------------------------------------------- pictures


def pictures_of(found: Mapping[str, Any]) -> list[str]:
    """For each arm, all its curves against attempts and against tokens; where there are several, each arm's coverage and vote; lengths."""
    arms = _shown(found)
    pictures = [picture for arm in arms for picture in (against_attempts(arm), against_tokens(arm))]
    if len(arms) > 1:
        pictures += [arms_against_tokens(arms), lengths(arms)]
    return [picture for picture in pictures if picture]


def against_attempts(arm: Mapping[str, Any]) -> str:
    series = [_series(curve, colour, "k") for curve, colour in zip(arm["curves"], COLOURS, strict=False)]
    title = f"{arm['name']}: against attempts (n = {arm['n_problems']} problems)"
    return chart(title, "attempts at each problem", "performance", [*series, *_law(arm), *_wall(arm)], log_x=2)


def against_tokens(arm: Mapping[str, Any]) -> str:
    series = [_series(curve, colour, "tokens") for curve, colour in zip(arm["curves"], COLOURS, strict=False)]
    title = f"{arm['name']}: against tokens (n = {arm['n_problems']} problems)"
    return chart(title, "tokens spent on a problem, all counted", "performance", series, log_x=2)


def arms_against_tokens(arms: Sequence[Mapping[str, Any]]) -> str:
    """Every arm's coverage and its vote, in the arm's colour."""
    series = []
    names = {"coverage (oracle)": "coverage", "majority": "vote"}
    for arm, colour in zip(arms, COLOURS, strict=False):
        chosen = [c for c in arm["curves"] if c["name"] in names]
        series += [_series(c | {"name": f"{arm['name']}: {names[c['name']]}"}, colour, "tokens") for c in chosen]
    return chart("All arms: coverage (dashed) and majority vote", "tokens spent on a problem, all counted", "performance", series[:8], log_x=2)


def lengths(arms: Sequence[Mapping[str, Any]]) -> str:
    """A single attempt's accuracy against the tokens it takes, the thinking budget of a model growing along the line."""
    series = []
    for model, colour in zip(dict.fromkeys(arm["model"] for arm in arms), COLOURS, strict=False):
        forced = [arm for arm in arms if arm["model"] == model and arm["thinking_tokens"] is not None]
        marks = [_mark(arm["curves"][0]["points"][0], "tokens") for arm in forced]
        series.append(Series(model, colour, marks, is_line=True))
    return chart("One attempt, thinking for longer", "tokens spent on a problem, all counted", "accuracy", series, log_x=2)


def _series(curve: Mapping[str, Any], colour: str, axis: str) -> Series:
    marks = [_mark(point, axis) for point in curve["points"] if point["value"]["value"] is not None]
    return Series(curve["name"], colour, marks, is_line=True, dashes="7 4" if curve["is_oracle"] else "")


def _mark(point: Mapping[str, Any], axis: str) -> Mark:
    x = point["k"] if axis == "k" else point["tokens"]["value"]
    return Mark(x, math.nan if point["value"]["value"] is None else point["value"]["value"], ends(point["value"]))


def _law(arm: Mapping[str, Any]) -> list[Series]:
    if not arm["law"]:
        return []
    marks = [Mark(k, m["value"], ends(m)) for k, m in arm["law"]["forecasts"]]
    return [Series(f"forecast from {arm['law']['fitted_on']}", GREY, marks, is_line=True, dashes="2 3")]


def _wall(arm: Mapping[str, Any]) -> list[Series]:
    """A line at the share of problems solved at all, as far as the attempts go and the forecast beyond."""
    if not arm["wall"]:
        return []
    end = arm["law"]["forecasts"][-1][0] if arm["law"] else arm["samples"]
    height = 1 - len(arm["wall"]) / arm["n_problems"]
    return [Series("the wall", "#1c2128", [Mark(1, height), Mark(end, height)], is_line=True, dashes="1 5")]


# ------------------------------------------------------------------------------------------------------- words and tables

def sentences(found: Mapping[str, Any]) -> list[str]:
    """What a reader should take away, one line a finding; of an arm that is withheld only why."""
    findings = lambda arm: () if arm["withheld"] else (*_on_law(arm), *_on_wall(arm))  # noqa: E731
    return [f"{arm['name']}: {line}" for arm in found["arms"] for line in (*findings(arm), *arm["notes"])]


def _shown(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The arms that are not withheld."""
    return [arm for arm in found["arms"] if not arm["withheld"]]


def _on_law(arm: Mapping[str, Any]) -> list[str]:
    law = arm["law"]
    if not law:
        return []
    said = dict((k, m) for k, m in law["forecasts"])[arm["samples"]]
    verdict = "held" if law["held"] else "did NOT hold"
    return [
        f"forecast from {law['fitted_on']} attempts for {arm['samples']}: {spoken(said)}; measured {spoken(law['measured'])} (n {law['measured']['n']}):"
        f" the forecast {verdict}. Beta law a = {law['mixture']['a']:.3g}, b = {law['mixture']['b']:.3g};"
        f" one solve rate for all has p = {law['single_p_value']:.2g}"
    ]


def _on_wall(arm: Mapping[str, Any]) -> list[str]:
    wall = arm["wall"]
    if not wall:
        return ["every problem was solved at least once"]
    bound = max(row["rate_bound"] for row in wall)
    return [f"the wall: {len(wall)} of {arm['n_problems']} problems never solved in {arm['samples']} attempts; the solve rate of any one of them is below {bound:.2g} (95%)"]


def tables_of(found: Mapping[str, Any]) -> list[Table]:
    """For each arm a row for each k, a row for each strategy and budget that has tokens of its own; then the problems never solved."""
    tables = [table for arm in _shown(found) for table in (_curves_table(arm), _strategies_table(arm), _wall_table(arm))]
    return [table for table in tables if table[2]]


def _curves_table(arm: Mapping[str, Any]) -> Table:
    """What chooses among the same attempts, side by side."""
    pooled = [c for c in arm["curves"] if c["is_pooled"]]
    rows = [
        [f"{at['k']:g}", _tokens(at), *(spoken(c["points"][i]["value"]) for c in pooled), str(at["value"]["n"])]
        for i, at in enumerate(pooled[0]["points"])
    ]
    return f"{arm['name']}: performance with 95% intervals over problems", ("attempts", "tokens", *(c["name"] for c in pooled), "n"), rows


def _strategies_table(arm: Mapping[str, Any]) -> Table:
    """What spends in its own way. Attempts are the mean of a problem, the beams of a search, or the turns of a conversation."""
    points = [(c["name"], p) for c in arm["curves"] if not c["is_pooled"] for p in c["points"]]
    rows = [[name, f"{p['k']:.3g}", _tokens(p), spoken(p["value"]), str(p["value"]["n"])] for name, p in points]
    return f"{arm['name']}: strategies with tokens of their own", ("strategy", "attempts, beams or turns", "tokens", "performance", "n"), rows


def _tokens(point: Mapping[str, Any]) -> str:
    """The mean of them; a dash where no problem has so many scored attempts."""
    return "–" if point["tokens"]["value"] is None else f"{point['tokens']['value']:.0f}"


def _wall_table(arm: Mapping[str, Any]) -> Table:
    rows = [[row["id"], str(row["n"]), f"{row['rate_bound']:.3f}"] for row in arm["wall"]]
    return f"{arm['name']}: never solved", ("problem", "attempts", "its solve rate is below (95%)"), rows
