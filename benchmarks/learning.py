"""What the sides of a training learn from: conversations or pairs of mixed length, cut from a novella, or those of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

from benchmarks.novella import Novella
from benchmarks.work import WithModel
from posttrain.algorithms import sft
from posttrain.batching import TokenSequence
from posttrain.data.conversations import load_conversations
from posttrain.data.pairs import load_pairs
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.policy.recomputed import recompute_layers
from posttrain.renderer import Renderer
from posttrain.training.pairs import PairTokens
from posttrain.training.stream import Stream
from posttrain.types import UserError

LEARNING_RATE = 1e-6
"""On every side: so small that one pass hardly changes what the first one measured."""
MAX_TOKENS = 1024
"""A conversation longer than this is left out for all: TRL would cut it."""

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Learning(WithModel):
    """A training on the same data, pass after pass: each repeat is one pass."""

    repeats: int = 2
    """Measured passes."""
    steps: int = 2
    """Optimizer steps of a pass."""
    per_step: int = 16
    """Conversations, or pairs, of an optimizer step: posttrain's default."""
    shortest: int = 20
    """Tokens of a short text."""
    longest: int = 400
    """Tokens of a long text; 19 of 20 log-normal lengths lie between the two, the others are moved to them."""
    data: str = ""
    """A .jsonl file in a form that `posttrain train` reads, in place of the novella; lengths are then its own."""
    recompute: bool = False
    """Ours computes each layer again in the backward pass (`posttrain train --recompute`), as TRL's default does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "steps", "per_step")
        self._at_least(4, "shortest")
        self._at_least(self.shortest, "longest")

    @property
    def n_items(self) -> int:
        """Conversations, or pairs, of a pass."""
        return self.steps * self.per_step

    @property
    def optim(self) -> AdamWConfig:
        return AdamWConfig(learning_rate=LEARNING_RATE)

    def prepare(self) -> None:
        super().prepare()
        self.items()  # what is wrong with a file is said before anything is measured

    def items(self) -> Sequence[object]:
        """What is learned from in a pass, as every side reads it."""
        raise NotImplementedError

    @property
    def renderer(self) -> Renderer:
        """The model's, without the model."""
        return _renderer(self.folder)

    @property
    def novella(self) -> Novella:
        return Novella(self.renderer.encode, self.seed)

    def _asked(self, what: str) -> str:
        source = f"from {self.data}" if self.data else f"of {self.shortest} to {self.longest} tokens"
        kept = ", ours recomputed" if self.recompute else ""
        return f"{self.model} in {self.dtype}{kept}, {self.steps} optimizer steps of {self.per_step} {what} {source}"

    def trainable(self) -> Policy:
        """Our model, as it is to be trained."""
        policy = load_policy(str(self.folder), self.dtype)
        if self.recompute:
            recompute_layers(policy.base)
        return policy

    def _usable(self, items: Sequence[Item], make: Callable[[Item], Made], fits: Callable[[Made], bool]) -> list[Made]:
        """The first items that fit, of a file's in the order of the seed. Raises UserError where they are too few."""
        made = map(make, Stream(items, self.seed).take(len(items))[0] if self.data else items)
        kept = list(islice(filter(fits, made), self.n_items))
        if len(kept) < self.n_items:
            raise UserError(
                f"{len(kept)} of the {len(items)} texts can be used (one answer, at most {MAX_TOKENS} tokens), {self.n_items} are needed:"
                " lower --steps or --per-step, or give more"
            )
        return kept


@dataclass(frozen=True)
class Conversations(Learning):
    """Whole conversations: the assistant's tokens are learned, the others read."""

    def items(self) -> list[TokenSequence]:
        """The conversations, each marked on what is trained."""
        items = load_conversations(self.data).items if self.data else self.novella.conversations(self.n_items, self.shortest, self.longest)
        make = lambda conversation: sft.sequences(self.renderer, conversation, "assistant")  # noqa: E731
        fits = lambda made: len(made) == 1 and len(made[0].prompt) + len(made[0].tokens) <= MAX_TOKENS  # noqa: E731
        return [sequence for (sequence,) in self._usable(items, make, fits)]

    @property
    def asked(self) -> str:
        return self._asked("conversations")


@dataclass(frozen=True)
class Pairs(Learning):
    """Prompts with two answers each, of which the first is to be preferred."""

    def items(self) -> list[PairTokens]:
        """The pairs: all tokens of an answer are trained."""
        items = load_pairs(self.data).items if self.data else self.novella.pairs(self.n_items, self.shortest, self.longest)
        make = lambda pair: PairTokens.of(self.renderer, pair)  # noqa: E731
        fits = lambda made: all(s.n_predicted == len(s.tokens) <= MAX_TOKENS - len(s.prompt) for s in made.sequences)  # noqa: E731
        return self._usable(items, make, fits)

    @property
    def asked(self) -> str:
        return self._asked("pairs")


@cache
def _renderer(folder: Path) -> Renderer:
    from transformers import AutoTokenizer

    return Renderer(AutoTokenizer.from_pretrained(folder))
