"""What choosing among k of n attempts is expected to give, over all subsets of k, exactly.

k attempts are drawn without replacement from those at hand, as in the unbiased pass@k: the expectation over the pool is an unbiased
estimate of that over fresh attempts, and much steadier than cutting the pool into groups. Every rule is given attempts in
random order, so that ties, which go to the first, are shared evenly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.special import gammaln

from posttrain.statistics.columns import Column

MOST_ATTEMPTS = 1000
"""Binomial coefficients of more overflow."""


def expected_of_best(scores: np.ndarray, values: np.ndarray, k: int) -> float:
    """E[value of the attempt with the highest score among k of n]: the i-th smallest wins C(i − 1, k − 1) / C(n, k). nan for n < k.

    Scores may be -inf but not nan.
    """
    if len(scores) < k:
        return math.nan
    order, total = np.argsort(scores, kind="stable"), len(scores)
    ranks = np.arange(1, total + 1)
    log_choose = lambda a, b: gammaln(a + 1) - gammaln(b + 1) - gammaln(np.maximum(a - b, 0) + 1)  # noqa: E731
    wins = np.where(ranks >= k, np.exp(log_choose(ranks - 1, k - 1) - log_choose(total, k)), 0.0)
    _, inverse = np.unique(scores[order], return_inverse=True)
    shared = np.bincount(inverse, wins)[inverse] / np.bincount(inverse)[inverse]  # among ties, whichever
    return float(np.clip(shared @ values[order], values.min(), values.max()))  # but for rounding it lies between them


def expected_of_majority(answers: Sequence[Hashable | None], values: Column, k: int) -> float:
    """E[value of the attempt that a vote among k of n picks]: the first with the most frequent answer. nan for n < k.

    None is no answer and does not vote; where nobody votes the first attempt is picked. For each answer and each number
    of votes m that it may win with, the subsets are counted in which every other answer has fewer, or as many and comes later:
    among t answers with m votes each, one in t. Raises ValueError for more than `MOST_ATTEMPTS` attempts.
    """
    n = len(answers)
    if n > MOST_ATTEMPTS:
        raise ValueError(f"votes are counted among at most {MOST_ATTEMPTS} attempts, not {n}")
    if n < k:
        return math.nan
    counts = Counter(answers)
    silent = counts.pop(None, 0)
    sums = {answer: 0.0 for answer in [*counts, None]}
    for answer, value in zip(answers, values, strict=True):
        sums[answer] += float(value)
    found = math.comb(silent, k) * (sums[None] / silent if silent else 0.0)
    for answer, count in counts.items():
        if sums[answer]:
            others = list((counts - Counter({answer: count})).values())
            found += sums[answer] / count * _ways_to_win(count, others, silent, k)
    return float(np.clip(found / math.comb(n, k), np.min(values), np.max(values)))


def _ways_to_win(count: int, others: Sequence[int], silent: int, k: int) -> float:
    """In how many subsets of k the answer given `count` times wins, shared where it ties."""
    ways = 0.0
    for m in range(1, min(count, k) + 1):
        rest = k - m
        left_TR = _below_or_tied(others, m, rest)
        idle_R = np.array([math.comb(silent, rest - s) for s in range(rest + 1)], float)
        ways += math.comb(count, m) * float(left_TR @ idle_R @ (1 / np.arange(1, len(left_TR) + 1)))
    return ways


def _below_or_tied(others: Sequence[int], m: int, rest: int) -> np.ndarray:
    """[t, s]: in how many ways s attempts are drawn from the other answers, t of these getting m each and the others fewer."""
    ways_TR = np.zeros((rest // m + 1, rest + 1))
    ways_TR[0, 0] = 1.0
    for count in others:
        before, ways_TR = ways_TR, np.zeros_like(ways_TR)
        for i in range(min(count, m - 1, rest) + 1):
            ways_TR[:, i:] += math.comb(count, i) * before[:, : rest + 1 - i]
        if m <= min(count, rest):
            ways_TR[1:, m:] += math.comb(count, m) * before[:-1, : rest + 1 - m]
    return ways_TR
