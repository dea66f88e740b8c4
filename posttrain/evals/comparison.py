"""What a comparison of two models holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from posttrain.calibration_intervals import Calibration, CalibrationChange, ErrorByBins
from posttrain.evals.records import plain
from posttrain.statistics import Crossover, Verdict
from posttrain.types import Better, Measurement

MatchedBy = Literal["entropy", "agreement"]
"""Sure of its tokens (nats per token of what it samples), or of its answers (two attempts at a problem agree)."""

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
class Scaling:
    """Temperature scaling (Guo et al., 1706.04599): fitted on one half of the problems, tested on the other."""

    temperature: Measurement
    """Above 1 the model is too sure of itself. Between 0.01 and 100, where the fit ends; `n` is of the half it was fitted on."""
    before: ErrorByBins
    """On the other half, as the model has it."""
    after: ErrorByBins
    """On the same, with the temperature."""
    change: Measurement


@dataclass(frozen=True)
class FormCalibration:
    """One way of asking, measured on one model."""

    form: str
    title: str
    calibration: Calibration
    scaling: Scaling | None
    """None where there are no logits, or a half has fewer than two problems."""
    n_unparsed: int
    note: str


@dataclass(frozen=True)
class FormChange:
    """One way of asking, before and after."""

    form: str
    title: str
    base: FormCalibration
    trained: FormCalibration
    change: CalibrationChange


@dataclass(frozen=True)
class Matched:
    """The base at the temperature at which it is as sure as the trained model, against the trained model."""

    temperature: float
    """Of the base, in sampling."""
    base_temperature: float
    """What both were sampled at."""
    by: MatchedBy
    target: Measurement
    """Of the trained model, on the problems that the temperature was found on: nats per token, or the share of agreeing answers."""
    reached: Measurement
    """The same of the base, at the temperature."""
    rows: tuple[Row, ...]
    """On the other problems: accuracy and pass@k, the base at the temperature under `base`."""
    verdict: Verdict
    """On accuracy: better means that training did more than lower the temperature."""
    note: str = ""


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
    crossover: Crossover | None = None
    """From which k on the base is ahead; None where there is no curve. An infinity (in JSON null) is none up to the largest k."""
    findings: tuple[str, ...] = ()
    """What these show, in sentences."""
    matched: Matched | None = None
    """The trained model against the base at another temperature, where that was asked for."""
    calibration: tuple[FormChange, ...] = ()
    """One for each way in which both were asked how sure they are."""

    def __getitem__(self, name: str) -> Row:
        """The row of that name. Raises KeyError where there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} was not compared; there are {', '.join(row.name for row in self.rows)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON, its keys named like its fields; nan and infinities are null."""
        return plain(self)
