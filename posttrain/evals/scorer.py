"""How likely a model finds given tokens: what entropy, KL and held-out likelihood rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from posttrain.types import Rollout, UserError


class TokenScorer(Protocol):
    """A language model that reads rather than writes."""

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        """For each (prompt, completion), of the completion's tokens: log-probabilities and full-vocabulary entropies.

        Both in nats and at temperature 1, whatever the completion was sampled at. Prompts are not empty.
        """
        ...


@dataclass(frozen=True)
class Unigram:
    """The smallest language model: every token is drawn alone, always from the same probabilities.

    Its entropy, and its KL to another, are known in closed form.
    """

    probabilities: tuple[float, ...]
    """One for each token id; they sum to 1."""

    def entropy(self) -> float:
        """Of one token, in nats."""
        return -sum(p * math.log(p) for p in self.probabilities if p > 0)

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        """-inf for a token of probability 0."""
        with np.errstate(divide="ignore"):
            logprobs_V = np.log(np.asarray(self.probabilities))
        entropy = self.entropy()
        return [(logprobs_V[np.asarray(tokens, int)].tolist(), [entropy] * len(tokens)) for _, tokens in pairs]


def score_rollouts(scorer: TokenScorer, rollouts: Sequence[Rollout]) -> list[tuple[list[float], list[float]]]:
    """Log-probabilities and entropies of each rollout's sampled tokens, its turns one after another.

    One call to the scorer, so that it can batch. Raises UserError where the scorer finds log-probabilities that are nan.
    """
    completions = [[c for c in rollout.completions if c.token_ids] for rollout in rollouts]
    pairs = [(c.prompt_token_ids, c.token_ids) for turns in completions for c in turns]
    scored = iter(scorer.score_tokens(pairs) if pairs else [])
    return [_joined([next(scored) for _ in turns]) for turns in completions]


def _joined(turns: list[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    logprobs = [value for turn, _ in turns for value in turn]
    entropies = [value for _, turn in turns for value in turn]
    if np.isnan(logprobs).any():
        raise UserError("the model gives log-probabilities that are nan: its weights are broken; measure an earlier checkpoint")
    return logprobs, entropies
