"""What an evaluation keeps of every attempt, so that any number in it can be traced to what the model wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from posttrain.types import Problem, Rollout, Score


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
    return document


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
