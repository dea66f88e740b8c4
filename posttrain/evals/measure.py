"""Measures one model on one task: attempt, score, average, and keep every attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from posttrain import statistics
from posttrain.evals import quantities
from posttrain.evals.confidence import Confidences
from posttrain.evals.quantities import Quantity
from posttrain.evals.records import Attempt, Keeper, Record, plain, record_json
from posttrain.evals.calibrated import form_calibration
from posttrain.evals.scorer import TokenScorer, score_rollouts
from posttrain.seeds import fold
from posttrain.types import Agent, Aspect, ChoiceTask, Measurement, Problem, Rollout, Score, Task, UserError, unscored

MUCH_UNSCORED, MUCH_TRUNCATED, MUCH_UNPARSED = 0.05, 0.5, 0.5
"""Above these shares of the attempts a note warns that accuracy speaks of something else than it seems to."""

MOST_RELIABLE = 8
"""The largest k of pass^k, as in tau-bench."""

FEWEST = 6
"""With five problems even a model that wins on all of them has p = 2 / 2**5 > .05 in a test on pairs."""


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
    chance: float = 0.0
    """What guessing scores on this task."""
    aspects: tuple[Aspect, ...] = ()
    """What the task wanted reported beside accuracy."""
    beside: str = ""
    """The task that this is in other circumstances, and next to which it is shown."""
    confidences: tuple[Confidences, ...] = ()
    """How sure the model is of its answers, where it was asked (`evals/confidence.py`)."""

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
    def withheld(self) -> str:
        """Why accuracy and what goes with it is no headline, or nothing: it would speak of too few of the attempts."""
        return _share_note(self["unscored_frac"], MUCH_UNSCORED, "could not be scored, and accuracy speaks only of the others")

    @property
    def headline(self) -> Measurement | None:
        """Accuracy, unless it is withheld."""
        return None if self.withheld else self["accuracy"]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        unparsed = next((quantity.measurement for quantity in self.quantities if quantity.name == "unparsed_frac"), None)
        found = (
            self.withheld,
            _share_note(self["truncated_frac"], MUCH_TRUNCATED, "ran into the limit before they came to an end"),
            _share_note(unparsed, MUCH_UNPARSED, "hold no answer that the judge could find: look at how answers are asked for and read"),
            self._few_note(),
            "" if self.withheld else self._chance_note() or self._ceiling_note(),
        )
        return tuple(note for note in found if note)

    def _few_note(self) -> str:
        n = len(self.records)
        if n == 1:
            return "one problem gives no interval"
        return f"{n} problems are too few for two models to be told apart, whatever they do: it takes {FEWEST}" if n < FEWEST else ""

    def _chance_note(self) -> str:
        accuracy, guessing = self["accuracy"], f"guessing alone, {self.chance:.0%}" if self.chance else "nothing right at all"
        if accuracy.high < self.chance:
            return f"accuracy is below {guessing}: look at how answers are read before believing it"
        if accuracy.low <= self.chance <= accuracy.high:
            return f"at chance: not to be told from {guessing}, so that models as weak as this cannot be told apart here"
        return ""

    def _ceiling_note(self) -> str:
        rates = [rate for rate in self.quantity("accuracy").per_problem if rate == rate]
        if len(rates) < FEWEST or not statistics.is_saturated(rates):
            return ""
        return f"saturated: on these {len(rates)} problems not even a model that is always right would show as better"

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
            "chance": self.chance,
            "aspects": self.aspects,
            "beside": self.beside,
            "headline": self.headline,
            "notes": self.notes,
            "problems": [record_json(record, tokens) for record in self.records],
            "calibration": [form_calibration(one, self.seed) for one in self.confidences],
            "confidences": self.confidences,
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
    keeper: Keeper | None = None,
) -> Evaluation:
    """Attempts every problem `samples` times, scores the attempts, and measures.

    All problems are attempted at once, for the agent to batch. The seed of a problem's attempts is folded from `seed` and
    its id, so two agents measured with one seed can be compared problem by problem. An attempt whose machinery failed,
    or whose judge raised, is unscored with the reason. `scorer` adds token entropy, from the first `scorer_samples`
    attempts at each problem; `final_answer` takes from a text what counts as its answer where diversity is measured;
    `on_attempt` is told of each attempt once it is judged, in no fixed order.

    A `keeper` is given each record once it is whole, and asked for it before: a problem that it knows is not attempted again,
    unless the machinery failed at it; attempts without a score, as of those that another judge had scored, are judged once more.

    Raises UserError for no problems, for two of one id and for fewer than one sample, and ValueError where the agent
    returns another number of attempts than asked or the task a score outside 0 to 1.
    """
    _check(task, problems, samples)

    async def record(problem: Problem) -> Record:
        kept = keeper.find(task.name, problem, samples, seed) if keeper is not None else None
        if kept is not None and not any(attempt.failed for attempt in kept.attempts):
            found = Record(problem, tuple(await asyncio.gather(*(judged_again(attempt, problem) for attempt in kept.attempts))))
        else:
            rollouts = await agent.attempt(problem, samples, fold(seed, problem.id))
            if len(rollouts) != samples:
                raise ValueError(f"the agent was asked for {samples} attempts at {problem.id} and made {len(rollouts)}")
            found = Record(problem, tuple(await asyncio.gather(*(judged(rollout) for rollout in rollouts))))
        if keeper is not None and (kept is None or found.attempts != kept.attempts):
            keeper.keep(task.name, found, samples, seed)
        return found

    async def judged(rollout: Rollout) -> Attempt:
        return told(Attempt(rollout, await judge(task, rollout)))

    async def judged_again(attempt: Attempt, problem: Problem) -> Attempt:
        if not attempt.score.is_unscored:
            return told(attempt)
        score = await judge(task, replace(attempt.rollout, problem=problem))
        nothing_new = score.is_unscored and score.explanation == attempt.score.explanation
        return told(attempt if nothing_new else replace(attempt, score=score))

    def told(attempt: Attempt) -> Attempt:
        if on_attempt is not None:
            on_attempt(attempt)
        return attempt

    records = tuple(await asyncio.gather(*(record(problem) for problem in problems)))
    if scorer is not None:
        records = read(records, scorer, scorer_samples)
    aspects, beside = tuple(getattr(task, "aspects", ())), getattr(task, "beside", "")
    return evaluation(task.name, samples, seed, records, final_answer, chance_on(task, problems), aspects, beside)


def evaluation(
    task: str, samples: int, seed: int, records: Sequence[Record], final_answer: Callable[[str], str] = str.strip, chance: float = 0.0,
    aspects: Sequence[Aspect] = (), beside: str = "",
) -> Evaluation:  # fmt: skip
    """What the records of one task say."""
    measured = (*_quantities(records, samples, final_answer), *(quantities.aspect(records, asked) for asked in aspects))
    return Evaluation(task, samples, seed, tuple(records), measured, quantities.budgets(samples), chance, tuple(aspects), beside)


def chance_on(task: Task, problems: Sequence[Problem]) -> float:
    """What guessing scores on these problems: of choices, the mean share of the options that are right."""
    if not isinstance(task, ChoiceTask):
        return getattr(task, "chance", 0.0)
    choices = [task.choice(problem) for problem in problems]
    return sum(len(choice.right) / len(choice.options) for choice in choices) / len(choices)


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
    found = [quantities.accuracy(records), *(quantities.pass_at_k(records, k) for k in quantities.budgets(samples))]
    if any(attempt.rollout.readings for record in records for attempt in record.attempts):  # the likeliest option: nothing was written
        return (*found, quantities.truncated_frac(records), quantities.unscored_frac(records))
    found += [
        *(quantities.pass_hat_k(records, k) for k in quantities.budgets(min(samples, MOST_RELIABLE))[-1:] if k > 1),
        quantities.diversity(records, final_answer),
        quantities.length_tokens(records),
        quantities.truncated_frac(records),
        quantities.unscored_frac(records),
        quantities.sampling_logprob(records),
    ]
    if (unparsed := quantities.unparsed_frac(records)) is not None:
        found.insert(-1, unparsed)
    if any(attempt.entropies for record in records for attempt in record.attempts):
        found.append(quantities.entropy(records))
    if quantities.uses_tools(records):
        found += quantities.tool_use(records)
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


def _share_note(share: Measurement | None, limit: float, what: str) -> str:
    return f"{share.value:.0%} of the attempts {what}" if share is not None and share.value > limit else ""
