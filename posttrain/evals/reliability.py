"""How far an agent can be relied on: success against the length of the job, survival step by step, failures, and what it all cost."""

from __future__ import annotations

import math
from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from posttrain import statistics
from posttrain.evals.failures import KINDS, Verdict, verdict
from posttrain.evals.histories import AtLength, cause
from posttrain.evals.measure import Evaluation
from posttrain.evals.quantities import clusters_of
from posttrain.evals.records import Attempt, plain
from posttrain.scaling.cost import spent_on
from posttrain.statistics import HorizonFit
from posttrain.tasks.jobs import Jobs
from posttrain.types import Measurement

Seconds = Mapping[tuple[str, int], float]
"""How long each attempt took, by problem and sample."""


@dataclass(frozen=True)
class AtHorizon:
    """Jobs of one length."""

    horizon: int
    evaluation: Evaluation
    verdicts_PS: tuple[tuple[Verdict, ...], ...]
    seconds: Seconds

    @cached_property
    def survival(self) -> tuple[Measurement, ...]:
        """The chance that the first 1, 2, 3 … steps are right; shorter than the horizon where no attempt came so far."""
        return statistics.survival(*self._columns)

    @cached_property
    def step(self) -> Measurement:
        """The chance of a right step after nothing but right ones."""
        return statistics.step_accuracy(*self._columns)

    @cached_property
    def slope(self) -> Measurement:
        """How the log-odds of an error change when a step's number doubles."""
        return statistics.hazard_slope(*self._columns)

    @cached_property
    def failures(self) -> dict[str, Measurement]:
        """The share of attempts that ended in each way, over problems."""
        shares = {kind: [sum(v.kind == kind for v in verdicts) / len(verdicts) for verdicts in self.verdicts_PS] for kind in KINDS}
        clusters = clusters_of(self.evaluation.records)
        return {kind: statistics.rate_over_problems(values_P, clusters=clusters) for kind, values_P in shares.items()}

    @cached_property
    def costs(self) -> dict[str, Measurement]:
        """What an attempt takes: turns, tokens written and read (anew before each turn), seconds by the clock beside the others."""
        return {
            "turns": self._per_attempt(lambda a: sum(m.role == "assistant" for m in a.rollout.messages), "turns"),
            "written": self._per_attempt(lambda a: a.rollout.n_tokens if a.rollout.completions else math.nan, "tokens"),
            "read": self._per_attempt(lambda a: spent_on(a.rollout).prompt_tokens if a.rollout.completions else math.nan, "tokens"),
            "seconds": self._per_attempt(lambda a: self.seconds.get((a.rollout.problem.id, a.rollout.sample), math.nan), "s"),
        }

    @property
    def most_reliable(self) -> str:
        """The name of pass^k at the largest k measured, or of accuracy."""
        return next((q.name for q in reversed(self.evaluation.quantities) if q.name.startswith("pass^")), "accuracy")

    @property
    def _columns(self) -> tuple[list[int], list[bool], list[str]]:
        rows = [(v, record.cluster) for record, verdicts in zip(self.evaluation.records, self.verdicts_PS, strict=True) for v in verdicts]
        return [v.right for v, _ in rows], [v.failed for v, _ in rows], [cluster for _, cluster in rows]

    def _per_attempt(self, value: Any, unit: str) -> Measurement:
        records = self.evaluation.records
        values_P = statistics.problem_means([[value(a) for a in record.completed] for record in records])
        return statistics.mean_over_problems(values_P, unit, clusters=clusters_of(records))


@dataclass(frozen=True)
class Reliability:
    """One agent on jobs of several lengths."""

    task: str
    at: tuple[AtHorizon, ...]
    """From the shortest to the longest."""
    fit: HorizonFit | None
    """None where no attempt could be judged, and where success at some length is withheld."""
    histories: tuple[AtLength, ...] = ()
    unscored_ok: bool = False
    """Whether success is shown even where more than 5% of the attempts could not be judged."""

    @property
    def longest(self) -> AtHorizon:
        return self.at[-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        slope, shape = self.longest.slope, self.fit.shape if self.fit else None
        unjudged = sum(at.evaluation["unscored_frac"].value > 0 for at in self.at)
        found = (
            "p^t holds: errors come no more and no less often as a job goes on" if slope.low <= 0 <= slope.high else
            "" if math.isnan(slope.low) else
            f"p^t does not hold: errors come {'more' if slope.low > 0 else 'less'} often as a job goes on",
            "success falls with the horizon as at a constant rate of errors" if shape and shape.low <= 1 <= shape.high else
            "" if not shape or math.isnan(shape.low) else
            f"success falls {'faster' if shape.low > 1 else 'slower'} with the horizon than at a constant rate of errors",
            cause(self.histories) if self.histories else "",
            f"at {unjudged} of {len(self.at)} horizons some attempts could not be judged" if unjudged else "",
        )  # fmt: skip
        return (*(note for note in found if note), *self._cautions())

    def withheld(self, at: AtHorizon) -> str:
        """Why success at this length is not shown, or nothing."""
        return "" if self.unscored_ok else at.evaluation.withheld

    def _cautions(self) -> list[str]:
        """The notes on the evaluations, each after the lengths that it holds for."""
        notes = dict.fromkeys(note for at in self.at for note in at.evaluation.notes)
        lengths = {note: [str(at.horizon) for at in self.at if note in at.evaluation.notes] for note in notes}
        return [f"horizon{'s' * (len(at) > 1)} {', '.join(at)}: {note}" for note, at in lengths.items()]

    def to_json(self) -> dict[str, Any]:
        """Everything but the attempts themselves, as JSON."""
        return plain({
            "task": self.task, "notes": self.notes, "fit": asdict(self.fit) if self.fit else None, "histories": self.histories,
            "horizons": [
                {
                    "horizon": at.horizon, "withheld": self.withheld(at), "samples": at.evaluation.samples, "n_problems": len(at.evaluation.records),
                    "rows": [{"name": q.name, "title": q.title, **asdict(q.measurement)} for q in at.evaluation.quantities],
                    "step_accuracy": at.step, "hazard_slope": at.slope, "survival": at.survival, "failures": at.failures, "costs": at.costs,
                    "attempts": [_row(a, v) for r, vs in zip(at.evaluation.records, at.verdicts_PS, strict=True) for a, v in zip(r.attempts, vs, strict=True)],
                }
                for at in self.at
            ],
        })  # fmt: skip


async def at_horizon(jobs: Jobs, evaluation: Evaluation, seconds: Seconds) -> AtHorizon:
    """What the attempts of one evaluation did, step by step."""

    async def judged(attempt: Attempt) -> Verdict:
        return verdict(attempt.rollout, attempt.score, await jobs.trace(attempt.rollout))

    verdicts = [tuple(await gather(*map(judged, record.attempts))) for record in evaluation.records]
    return AtHorizon(jobs.horizon, evaluation, tuple(verdicts), seconds)


def reliability(task: str, at: Sequence[AtHorizon], histories: Sequence[AtLength] = (), unscored_ok: bool = False) -> Reliability:
    """All lengths together, with success against the horizon fitted to them."""
    at = sorted(at, key=lambda each: each.horizon)
    rows = [(each.horizon, record.n_right, record.n_scored) for each in at for record in each.evaluation.records]
    fit = statistics.fit_horizon(*zip(*rows, strict=True)) if any(n for _, _, n in rows) else None
    found = Reliability(task, tuple(at), fit, tuple(histories), unscored_ok)
    return replace(found, fit=None) if any(map(found.withheld, at)) else found


def _row(attempt: Attempt, found: Verdict) -> dict[str, Any]:
    return {"id": attempt.rollout.problem.id, "sample": attempt.rollout.sample, "score": attempt.score.value, **asdict(found)}
