"""Compares evaluations that were made before, each from its records: no model is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from posttrain import statistics
from posttrain.evals.compare import assembled, cautions, changed_rows, examples, few_note, listed, measured_rows
from posttrain.evals.comparison import Comparison, Named, Row
from posttrain.evals.measure import Evaluation, evaluation
from posttrain.types import Problem

N_EXAMPLES, EXAMPLE_ATTEMPTS = 8, 4


def compare_evaluations(
    base: Named, trained: Named, before: Evaluation, after: Evaluation, split: str = "test", unscored_ok: bool = False
) -> Comparison:
    """Compares two evaluations of one task. What needs the models themselves (KL, held-out text) is left out.

    Problem by problem if both asked exactly the same problems, in whatever order; else as two independent samples, which
    takes many more problems to show a difference, and names no problem as changed.
    """
    aligned = in_order_of(before, after)
    if aligned is None:
        return assembled(base, trained, split, before, after, list(_unpaired_rows(before, after)), (), unscored_ok, paired=False)
    rows = [*measured_rows(before, aligned), *changed_rows(before, aligned)]
    texts = examples(None, None, before, aligned, N_EXAMPLES, EXAMPLE_ATTEMPTS)
    return assembled(base, trained, split, before, aligned, rows, texts, unscored_ok)


def adjusted(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons of several tasks, with accuracy's p values and the verdicts adjusted for their number (Holm 1979).

    Testing each of twenty tasks at .05 would, where nothing has changed at all, find a change in two runs of three.
    """
    rows = [found["accuracy"] for found in comparisons]
    holm = statistics.holm([math.nan if row.p_value is None else row.p_value for row in rows])
    verdicts = [
        statistics.verdict(row.difference, p_value=float(p), tests=len(rows)) for row, p in zip(rows, holm, strict=True) if row.difference is not None
    ]
    return tuple(replace(c, p_holm=float(p), verdict=verdict) for c, p, verdict in zip(comparisons, holm, verdicts, strict=True))


def in_order_of(before: Evaluation, after: Evaluation) -> Evaluation | None:
    """The second in the order of the first; None unless both asked exactly the same problems."""
    asked = {_content(record.problem): record for record in after.records}
    wanted = [_content(record.problem) for record in before.records]
    if before.task != after.task or len(wanted) != len(after.records) or any(content not in asked for content in wanted):
        return None
    found = evaluation(after.task, after.samples, after.seed, [asked[content] for content in wanted], aspects=after.aspects)
    return replace(after, records=found.records, quantities=found.quantities)


def _content(problem: Problem) -> tuple[Any, ...]:
    """What makes a problem the same: its name, what is asked and what is right."""
    return problem.id, tuple((message.role, message.content) for message in problem.messages), problem.answer


def _unpaired_rows(before: Evaluation, after: Evaluation) -> Iterator[Row]:
    """The quantities of two samples. A permutation test of the labels stands in for that of the signs."""
    apart = f"not of the same problems ({len(before.records)} and {len(after.records)}): compared as two samples and not as pairs"
    for was in before.quantities:
        now = next((quantity for quantity in after.quantities if quantity.name == was.name), None)
        if now is None or was.name == "pass@1":
            continue
        differ = statistics.unpaired_rate_difference if was.is_rate else statistics.unpaired_difference
        n_unscored = was.measurement.n_unscored + now.measurement.n_unscored
        difference = differ(was.per_problem, now.per_problem, was.measurement.unit, n_unscored)
        note = listed((apart, cautions(before, after) if was.name == "accuracy" else "", few_note(difference)))
        p_value = statistics.unpaired_p_value(was.per_problem, now.per_problem)
        yield Row(was.name, was.title, was.better, was.measurement, now.measurement, difference, p_value, note)
