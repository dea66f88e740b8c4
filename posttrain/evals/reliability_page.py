"""How far an agent can be relied on, as tables and as a page that stands alone: survival against p^t, success against the horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence

from posttrain.evals.chart import Mark, Series, chart
from posttrain.evals.failures import KINDS
from posttrain.evals.pages import Table, html_figures, html_list, html_tables, standing_alone
from posttrain.evals.reliability import AtHorizon, Reliability
from posttrain.evals.table import figure
from posttrain.types import Measurement

MEASURED, LAW, OTHER = "#1f5fd0", "#b3261e", "#8a6d00"
ABOUT = (
    "Intervals are at 95% and over problems. A step is right if it leaves the world as what was due would have left it, relative to the world"
    " as it then is. Survival counts an attempt that a budget or the machinery ended as far as it was watched. p^t is what a constant rate"
    " of errors would make of the same steps. Failures are told from the trajectory by rules, in a fixed order."
)
PUBLISHED = (
    "To stand beside, of other models and other tasks: gpt-4o solves below half of tau-bench's retail tasks, and below a quarter in all of"
    " eight tries (2406.12045); injecting errors into half, or all, of a history of 100 turns takes the next turn's accuracy from some 90% to"
    " some 60% and 40% (2509.09677); a constant hazard makes the horizon at 80% success .322 of that at 50%, where a fifth to a quarter was"
    " measured (2503.14499)."
)


def tables_of(found: Reliability) -> list[Table]:
    """What was measured, as cells of text."""
    size = f"{len(found.longest.evaluation.records)} problems × {found.longest.evaluation.samples} attempts at each horizon, 95% intervals"
    tables = [
        (f"{found.task}: {size}", ("horizon", "success", "at least one right", "all right", "a right step", "errors as steps double", "n"), [
            [str(at.horizon), *_successes(found, at), figure(at.step), figure(at.slope, signed=True), str(at.evaluation["accuracy"].n)] for at in found.at
        ]),
        ("What became of the attempts", ("", *(f"horizon {at.horizon}" for at in found.at)), [
            [kind, *(figure(at.failures[kind]) for at in found.at)] for kind in KINDS
        ] + [["n", *(str(at.failures["success"].n) for at in found.at)]]),
        ("What an attempt cost", ("horizon", "turns", "tokens written", "tokens read", "seconds", "n"), [
            [str(at.horizon), *(figure(at.costs[name]) for name in ("turns", "written", "read", "seconds")), str(at.costs["turns"].n)] for at in found.at
        ]),
    ]  # fmt: skip
    if found.fit:
        fit = found.fit
        tables.append((
            "Success against the horizon", ("p of a constant rate", "its half-life, steps", "Weibull shape", "h50, logistic", "h80, logistic", "n"),
            [[*(_figure(m) for m in (fit.step, fit.half_life, fit.shape, fit.h50, fit.h80)), str(fit.step.n)]],
        ))  # fmt: skip
    if found.histories:
        tables.append((
            "The next step after a history", ("steps before", "healed", "injected", "errors' effect", "length's effect", "n"),
            [[str(at.length), figure(at.healed), figure(at.injected), figure(at.conditioning, True), figure(at.drift, True), str(at.healed.n)]
             for at in found.histories],
        ))  # fmt: skip
    return tables


def _successes(found: Reliability, at: AtHorizon) -> list[str]:
    """How often jobs of one length succeeded: in the mean, in the best of the attempts, in all."""
    names = ("accuracy", f"pass@{at.evaluation.ks[-1]}", at.most_reliable)
    return ["withheld" if found.withheld(at) else figure(at.evaluation[name]) for name in names]


def page(found: Reliability) -> str:
    """One HTML file: pictures, tables and the figures as JSON. No script runs, nothing is fetched."""
    pictures = html_figures(picture for picture in (survival(found.longest), success(found), next_step(found)) if picture)
    body = f"{html_list(found.notes)}{pictures}<p>{ABOUT}</p>{html_tables(tables_of(found))}<p>{PUBLISHED}</p>"
    return standing_alone(f"Reliability on {found.task}", body, found.to_json(), heading=f"How far it can be relied on: {found.task}")


def survival(at: AtHorizon) -> str:
    """The share of attempts without an error after t steps, against p^t."""
    start = Mark(0, 1.0, (1.0, 1.0))
    seen = [start, *(Mark(t, m.value, _ends(m)) for t, m in enumerate(at.survival, 1))]
    p = at.step
    law = [start, *(Mark(t, p.value**t, (p.low**t, p.high**t) if _ends(p) else None) for t in range(1, at.horizon + 1))]
    series = [Series("measured", MEASURED, seen, is_line=True), Series(f"p^t, p = {p.value:.3f}", LAW, law, is_line=True, dashes="6 4")]
    return chart(f"survival at horizon {at.horizon} (n = {p.n} problems)", "steps", "no error so far", series) if p.n else ""


def success(found: Reliability) -> str:
    """Success at each horizon with both fits."""
    fit = found.fit
    if fit is None:
        return ""
    longest = found.longest.horizon
    places = [1 + (longest - 1) * i / 40 for i in range(41)]
    seen = [Mark(at.horizon, m.value, _ends(m)) for at in found.at for m in [at.evaluation["accuracy"]]]
    series = [
        Series("measured", MEASURED, seen), Series("constant rate", LAW, [Mark(h, fit.constant_at(h)) for h in places], is_line=True, dashes="6 4"),
        Series("Weibull", OTHER, [Mark(h, fit.free_at(h)) for h in places if not math.isnan(fit.shape.value)], is_line=True, dashes="2 3"),
    ]  # fmt: skip
    return chart(f"success against the horizon (n = {fit.step.n} problems)", "operations in a job", "success", series)


def next_step(found: Reliability) -> str:
    """The next step's accuracy after healed and injected histories."""
    sides: Sequence[tuple[str, str, list[Measurement]]] = [
        ("healed", MEASURED, [at.healed for at in found.histories]), ("injected", LAW, [at.injected for at in found.histories]),
    ]  # fmt: skip
    lengths = [at.length for at in found.histories]
    apart = 0.006 * max(lengths, default=0)  # or the one would hide the other's interval
    series = [
        Series(name, colour, [Mark(t + sign * apart, m.value, _ends(m)) for t, m in zip(lengths, ms, strict=True)])
        for sign, (name, colour, ms) in zip((-1, 1), sides, strict=True)
    ]
    n = found.histories[0].healed.n if found.histories else 0
    return chart(f"the next step after a history (n = {n} problems)", "steps before it", "right", series)


def _figure(m: Measurement) -> str:
    """A number with its interval, in its own unit; an infinite one in words."""
    told = lambda x: "∞" if math.isinf(x) else f"{x:.3g}"  # noqa: E731
    if math.isnan(m.value):
        return "–"
    return told(m.value) + ("" if math.isnan(m.low) else f" [{told(m.low)} {told(m.high)}]")


def _ends(m: Measurement) -> tuple[float, float] | None:
    return None if math.isnan(m.low) else (m.low, m.high)
