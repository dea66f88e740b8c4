"""The reward–KL frontier and the over-optimisation along each run, as pictures and tables on a page that stands alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from posttrain.evals.chart import Mark, Series, chart
from posttrain.evals.pages import Table, ends, html_figures, html_tables, spoken, standing_alone

COLOURS = {"start": "#6a737f", "ppo": "#1f5fd0", "dpo": "#c2571a", "online_dpo": "#a8327e", "raft": "#1a8a4a"}
BEST_OF_N, PROXY, GOLD = "#8a6d00", "#b3261e", "#1f5fd0"

def page(found: Mapping[str, Any]) -> str:
    """One HTML file: what was gained, how it went, what was lost, and the figures as JSON. No script runs, nothing is fetched."""
    about = (
        "<p>Above: the finished models, with 95% intervals over the test prompts, and the best of n answers of the start, chosen by the proxy,"
        " at the upper bound of its KL (log n − (n − 1)/n). Along a run: the answers that each step learned from, with 95% intervals over the"
        " step's prompts, of the rewards as a band and of the KL as bars; DPO draws none as it learns, and some were drawn at stops to look at it."
        " Proxy and gold are shown as their change in standard deviations of the start's own answers, so that both fit one picture: where gold"
        " turns and proxy goes on, the reward model is over-optimised (2210.10760). KL is of whole answers to the start.</p>"
    )
    side_by_side = html_figures((*frontier(found), *over_optimisation(found)))
    body = f"<p>{escape(found['about'])}</p>{side_by_side}{about}{html_tables((*tables_of(found), *paths_of(found)))}"
    return standing_alone("RLHF: what each method paid", body, found, heading="RLHF: what each method paid for its reward")


# --------------------------------------------------------------------------------------------------------------- pictures


def frontier(found: Mapping[str, Any]) -> list[str]:
    """Proxy and gold reward against KL, of the finished models and of best-of-n."""
    pictures = []
    for side in ("proxy", "gold"):
        shown = [p for p in found["points"] if p[side]]
        marks = [Mark(p["kl_nats"]["value"], p[side]["value"], ends(p[side]), ends(p["kl_nats"])) for p in shown]
        models = [Series(p["name"], _colour(p["name"]), [mark]) for p, mark in zip(shown, marks, strict=True)]
        bon = [Mark(b["kl_bound_nats"], b[side]["value"], ends(b[side])) for b in found["best_of_n"] if b[side]]
        series = [Series("best of n", BEST_OF_N, bon, is_line=True, dashes="5 4"), *models] if len(bon) > 1 else models
        n = f" (n = {shown[0][side]['n']} test prompts)" if shown else ""
        pictures.append(chart(f"{side} reward against KL{n}", "KL to the start, nats per answer", f"{side} reward", series))
    return [picture for picture in pictures if picture]


def over_optimisation(found: Mapping[str, Any]) -> list[str]:
    """For each run with a KL, and for best-of-n: proxy and gold, as changes from the start, against the square root of the KL."""
    pictures = []
    for name, path in found["paths"].items():
        rows = [(w["kl_nats"], w["reward"], w["gold"]) for w in path if w["kl_nats"]["value"] is not None]
        n = f" (n = {path[0]['reward']['n']} prompts a step)" if path else ""
        pictures.append(_change(f"{name} along its run{n}", sorted(rows, key=lambda row: row[0]["value"]), found["spread"]))
    bon = [({"value": b["kl_bound_nats"], "low": None, "high": None}, b["proxy"], b["gold"]) for b in found["best_of_n"]]
    pictures.append(_change(f"best of n answers of the start (n ≤ {found['best_of_n'][-1]['n']})", bon, found["spread"]))
    return [picture for picture in pictures if picture]


def _change(title: str, rows: Sequence[tuple[Any, Any, Any]], spread: Mapping[str, Any]) -> str:
    series = []
    for side, column, colour, dashes in (("proxy", 1, PROXY, "6 4"), ("gold", 2, GOLD, "")):
        scale = spread.get(side)
        if not scale or not scale["std"]:
            continue
        rescaled = lambda v, s=scale: (v - s["mean"]) / s["std"]  # noqa: E731
        marks = [_mark(row[0], row[column], rescaled) for row in rows if row[column] and row[column]["value"] is not None]
        series.append(Series(side, colour, marks, is_line=True, dashes=dashes))
    return chart(title, "square root of the KL to the start, √nats", "change, standard deviations", series)


def _mark(kl: Mapping[str, Any], reward: Mapping[str, Any], rescaled: Callable[[float], float]) -> Mark:
    """At the square root of the KL, of which chance may make a little less than 0."""
    root = lambda nats: math.sqrt(max(0.0, nats))  # noqa: E731
    y_ends, x_ends = ends(reward), ends(kl)
    return Mark(root(kl["value"]), rescaled(reward["value"]), y_ends and tuple(map(rescaled, y_ends)), x_ends and tuple(map(root, x_ends)))


def _colour(name: str) -> str:
    return COLOURS.get(name, "#7a3db8")


# ----------------------------------------------------------------------------------------------------------------- tables

def tables_of(found: Mapping[str, Any]) -> list[Table]:
    """What was gained, what was lost, and what the reward model is worth: title, header and cells as text."""
    gained = [
        [p["name"], spoken(p["proxy"]), spoken(p["gold"]) or "none", spoken(p["kl_nats"]), spoken(p["length_tokens"], 1),
         f"{p['truncated_frac']:.0%}", str(p["proxy"]["n"])]
        for p in found["points"]
    ]  # fmt: skip
    lost = [
        [p["name"], spoken(p["heldout_change"], 4), _n(p["heldout_change"]), spoken(p["untouched"]), spoken(p["untouched_change"]),
         str(p["untouched"]["n"]), spoken(p["choices"]["accuracy"]), _ece(p["choices"]["ece"]), spoken((p["choices_change"] or {}).get("ece")),
         str(p["choices"]["accuracy"]["n"])]
        for p in found["points"]
    ]  # fmt: skip
    rm = {name.removeprefix("heldout/"): value for name, value in found["reward_model"].items() if name.startswith("heldout/")}
    learned = [[spoken(_measured(rm, "accuracy")), spoken(_measured(rm, "margin")), _ece(_errors(rm)), str(rm["n"])]] if rm else []
    tables = [
        ("What was gained", ("model", "proxy reward", "gold reward", "KL to start, nats", "length, tokens", "cut off", "n"), gained),
        ("What was lost", ("model", "novella, log-prob/token, change", "n", "untouched accuracy", "its change", "n", "accuracy by letter",
                           "ECE by letter", "its change", "n"), lost),
        ("The reward model on pairs held out", ("ranked right", "margin", "ECE of σ(margin)", "n"), learned),
    ]  # fmt: skip
    return [table for table in tables if table[2]]


def paths_of(found: Mapping[str, Any]) -> list[Table]:
    """What each run passed through, step by step."""
    header = ("step", "KL to start, nats", "proxy reward", "gold reward", "n")
    return [
        (f"{name} along its run", header,
         [[str(w["step"]), spoken(w["kl_nats"]), spoken(w["reward"]), spoken(w["gold"]) or "none", str(w["reward"]["n"])] for w in path])
        for name, path in found["paths"].items() if path
    ]  # fmt: skip


def _measured(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A measurement out of a run's metrics."""
    return {"value": metrics[name], "low": metrics[f"{name}_low"], "high": metrics[f"{name}_high"]}


def _errors(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The calibration error out of a run's metrics, as `ErrorByBins` has it."""
    return {"error": _measured(metrics, "ece"), "by_chance": metrics["ece_by_chance"], "by_chance_high": metrics["ece_by_chance_high"]}


def _ece(m: Mapping[str, Any]) -> str:
    """The calibration error with its interval, beside what chance alone would make of a calibrated model at this n."""
    return f"{spoken(m['error'])} (by chance {m['by_chance']:.3f}, below {m['by_chance_high']:.3f})"


def _n(m: Mapping[str, Any] | None) -> str:
    return str(m["n"]) if m else ""
