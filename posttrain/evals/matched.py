"""Is the trained model more than the base at a lower temperature? The base, made as sure of itself as the trained model is.

Training on outcomes sharpens: much of what it gains in accuracy a lower temperature gives too, and what a lower temperature
costs in pass@k it costs as well (Yue et al., 2504.13837; Qin et al., 2505.22756, who call it temperature distillation). So the base
is sampled at the temperature at which it is as sure as the trained model, and the two are compared again.

The temperature is found on one half of the problems and the comparison made on the other, or the base would be fitted to the
problems it is tested on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from posttrain import statistics
from posttrain.evals import quantities
from posttrain.evals.comparison import Matched, MatchedBy, Row
from posttrain.evals.confidence import AnswerOf, answers_of
from posttrain.evals.measure import Evaluation, evaluation, measure
from posttrain.evals.quantities import Quantity
from posttrain.evals.records import Attempt, Keeper, Record
from posttrain.types import Agent, Problem, Task, UserError

COLDEST, WARMEST = 0.05, 2.0
"""Temperatures that are tried, relative to the one that both were sampled at."""

BISECTIONS = 6
"""From twenty times as cold to the same: the last step is one of 5%, and between its ends the temperature is interpolated."""

FITTING_SAMPLES = 8
"""Attempts at each problem for each temperature tried."""

PairedRow = Callable[[Quantity, Quantity, bool, str], Row]


class Attempter(Protocol):
    """What attempts, and where its records are kept."""

    @property
    def agent(self) -> Agent: ...

    @property
    def keeper(self) -> Keeper | None: ...


@dataclass(frozen=True)
class Search:
    """Finds the temperature of the base, on some of the problems."""

    base_at: Callable[[float], Attempter]
    task: Task
    problems: Sequence[Problem]
    by: MatchedBy
    samples: int
    seed: int
    on_attempt: Callable[[Attempt], None] | None = None

    async def at(self, temperature: float) -> Quantity:
        """How sure the base is at this temperature. The same seed at each, so that it changes smoothly."""
        base = self.base_at(temperature)
        found = await measure(
            base.agent, self.task, self.problems, self.samples, self.seed, keeper=base.keeper, on_attempt=self.on_attempt
        )
        return sureness(found.records, self.by, answers_of(self.task))

    async def find(self, target: float, start: float, sure: Quantity) -> tuple[float, Quantity]:
        """The temperature, and how sure the base is there; the end of the range where it is not sure enough anywhere.

        `sure` is that at `start`. Agreement falls as the temperature rises and entropy rises, which is all that is assumed.
        """
        too_unsure = self._is_less_sure(sure.measurement.value, target)
        coldest, warmest = _range(start)
        cold, warm = (coldest, start) if too_unsure else (start, warmest)
        end = cold if too_unsure else warm
        ends = {start: sure.measurement.value, end: (await self.at(end)).measurement.value}
        if self._is_less_sure(ends[cold], target) or not self._is_less_sure(ends[warm], target):
            edge = min((cold, warm), key=lambda t: abs(ends[t] - target))
            return edge, await self.at(edge)
        for _ in range(BISECTIONS):
            middle = rounded(math.sqrt(cold * warm))
            ends[middle] = (await self.at(middle)).measurement.value
            cold, warm = (cold, middle) if self._is_less_sure(ends[middle], target) else (middle, warm)
        found = rounded(_between(cold, warm, ends[cold], ends[warm], target))
        return found, await self.at(found)

    def _is_less_sure(self, value: float, target: float) -> bool:
        return value > target if self.by == "entropy" else value < target


async def match_base(
    base_at: Callable[[float], Attempter], task: Task, before: Evaluation, after: Evaluation, pair: PairedRow, by: MatchedBy = "entropy",
    fitting_samples: int = FITTING_SAMPLES, on_attempt: Callable[[Attempt], None] | None = None,
) -> Matched:  # fmt: skip
    """The trained model's evaluation against the base at a temperature of its own, on half of the problems.

    `base_at(temperature)` is the base, sampled so and otherwise as before. By `entropy` the two are as sure of the tokens they write (the
    mean of -log p of a sampled token under what it was drawn from), by `agreement` of their answers (two attempts agree). Halves
    are of problems, or of their clusters; intervals take the temperature as given. `pair` makes the row of two quantities (`compare.paired_row`).

    Raises UserError for fewer than four problems, for greedy sampling, and by agreement for single attempts.
    """
    start = after.sampling.get("temperature", 0)
    clusters = [record.cluster for record in after.records]
    check_matchable(len(set(clusters)), min(after.samples, fitting_samples), start, by)
    fitting, testing = statistics.halves(clusters, after.seed)
    answer_of = answers_of(task)
    problems = [record.problem for record in after.records if record.cluster in fitting]
    search = Search(base_at, task, problems, by, min(fitting_samples, after.samples), after.seed, on_attempt)
    target = sureness(_of(after, fitting), by, answer_of).measurement
    temperature, reached = await search.find(target.value, start, sureness(_of(before, fitting), by, answer_of))
    tested = [record.problem for record in after.records if record.cluster in testing]
    base = base_at(temperature)
    cold = await measure(base.agent, task, tested, after.samples, after.seed, keeper=base.keeper, on_attempt=on_attempt)
    trained = evaluation(task.name, after.samples, after.seed, _of(after, testing), chance=after.chance)
    rows = tuple(_rows(cold, trained, pair))
    assert rows[0].difference is not None and rows[0].p_value is not None, "accuracy comes first, and both have it"
    verdict = statistics.verdict(rows[0].difference, p_value=rows[0].p_value)
    return Matched(temperature, start, by, target, reached.measurement, rows, verdict, _note(temperature, start))


def check_matchable(n_problems: int, samples: int, temperature: float, by: MatchedBy) -> None:
    """Raises UserError for what `match_base` cannot do, so that it can be said before any work."""
    if n_problems < 4:
        raise UserError("to match the base's temperature takes at least four problems: half of them to find it, the others to compare on")
    if not temperature:
        raise UserError("the base's temperature can be matched only to samples: give a --temperature above 0")
    if by == "agreement" and samples < 2:
        raise UserError("attempts agree or not only where there are two: give --samples of at least 2, or match by entropy")


def most_attempts(after: Evaluation, fitting_samples: int = FITTING_SAMPLES) -> int:
    """How many attempts `match_base` makes at most."""
    fitting = len(after.records) // 2
    return (BISECTIONS + 2) * fitting * min(fitting_samples, after.samples) + (len(after.records) - fitting) * after.samples


def sureness(records: Sequence[Record], by: MatchedBy, answer_of: AnswerOf) -> Quantity:
    """Nats per sampled token, or the chance that two attempts at a problem end in the same answer."""
    if by == "entropy":
        logprob = quantities.sampling_logprob(records)
        return quantities.mean("own_entropy", "entropy per token", None, [-value for value in logprob.per_problem], "nats", logprob.clusters)
    agreed = [1 - statistics.disagreement([answer_of(a.rollout.text) for a in record.completed]) for record in records]
    return quantities.rate("agreement", "two answers agree", None, agreed, clusters=quantities.clusters_of(records))


# ---------------------------------------------------------------------------------------------------------------- parts


def rounded(temperature: float) -> float:
    """To three digits: what is kept of it can be found again."""
    return float(f"{temperature:.3g}")


def _between(cold: float, warm: float, at_cold: float, at_warm: float, target: float) -> float:
    """Interpolated on the temperature's logarithm."""
    share = (target - at_cold) / (at_warm - at_cold) if at_warm != at_cold else 0.5
    return cold * (warm / cold) ** min(max(share, 0.0), 1.0)


def _rows(cold: Evaluation, trained: Evaluation, pair: PairedRow) -> list[Row]:
    names = ["accuracy", *(f"pass@{k}" for k in trained.ks[1:])]
    return [pair(cold.quantity(name), trained.quantity(name), False, "") for name in names]


def _of(evaluated: Evaluation, clusters: frozenset[Any]) -> list[Record]:
    return [record for record in evaluated.records if record.cluster in clusters]


def _range(start: float) -> tuple[float, float]:
    return rounded(COLDEST * start), rounded(WARMEST * start)


def _note(temperature: float, start: float) -> str:
    coldest, warmest = _range(start)
    return f"no temperature from {coldest:g} to {warmest:g} brings it nearer" if temperature in (coldest, warmest) else ""

