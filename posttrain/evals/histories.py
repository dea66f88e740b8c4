"""Is it the length of a history that makes errors, or the errors in it?

At one and the same length an agent is asked for the next step after a *healed* history, in which every earlier step was right,
and after an *injected* one, in which some were wrong (2509.09677). Healed at a length against no history at all is drift with
length; injected against healed at the same length is conditioning on errors. Steps are judged by the world as it then is, so that
an executor that minds only the present shows neither. The attempts are of whole problems whose history stands in their messages:
any agent can make them.
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from posttrain import statistics
from posttrain.evals.measure import measure
from posttrain.evals.records import Keeper
from posttrain.seeds import fold
from posttrain.tasks.jobs import Jobs
from posttrain.types import Agent, Measurement, Problem, Rollout, Score, unscored


@dataclass(frozen=True)
class NextStep:
    """The `Task` of making one step: a job's, of which a part has been done."""

    jobs: Jobs
    label: str

    @property
    def name(self) -> str:
        return f"{self.jobs.name}@{self.label}"

    def problems(self, split: str) -> Sequence[Problem]:
        """The first step of each of its jobs."""
        return self.jobs.problems(split)

    async def score(self, rollout: Rollout) -> Score:
        """1 if the first step was right, 0 if it was wrong or none was made; not judged where a budget ran out before it."""
        trace = await self.jobs.trace(rollout)
        if not trace.steps and rollout.outcome == "truncated":
            return unscored(f"no step was made: {rollout.error}")
        if trace.steps and trace.steps[0].right is None:
            return unscored("what was due cannot be done after these errors")
        return Score(float(bool(trace.steps) and trace.steps[0].right is True))

    def solution(self, problem: Problem) -> str:
        return self.jobs.solution(problem)


@dataclass(frozen=True)
class AtLength:
    """The next step after a history of one length."""

    length: int
    """Of the history, in steps."""
    healed: Measurement
    injected: Measurement
    conditioning: Measurement
    """Injected minus healed, problem by problem: below 0 the agent errs because it sees errors."""
    drift: Measurement
    """Healed minus the step without any history, problem by problem: below 0 length alone makes it err."""


async def after_histories(
    agent: Agent, jobs: Jobs, problems: Sequence[Problem], lengths: Sequence[int], samples: int, share: float = 0.5, seed: int = 0,
    keeper: Keeper | None = None,
) -> list[AtLength]:  # fmt: skip
    """Measures the next step at each length; `share` of an injected history's steps, and at least one, are wrong.

    Which ones, and how, is fixed by the seed and the problem. All lengths are asked of the same problems, whose horizon must be
    larger than the longest. n counts problems.
    """

    async def rates(label: str, asked: Sequence[Problem]) -> tuple[float, ...]:
        found = await measure(agent, NextStep(jobs, label), asked, samples, seed, keeper=keeper)
        return found.quantity("accuracy").per_problem

    async def made(length: int, wrong: float) -> list[Problem]:
        return list(await gather(*(jobs.continued(p, length, _wrong(p, length, wrong, seed), seed) for p in problems)))

    start = await rates("start", await made(0, 0.0))
    found = []
    for length in lengths:
        healed, injected = await rates("healed", await made(length, 0.0)), await rates("injected", await made(length, share))
        found.append(AtLength(
            length, statistics.rate_over_problems(healed), statistics.rate_over_problems(injected),
            statistics.paired_rate_difference(healed, injected), statistics.paired_rate_difference(start, healed),
        ))  # fmt: skip
    return found


def _wrong(problem: Problem, length: int, share: float, seed: int) -> set[int]:
    """Which steps of a history go wrong."""
    n = min(length, max(1, round(share * length))) if share > 0 else 0
    return set(Random(fold(seed, problem.id, "wrong", length)).sample(range(length), n))


def cause(found: Sequence[AtLength]) -> str:
    """What the longest history shows, in words: intervals that leave out 0 speak."""
    if not found:
        return "no history was tried"
    last = max(found, key=lambda at: at.length)
    says = [words for m, words in ((last.drift, "length alone"), (last.conditioning, "errors in its history")) if m.high < 0]
    where = f"after {last.length} steps"
    return f"{where}, it errs more because of {' and because of '.join(says)}" if says else f"{where}, neither length nor earlier errors show an effect"
