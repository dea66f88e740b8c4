"""What has been computed of conversations, kept between their turns: the next turn costs its new tokens only.

A conversation has a beginning, the prompt of its first turn, which siblings share, and its own tokens since, sampled or read. That is
how its training row lies as well (`batching.rollout_sequences`), so that a turn is computed as it will be trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

Pairs = dict[int, tuple[Tensor, Tensor]]
"""By layer: keys and values."""
Weights = tuple[nn.Module, int]
"""A model, and how often its weights have changed."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One conversation as far as it has been computed."""

    tokens: tuple[int, ...]
    begun: int
    """How many of its tokens are its beginning."""
    prefix: Pairs
    """Of the beginning [K, P, d], padded; the same tensors for all siblings."""
    own: Pairs
    """Of the tokens since [K, C, d], not padded."""

    @cached_property
    def prefix_bytes(self) -> int:
        return _bytes(self.prefix)

    @cached_property
    def own_bytes(self) -> int:
        return _bytes(self.own)

    def known(self, prompt: tuple[int, ...]) -> int:
        """How many of the first tokens of `prompt`, which begins alike, have been computed here. The last is never among them: what
        follows is drawn from it."""
        most = min(len(self.tokens), len(prompt) - 1)
        if prompt[:most] == self.tokens[:most]:
            return most
        return next(i for i in range(self.begun, most) if prompt[i] != self.tokens[i])


@dataclass
class Memory:
    """Conversations, of which the ones used longest ago are dropped beyond `max_bytes`, and all when the weights have changed."""

    max_bytes: int
    weights: Weights | None = None
    _kept: list[Kept] = field(default_factory=list)
    """The one used last stands last."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def n_bytes(self) -> int:
        beginnings = {id(kept.prefix): kept.prefix_bytes for kept in self._kept}
        return sum(beginnings.values()) + sum(kept.own_bytes for kept in self._kept)

    def enter(self, weights: Weights) -> None:
        """Forget what other weights have computed."""
        if weights != self.weights:
            self.weights, self._kept = weights, []

    def longest(self, prompt: tuple[int, ...], begun: int) -> tuple[Kept | None, int]:
        """The conversation of this beginning that shares the most tokens with `prompt`, and how many; none and 0 where there is none."""
        alike = [kept for kept in self._kept if kept.begun == begun and kept.tokens[:begun] == prompt[:begun]]
        if not alike:
            return None, 0
        found = max(alike, key=lambda kept: kept.known(prompt))
        self._kept.remove(found)
        self._kept.append(found)
        return found, found.known(prompt)

    def keep(self, kept: Kept, gone_on_from: Kept | None = None) -> None:
        """Remember a conversation, in the place of the one that it has gone on from."""
        if gone_on_from is not None and kept.tokens[: len(gone_on_from.tokens)] == gone_on_from.tokens:
            self._kept = [other for other in self._kept if other is not gone_on_from]
        self.forget(kept.tokens)
        self._kept.append(kept)
        while self._kept and self.n_bytes > self.max_bytes:
            del self._kept[0]

    def forget(self, tokens: tuple[int, ...]) -> None:
        """Drop the conversation of exactly these tokens, if it is kept."""
        self._kept = [kept for kept in self._kept if kept.tokens != tokens]


def _bytes(pairs: Pairs) -> int:
    return sum(x.nbytes for pair in pairs.values() for x in pair)
