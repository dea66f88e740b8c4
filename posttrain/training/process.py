"""Answers step by step: how a process reward model reads them, in training and as a reward alike.

A step's probability of being right is σ of the model's number at the last token that the step's own text adds. What a whole
answer is worth is then a matter of choice, and the literature's differ: the least of its steps' probabilities (Math-Shepherd,
2312.08935), their product, which is the chance that all are right if they are independent (Lightman et al., 2305.20050),
or that of the last (2408.03314). A product falls with every further step, so that under it a shorter answer is a better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from posttrain.batching import TokenSequence
from posttrain.policy.scalar import ScalarModel
from posttrain.renderer import Renderer, Tools
from posttrain.types import Message, Score, unscored

Aggregate = Literal["min", "product", "last"]
"""What an answer is worth, of the probabilities of its steps."""
AGGREGATES: tuple[str, ...] = get_args(Aggregate)


def steps_sequence(renderer: Renderer, prompt: Sequence[Message], steps: Sequence[str], separator: str) -> TokenSequence:
    """The answer, its steps joined by `separator`, with the last token of each step marked."""
    tokens: list[int] = []
    marks: list[bool] = []
    for i, text in enumerate(steps):
        added = renderer.encode(text + (separator if i + 1 < len(steps) else ""))
        tokens += added
        marks += [False] * (len(added) - 1) + [True]
    return TokenSequence(renderer.prompt(prompt), tuple(tokens), tuple(marks))


def steps_of(text: str, separator: str) -> list[str]:
    """The steps of an answer as written; blank ones are none."""
    return [step for step in text.split(separator) if step.strip()]


@dataclass(frozen=True)
class ProcessReader:
    """Scores each conversation's last message, between 0 and 1, by a process reward model. Read by `rewards.learned.Learned`.

    It has learned from rows that describe no tools, and reads none.
    """

    model: ScalarModel
    aggregate: Aggregate = "min"

    def __call__(self, conversations: Sequence[tuple[Message, ...]], tools: Sequence[Tools] = ()) -> list[Score]:
        read = [self._read(messages) for messages in conversations]
        sequences = [s for s in read if isinstance(s, TokenSequence)]
        parts = iter(self.model.score(sequences).sigmoid().split([s.n_predicted for s in sequences]))
        return [self._score(next(parts)) if isinstance(s, TokenSequence) else unscored(s) for s in read]

    def _read(self, messages: tuple[Message, ...]) -> TokenSequence | str:
        """The answer's tokens, or why it cannot be judged."""
        separator = self.model.step_separator or "\n"
        steps = steps_of(messages[-1].content, separator)
        if not steps:
            return "the answer has no step to be judged"
        sequence = steps_sequence(self.model.renderer, messages[:-1], steps, separator)
        fits = len(sequence.prompt) + len(sequence.tokens) <= self.model.max_context
        return sequence if fits else f"longer than the reward model's context of {self.model.max_context} tokens"

    def _score(self, chances: torch.Tensor) -> Score:
        value = {"min": torch.min, "product": torch.prod, "last": lambda steps: steps[-1]}[self.aggregate](chances).item()
        return Score(value, {"steps": float(len(chances))}, "steps " + ", ".join(f"{p:.2f}" for p in chances.tolist()))
