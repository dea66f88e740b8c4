"""Measures one model on one task: attempt, score, average, and keep every attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from posttrain.evals import quantities
from posttrain.evals.quantities import Quantity
from posttrain.evals.records import Attempt, Record, plain, record_json
from posttrain.evals.scorer import TokenScorer, score_rollouts
from posttrain.seeds import fold
from posttrain.types import Agent, Measurement, Problem, Rollout, Score, Task, UserError, unscored

MUCH_UNSCORED, MUCH_TRUNCATED = 0.05, 0.5
"""Above these shares of the attempts a note warns that accuracy speaks of something else than it seems to."""


@dataclass(frozen=True)
class Evaluation:
    """What one model did on one task."""

    task: str
    samples: int
    """Attempts at each problem."""
    seed: int
    records: tuple[Record, ...]
    quantities: tuple[Quantity, ...]
    ks: tuple[int, ...]
    """The k at which pass@k was measured."""

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of that name. Raises KeyError where there is none."""
        return self.quantity(name).measurement

    def quantity(self, name: str) -> Quantity:
        """The quantity of that name. Raises KeyError where there is none."""
        found = next((quantity for quantity in self.quantities if quantity.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} was not measured; there are {', '.join(q.name for q in self.quantities)}")
        return found

    @property
    def sampling(self) -> dict[str, Any]:
        """How the first completion was drawn, its seed aside; empty for an agent that samples nothing."""
        drawn = (c.sampling for r in self.records for a in r.attempts for c in a.rollout.completions)
        first = next(drawn, None)
        return {name: value for name, value in asdict(first).items() if name != "seed"} if first else {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        found = (
            _share_note(self["unscored_frac"], MUCH_UNSCORED, "could not be scored, and accuracy speaks only of the others"),
            _share_note(self["truncated_frac"], MUCH_TRUNCATED, "ran into the limit before they came to an end"),
            "one problem gives no interval" if len(self.records) == 1 else "",
        )
        return tuple(note for note in found if note)

    def to_json(self, tokens: bool = False) -> dict[str, Any]:
        """Everything as JSON; with `tokens`, also every attempt's token ids and log-probs."""
        document: dict[str, Any] = {
            "task": self.task,
            "samples": self.samples,
            "n_problems": len(self.records),
            "seed": self.seed,
            "sampling": self.sampling,
            "rows": [{"name": q.name, "title": q.title, "better": q.better, **asdict(q.measurement)} for q in self.quantities],
            "pass_at_k": {"k": self.ks, "values": [self[f"pass@{k}"] for k in self.ks]},
            "notes": self.notes,
            "problems": [record_json(record, tokens) for record in self.records],
        }
        return plain(document)


async def measure(
    agent: Agent,
    task: Task,
    problems: Sequence[Problem],
    samples: int,
    seed: int = 0,
    *,
    scorer: TokenScorer | None = None,
    scorer_samples: int = 4,
    final_answer: Callable[[str], str] = str.strip,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> Evaluation:
    """Attempts every problem `samples` times, scores the attempts, and measures.

    All problems are attempted at once, for the agent to batch. The seed of a problem's attempts is folded from `seed` and
    its id, so two agents measured with one seed can be compared problem by problem. An attempt whose machinery failed,
    or whose judge raised, is unscored with the reason. `scorer` adds token entropy, from the first `scorer_samples`
    attempts at each problem; `final_answer` takes from a text what counts as its answer where diversity is measured;
    `on_attempt` is told of each attempt once it is judged, in no fixed order.

    Raises UserError for no problems, for two of one id and for fewer than one sample, and ValueError where the agent
    returns another number of attempts than asked or the task a score outside 0 to 1.
    """
    _check(task, problems, samples)

    async def record(problem: Problem) -> Record:
        rollouts = await agent.attempt(problem, samples, fold(seed, problem.id))
        if len(rollouts) != samples:
            raise ValueError(f"the agent was asked for {samples} attempts at {problem.id} and made {len(rollouts)}")
        return Record(problem, tuple(await asyncio.gather(*(judged(rollout) for rollout in rollouts))))

    async def judged(rollout: Rollout) -> Attempt:
        attempt = Attempt(rollout, await judge(task, rollout))
        if on_attempt is not None:
            on_attempt(attempt)
        return attempt

    records = tuple(await asyncio.gather(*(record(problem) for problem in problems)))
    if scorer is not None:
        records = read(records, scorer, scorer_samples)
    return Evaluation(task.name, samples, seed, records, _quantities(records, samples, final_answer), quantities.budgets(samples))


async def judge(task: Task, rollout: Rollout, bounded: bool = True) -> Score:
    """The task's score of the attempt; unscored, with the reason, where the attempt or the judge failed.

    Raises ValueError for a score outside 0 to 1, unless it is not `bounded`: a reward model's is not.
    """
    if rollout.outcome == "error":
        return unscored(f"the attempt failed: {rollout.error}")
    try:
        score = await task.score(rollout)
    except UserError:
        raise
    except Exception as error:
        return unscored(f"the judge failed: {type(error).__name__}: {error}")
    if bounded and not score.is_unscored and not 0 <= score.value <= 1:
        raise ValueError(f"task {task.name} gave {rollout.problem.id} the score {score.value}; scores lie between 0 and 1")
    return score


def read(records: Sequence[Record], scorer: TokenScorer, samples: int) -> tuple[Record, ...]:
    """The records, with the scorer's reading of the first `samples` attempts at each problem that did not fail."""
    chosen = [record.completed[:samples] for record in records]
    readings = iter(score_rollouts(scorer, [attempt.rollout for attempts in chosen for attempt in attempts]))
    read_by_id = {id(attempt): _with(attempt, *next(readings)) for attempts in chosen for attempt in attempts}
    return tuple(replace(r, attempts=tuple(read_by_id.get(id(a), a) for a in r.attempts)) for r in records)


def _with(attempt: Attempt, logprobs: Sequence[float], entropies: Sequence[float]) -> Attempt:
    return replace(attempt, logprobs=tuple(logprobs), entropies=tuple(entropies))


def _quantities(records: Sequence[Record], samples: int, final_answer: Callable[[str], str]) -> tuple[Quantity, ...]:
    found = [
        quantities.accuracy(records),
        *(quantities.pass_at_k(records, k) for k in quantities.budgets(samples)),
        quantities.diversity(records, final_answer),
        quantities.length_tokens(records),
        quantities.truncated_frac(records),
        quantities.unscored_frac(records),
        quantities.sampling_logprob(records),
    ]
    if any(attempt.entropies for record in records for attempt in record.attempts):
        found.append(quantities.entropy(records))
    return tuple(found)


def _check(task: Task, problems: Sequence[Problem], samples: int) -> None:
    if not problems:
        raise UserError(f"task {task.name} has no problems to measure: choose another split or task")
    if samples < 1:
        raise UserError(f"every problem needs at least 1 sample, got {samples}")
    ids = [problem.id for problem in problems]
    twice = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
    if twice is not None:
        raise UserError(f"task {task.name} has two problems with the id {twice}: give each its own")


def _share_note(share: Measurement, limit: float, what: str) -> str:
    return f"{share.value:.0%} of the attempts {what}" if share.value > limit else ""
