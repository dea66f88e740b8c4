"""Conversations and pairs of mixed length, made of a novella: what they say is beside the point, how long they are is not."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from posttrain.data.conversations import Conversation
from posttrain.data.pairs import Pair
from posttrain.evals.heldout import Tokenize, verne
from posttrain.types import Message, UserError


class Novella:
    """*In the Year 2889* (`evals/heldout.py`) as a store of words, of which passages are drawn by seed."""

    def __init__(self, encode: Tokenize, seed: int) -> None:
        self.encode = encode
        self.random = np.random.default_rng(seed)

    @cached_property
    def words(self) -> list[str]:
        return verne().split()

    @cached_property
    def ends(self) -> np.ndarray:
        """How many tokens the novella has, up to each word's end."""
        return np.cumsum([len(self.encode(f" {word}")) for word in self.words])

    def conversations(self, n: int, shortest: int, longest: int) -> list[Conversation]:
        """Of one to three questions, each with an answer that is twice as long on average."""
        return [Conversation(str(i), self._conversation(self._length(shortest, longest))) for i in range(n)]

    def pairs(self, n: int, shortest: int, longest: int) -> list[Pair]:
        """Prompts and answers of up to half of `longest` each."""
        made = []
        for i in range(n):
            prompt, chosen, rejected = (self._passage(self._length(shortest // 2, longest // 2)) for _ in range(3))
            made.append(Pair(str(i), (Message("user", prompt),), (Message("assistant", chosen),), (Message("assistant", rejected),)))
        return made

    def _conversation(self, n_tokens: int) -> tuple[Message, ...]:
        n_questions = min(int(self.random.integers(1, 4)), max(1, n_tokens // 40))
        sizes = self.random.dirichlet([2.0, 4.0] * n_questions) * n_tokens
        return tuple(Message("assistant" if i % 2 else "user", self._passage(max(1, round(size)))) for i, size in enumerate(sizes))

    def _length(self, shortest: int, longest: int) -> int:
        """Log-normal; the bounds are two standard deviations from the median."""
        drawn = self.random.lognormal(math.log(shortest * longest) / 2, math.log(longest / shortest) / 4)
        return round(min(max(drawn, shortest), longest))

    def _passage(self, n_tokens: int) -> str:
        """About so many tokens in whole words, from a place drawn at random."""
        if n_tokens >= self.ends[-1]:
            raise UserError(f"the novella has {self.ends[-1]} tokens: lower --longest, or give --data FILE.jsonl")
        first = int(np.searchsorted(self.ends, self.random.integers(self.ends[-1] - n_tokens)))
        last = int(np.searchsorted(self.ends, self.ends[first] + n_tokens))
        return " ".join(self.words[first : max(last, first + 1)])
