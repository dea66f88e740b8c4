"""One ability in two circumstances: a task, and the same problems in use, set side by side; for one model, and for two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posttrain import statistics
from posttrain.evals.compare import paired_row, same_attempts
from posttrain.evals.measure import Evaluation
from posttrain.types import Measurement, Problem, Task, UserError


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


@dataclass(frozen=True)
class UseChange:
    """What use does to each of two models, and whether it does the same to both."""

    task: str
    beside: str
    base: SideBySide
    trained: SideBySide
    difference: Measurement
    """The trained model's difference less the base's, over the problems: above 0, the trained model loses less in use, or gains more."""
    p_value: float
    p_holm: float
    """Adjusted for the number of pairs."""

    @property
    def withheld(self) -> str:
        return self.base.withheld or self.trained.withheld


Pair = tuple[Evaluation, Evaluation]
"""One task bare and in use."""


def side_by_side(evaluations: Sequence[Evaluation], unscored_ok: bool = False) -> list[SideBySide]:
    """Every task that names one `beside` which it is to be set, next to that one; those whose other was not measured are left out.

    The two must have asked the same problems in the same order, which a task that wraps another does. With `unscored_ok` nothing is
    withheld. Raises ValueError where their numbers differ.
    """
    rows = [(bare, used, paired_row(bare.quantity("accuracy"), used.quantity("accuracy"))) for bare, used in _pairs(evaluations)]
    p_values = [math.nan if row.p_value is None else row.p_value for _, _, row in rows]
    why = ["" if unscored_ok else bare.withheld or used.withheld for bare, used, _ in rows]
    return [
        SideBySide(used.task, bare.task, bare["accuracy"], used["accuracy"], row.difference, p, float(holm), withheld)
        for (bare, used, row), p, holm, withheld in zip(rows, p_values, statistics.holm(p_values), why, strict=True)
        if row.difference is not None
    ]


def use_changes(before: Sequence[Evaluation], after: Sequence[Evaluation], unscored_ok: bool = False) -> list[UseChange]:
    """What is side by side of both models, which must have been asked the same problems in the same order. Raises ValueError where not."""
    sides = zip(side_by_side(before, unscored_ok), side_by_side(after, unscored_ok), _pairs(before), _pairs(after), strict=True)
    found = [(was, now, *_difference(pair, other)) for was, now, pair, other in sides]
    holm = statistics.holm([p for *_, p in found])
    return [UseChange(was.task, was.beside, was, now, d, p, float(adjusted)) for (was, now, d, p), adjusted in zip(found, holm, strict=True)]


def check_beside(chosen: Sequence[tuple[Task, Sequence[Problem]]]) -> None:
    """Raises UserError where a task that is in use and the one it is to stand beside, each with its problems, do not ask the same."""
    asked = {task.name: _asked(problems) for task, problems in chosen}
    for task, problems in chosen:
        bare = getattr(task, "beside", "")
        if bare in asked and asked[bare] != _asked(problems):
            raise UserError(f"{task.name} does not ask the problems of {bare}, beside which it is to stand: give both the same options, or measure them apart")


def _asked(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Each question and its answer, whatever stands before them."""
    return [(problem.messages[-1].content, problem.answer) for problem in problems]


def _pairs(evaluations: Sequence[Evaluation]) -> list[Pair]:
    by_name = {evaluation.task: evaluation for evaluation in evaluations}
    return [(by_name[each.beside], each) for each in evaluations if each.beside in by_name]


def _difference(before: Pair, after: Pair) -> tuple[Measurement, float]:
    """The difference of two differences, and its p value."""
    first, second = (tuple(np.asarray(each.quantity("accuracy").per_problem) for each in pair) for pair in (before, after))
    clusters = before[0].quantity("accuracy").clusters
    was, now = first[1] - first[0], second[1] - second[0]
    same = all(map(same_attempts, before, after))
    found = statistics.paired_difference(was, now, "fraction", 0, clusters) if same else statistics.paired_rate_contrast(first, second, clusters=clusters)
    return found, statistics.sign_flip_p_value(was, now, clusters=clusters)
