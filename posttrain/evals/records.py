"""What an evaluation keeps of every attempt, so that any number in it can be traced to what the model wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Protocol

from posttrain.scaling.cost import SearchedRollout, Spent, searched
from posttrain.types import Completion, Message, Problem, Reading, Retrieval, Rollout, Sampling, Score, Source, ToolCall, Usage


@dataclass(frozen=True)
class Attempt:
    """One attempt and its judgement."""

    rollout: Rollout
    score: Score
    logprobs: tuple[float, ...] | None = None
    """Of the sampled tokens, in nats at temperature 1, as the scorer read them; None where it read none."""
    entropies: tuple[float, ...] | None = None
    """Full-vocabulary entropy before each of those tokens, in nats."""

    @property
    def is_right(self) -> bool:
        return self.score.value >= 1

    @property
    def failed(self) -> bool:
        """The machinery failed, so that the attempt says nothing about the model."""
        return self.rollout.outcome == "error"


@dataclass(frozen=True)
class Record:
    """A problem and every attempt at it."""

    problem: Problem
    attempts: tuple[Attempt, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(attempt.score.value for attempt in self.attempts)

    @property
    def n_scored(self) -> int:
        return sum(not attempt.score.is_unscored for attempt in self.attempts)

    @property
    def n_right(self) -> int:
        return sum(attempt.is_right for attempt in self.attempts)

    @property
    def rate(self) -> float:
        """The mean score of the scored attempts; nan without any."""
        scores = [score for score in self.scores if not math.isnan(score)]
        return sum(scores) / len(scores) if scores else math.nan

    @property
    def completed(self) -> list[Attempt]:
        """The attempts that the machinery carried through, judged or not."""
        return [attempt for attempt in self.attempts if not attempt.failed]

    @property
    def cluster(self) -> str:
        """What repeats: the problem, or what its `data` calls its cluster (a text that several problems ask about)."""
        return str(self.problem.data.get("cluster", self.problem.id))

    @property
    def pair(self) -> str:
        """What a problem and its counterpart share, such as one question with and without a wrong hint; if not named, the cluster."""
        return str(self.problem.data.get("pair", self.cluster))


class Keeper(Protocol):
    """Keeps records from one measurement to the next, so that one that was cut off goes on."""

    def find(self, task: str, problem: Problem, samples: int, seed: int) -> Record | None:
        """The record of this very problem, attempted in this very way by this very model; None where there is none.

        Attempts that another judge scored come without their scores.
        """
        ...

    def keep(self, task: str, record: Record, samples: int, seed: int) -> None:
        """Have the record on disk when this returns."""
        ...


def prompt_text(problem: Problem) -> str:
    """What the model is asked, for a person to read: a lone message bare, several each after its role."""
    if len(problem.messages) == 1:
        return problem.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in problem.messages)


def record_json(record: Record, tokens: bool = False) -> dict[str, Any]:
    """The record as JSON; with `tokens`, also each attempt's token ids and sampling log-probs, turn by turn."""
    document: dict[str, Any] = {
        "id": record.problem.id,
        "prompt": prompt_text(record.problem),
        "answer": record.problem.answer,
        "rate": record.rate,
        "n": record.n_scored,
        "attempts": [_attempt_json(attempt, tokens) for attempt in record.attempts],
    }
    return plain(document)


def _attempt_json(attempt: Attempt, tokens: bool) -> dict[str, Any]:
    rollout = attempt.rollout
    document: dict[str, Any] = {
        "text": rollout.text,
        "score": attempt.score.value,
        "explanation": attempt.score.explanation,
        "outcome": rollout.outcome,
        "n_tokens": rollout.n_tokens,
    }
    if tokens:
        document["completions"] = [
            {"prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "logprobs": c.sampling_logprobs}
            for c in rollout.completions
        ]
        document["readings"] = rollout.readings
    return document


def record_row(record: Record) -> dict[str, Any]:
    """The whole record as JSON, from which `record_from` makes it again: the exact tokens read and written, turn by turn.

    What a scorer read of it is left out, for it can be read again. Log-probabilities of -inf become nan.
    """
    problem = record.problem
    return plain({
        "id": problem.id,
        "problem": {"messages": [asdict(m) for m in problem.messages], "answer": problem.answer, "data": problem.data},
        "attempts": [_attempt_row(attempt) for attempt in record.attempts],
    })  # fmt: skip


def record_from(row: Mapping[str, Any]) -> Record:
    """What `record_row` wrote. Raises KeyError or TypeError for anything else."""
    asked = row["problem"]
    problem = Problem(row["id"], tuple(map(message_from, asked["messages"])), asked["answer"], asked["data"])
    return Record(problem, tuple(_attempt_from(attempt, problem) for attempt in row["attempts"]))


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    rollout, score = attempt.rollout, attempt.score
    return {
        "messages": [asdict(message) for message in rollout.messages], "outcome": rollout.outcome, "error": rollout.error,
        "sample": rollout.sample, "score": score.value, "parts": score.parts, "explanation": score.explanation,
        "state": rollout.state, "completions": [asdict(completion) for completion in rollout.completions],
        **({"usage": asdict(rollout.usage)} if rollout.usage else {}),
        **({"retrievals": [asdict(retrieval) for retrieval in rollout.retrievals]} if rollout.retrievals else {}),
        **({"readings": [asdict(reading) for reading in rollout.readings]} if rollout.readings else {}),
        **({"spent": asdict(rollout.spent)} if isinstance(rollout, SearchedRollout) else {}),
    }  # fmt: skip


def _attempt_from(row: Mapping[str, Any], problem: Problem) -> Attempt:
    completions = tuple(map(completion_from, row["completions"]))
    messages = tuple(map(message_from, row["messages"]))
    rollout = Rollout(
        problem, messages, completions, row["outcome"], row["sample"], row["error"], state=row.get("state", {}),
        usage=Usage(**row["usage"]) if row.get("usage") else None, retrievals=tuple(map(_retrieval, row.get("retrievals", ()))),
        readings=tuple(map(_reading, row.get("readings", ()))),
    )  # fmt: skip
    if "spent" in row:
        rollout = searched(rollout, Spent(**row["spent"]), rollout.sample)
    parts = {name: _number(value) for name, value in row["parts"].items()}
    return Attempt(rollout, Score(_number(row["score"]), parts, row["explanation"]))


def message_from(row: Mapping[str, Any]) -> Message:
    """The message that `asdict` made JSON of."""
    return Message(**{**row, "tool_calls": tuple(ToolCall(**call) for call in row["tool_calls"])})


def completion_from(row: Mapping[str, Any]) -> Completion:
    """The completion that `asdict` made JSON of."""
    logprobs = tuple(map(_number, row["sampling_logprobs"]))
    tokens = {name: tuple(row[name]) for name in ("prompt_token_ids", "token_ids")}
    return Completion(**{**row, **tokens, "sampling_logprobs": logprobs, "sampling": Sampling(**row["sampling"])})


def _retrieval(row: Mapping[str, Any]) -> Retrieval:
    shown = tuple(Source(**{**source, "score": _number(source["score"])}) for source in row["shown"])
    return Retrieval(row["query"], row["corpus_sha256"], shown, tuple(row["left_out"]))


def _reading(row: Mapping[str, Any]) -> Reading:
    """Log-probs of nan are refused where options are read, so that what JSON could not hold was -inf."""
    logprobs = tuple(-math.inf if value is None else value for value in row["logprobs"])
    return Reading(tuple(row["prompt_token_ids"]), tuple(row["token_ids"]), logprobs)


def _number(value: float | None) -> float:
    """JSON has no nan."""
    return math.nan if value is None else value


def plain(value: Any) -> Any:
    """The value in what JSON knows: dataclasses and mappings as objects, sequences as lists, nan and infinities as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
