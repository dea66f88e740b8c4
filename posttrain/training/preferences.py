"""Pairs of a better and a worse answer, out of scored attempts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from posttrain.data.pairs import Pair
from posttrain.seeds import fold
from posttrain.types import Rollout, Score

Scored = tuple[Rollout, Score]


@dataclass(frozen=True)
class Preferred:
    """Pairs, and what came of the rest."""

    pairs: list[Pair]
    counts: dict[str, int]

    def account(self) -> str:
        return ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in self.counts.items())


def pairs_of(
    groups: Sequence[Sequence[Scored]], which: Literal["best_worst", "all"] = "best_worst", labels: Literal["sure", "bradley_terry"] = "sure",
    noise: float = 1.0, keep_truncated: bool = False, seed: int = 0,
) -> Preferred:  # fmt: skip
    """The pairs of each group of attempts at one problem: the best against the worst, or every two of different score.

    Unscored attempts, empty ones, equal texts and equal scores make no pair; attempts that ran out of tokens neither, unless
    kept. With `bradley_terry` labels the better answer is chosen with probability σ(difference / noise), and the margin is
    left out, for nobody would know it.
    """
    pairs: list[Pair] = []
    counts = {"unscored": 0, "truncated": 0, "groups_without_a_difference": 0, "labels_against_the_score": 0}
    for group in groups:
        usable = []
        for rollout, score in group:
            counts["unscored"] += score.is_unscored
            counts["truncated"] += rollout.outcome == "truncated" and not keep_truncated
            if not score.is_unscored and (rollout.outcome == "terminated" or keep_truncated) and rollout.text.strip():
                usable.append((score.value, rollout))
        usable.sort(key=lambda item: item[0])
        chosen = [(usable[0], usable[-1])] if which == "best_worst" and len(usable) > 1 else list(combinations(usable, 2))
        chosen = [(low, high) for low, high in chosen if high[0] > low[0] and high[1].text != low[1].text]
        counts["groups_without_a_difference"] += not chosen
        for number, (low, high) in enumerate(chosen):
            name = f"{high[1].problem.id} {number}" if len(chosen) > 1 else high[1].problem.id
            flipped = labels == "bradley_terry" and _flipped(high[0] - low[0], noise, fold(seed, name))
            counts["labels_against_the_score"] += flipped
            better, worse = (low, high) if flipped else (high, low)
            margin = 0.0 if labels == "bradley_terry" else high[0] - low[0]
            pairs.append(Pair(name, better[1].problem.messages, better[1].messages, worse[1].messages, margin, tuple(better[1].problem.tools)))
    return Preferred(pairs, counts)


def _flipped(difference: float, noise: float, seed: int) -> bool:
    return np.random.default_rng(seed).random() > 1 / (1 + math.exp(-difference / noise))
