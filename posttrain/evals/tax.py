"""The alignment tax: what a model has lost (or gained) where nobody trained it.

Three readings, none of which rewards the style that training may have changed: the log-likelihood of a novella, accuracy on
a task that was not trained on, and multiple choice by likelihood, with its calibration (Ouyang et al., 2203.02155, section
4.2, on the tax; OpenAI, 2303.08774, figure 8, on calibration lost in RLHF).
"""

from __future__ import annotations

from dataclasses import dataclass

from posttrain.calibration_intervals import Calibration, CalibrationChange, Predictions, calibrate, calibration_change
from posttrain.evals import heldout
from posttrain.evals.confidence import capital_options
from posttrain.evals.measure import measure
from posttrain.evals.scorer import TokenScorer
from posttrain.renderer import Renderer
from posttrain.statistics import paired_difference, paired_rate_difference
from posttrain.types import Agent, Measurement, Task


@dataclass(frozen=True)
class Readings:
    """What one model says, piece by piece, so that two models can be compared piece by piece."""

    heldout_logprobs: list[float]
    """Of each document of the novella, nats per token."""
    untouched_rates: list[float]
    """Of each problem of the untouched task: the share of attempts that are right."""
    untouched: Measurement
    choices: Predictions
    """Of the capitals of 32 countries, by letter; questions of one country count as one."""


@dataclass(frozen=True)
class Tax:
    """One model's readings, and their change since the start (None for the start itself)."""

    heldout_change: Measurement | None
    """Nats per token; below 0 the novella has become less likely."""
    untouched: Measurement
    untouched_change: Measurement | None
    choices: Calibration
    choices_change: CalibrationChange | None

    @classmethod
    def between(cls, before: Readings | None, now: Readings) -> Tax:
        if before is None:
            return cls(None, now.untouched, None, calibrate(now.choices), None)
        return cls(
            paired_difference(before.heldout_logprobs, now.heldout_logprobs, "nats"), now.untouched,
            paired_rate_difference(before.untouched_rates, now.untouched_rates), calibrate(now.choices),
            calibration_change(before.choices, now.choices),
        )  # fmt: skip


async def readings(
    agent: Agent, scorer: TokenScorer, renderer: Renderer, untouched: Task, n_problems: int, samples: int = 2, n_documents: int = 0,
    seed: int = 0,
) -> Readings:  # fmt: skip
    """Read `n_documents` of the novella (0: all), and ask the first test problems of `untouched` `samples` times and the capitals once."""
    texts = heldout.documents(renderer.encode)[: n_documents or None]
    likelihood = heldout.log_likelihood(texts, renderer.encode, scorer)
    asked = await measure(agent, untouched, list(untouched.problems("test"))[:n_problems], samples, seed)
    capitals = await capital_options(scorer, renderer)
    return Readings(
        [a / b for a, b in zip(likelihood.logprobs, likelihood.n_tokens, strict=True)], [record.rate for record in asked.records],
        asked["accuracy"], capitals.predictions,
    )  # fmt: skip
