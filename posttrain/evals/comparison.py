"""What a comparison of two models holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from posttrain.evals.records import plain
from posttrain.statistics import Verdict
from posttrain.types import Better, Measurement

Change = Literal["newly_solved", "newly_lost", "both", "neither"]
"""Solved means right in at least one attempt. `neither` also covers problems that one model has no scored attempt at."""


@dataclass(frozen=True)
class Named:
    """Which model it was."""

    label: str
    model_path: str


@dataclass(frozen=True)
class Row:
    """One measured thing. What only two models together have (KL, problems gained) stands under `difference` alone."""

    name: str
    title: str
    better: Better
    base: Measurement | None
    trained: Measurement | None
    difference: Measurement | None
    p_value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class PassAtK:
    """Both curves over k."""

    k: tuple[int, ...]
    base: tuple[Measurement, ...]
    trained: tuple[Measurement, ...]


@dataclass(frozen=True)
class ProblemChange:
    """One problem before and after; rates are nan where nothing could be scored."""

    id: str
    prompt: str
    answer: str
    base_rate: float
    trained_rate: float
    n_base: int
    n_trained: int
    change: Change


@dataclass(frozen=True)
class TokenText:
    """One attempt, token by token."""

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    score: float
    outcome: str
    explanation: str
    advantage: float | None = None
    """Only training has advantages."""


@dataclass(frozen=True)
class Example:
    """What both models wrote for one problem."""

    problem_id: str
    prompt: str
    answer: str
    base: tuple[TokenText, ...]
    trained: tuple[TokenText, ...]


@dataclass(frozen=True)
class Comparison:
    """What training changed, as numbers with intervals, problem by problem, and in examples."""

    base: Named
    trained: Named
    task: str
    split: str
    samples: int
    n_problems: int
    seed: int
    sampling: dict[str, Any]
    rows: tuple[Row, ...]
    pass_at_k: PassAtK
    problems: tuple[ProblemChange, ...]
    examples: tuple[Example, ...]
    training: dict[str, Any] | None = None
    """How the run went, for the caller to fill in."""
    verdict: Verdict = field(default_factory=lambda: Verdict("unknown", 0, math.nan, None))
    """On accuracy."""
    withheld: str = ""
    """Why there is no headline, or nothing: too many attempts could not be scored."""
    paired: bool = True
    """Whether both were asked the same problems."""
    p_holm: float | None = None
    """Of accuracy, adjusted for the other tasks that were compared along with this one."""

    def __getitem__(self, name: str) -> Row:
        """The row of that name. Raises KeyError where there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} was not compared; there are {', '.join(row.name for row in self.rows)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON, its keys named like its fields; nan and infinities are null."""
        return plain(self)
