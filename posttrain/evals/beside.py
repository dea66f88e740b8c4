"""One ability in two circumstances: a task, and the same problems in use, set side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain import statistics
from posttrain.evals.compare import paired_row
from posttrain.evals.measure import Evaluation
from posttrain.types import Measurement, Task


@dataclass(frozen=True)
class SideBySide:
    """Accuracy of one model bare and in use, and its paired difference over the problems."""

    task: str
    """The name of the task in use."""
    beside: str
    """That of the bare one."""
    bare: Measurement
    in_use: Measurement
    difference: Measurement
    p_value: float
    p_holm: float
    """Adjusted for the number of pairs that are set side by side."""
    withheld: str = ""
    """Why there is no headline, or nothing: too many attempts on one side could not be scored."""


def side_by_side(tasks: Sequence[Task], evaluations: Sequence[Evaluation]) -> list[SideBySide]:
    """Every task that names one `beside` which it is to be set, next to that one; those whose other was not measured are left out.

    The two must have asked the same problems in the same order, which a task that wraps another does. Raises ValueError where
    their numbers differ.
    """
    by_name = {evaluation.task: evaluation for evaluation in evaluations}
    pairs = [(by_name.get(getattr(task, "beside", "")), evaluation) for task, evaluation in zip(tasks, evaluations, strict=True)]
    rows = [(bare, used, paired_row(bare.quantity("accuracy"), used.quantity("accuracy"))) for bare, used in pairs if bare is not None]
    p_values = [math.nan if row.p_value is None else row.p_value for _, _, row in rows]
    return [
        SideBySide(used.task, bare.task, bare["accuracy"], used["accuracy"], row.difference, p, float(holm), bare.withheld or used.withheld)
        for (bare, used, row), p, holm in zip(rows, p_values, statistics.holm(p_values), strict=True)
        if row.difference is not None
    ]
