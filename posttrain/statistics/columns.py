"""One number for each problem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float

from posttrain.seeds import fold

CONFIDENCE = 0.95
"""How often an interval is to cover the truth."""

Column = Sequence[float] | np.ndarray
"""One number for each problem; nan where none was measured."""

Ragged = Sequence[Sequence[float]] | np.ndarray
"""One row of scores for each problem, which may differ in length; nan where an attempt could not be scored."""

Labels = Sequence[Hashable]
"""For each problem, which cluster it belongs to."""


def problem_means(scores_PS: Ragged) -> Float[np.ndarray, " problems"]:
    """The mean over each problem's scored attempts; nan for a problem without any."""
    rows = [measured(row) for row in scores_PS]
    return np.array([row.mean() if row.size else math.nan for row in rows], dtype=float)


def ratio_contributions(numerators_P: Column, denominators_P: Column) -> Float[np.ndarray, " problems"]:
    """What each problem contributes to a ratio of sums, such as nats per token: their mean is the ratio of sums.

    Linearised (Cochran 1977, section 6.3): the contributions' spread gives the ratio's standard error, and the difference
    of two models' contributions that of the difference. nan where either is nan or the denominator is 0.
    """
    numerators_P, denominators_P = np.asarray(numerators_P, float), np.asarray(denominators_P, float)
    known = ~np.isnan(numerators_P) & (denominators_P > 0)
    numerators, denominators = numerators_P[known], denominators_P[known]
    contributions_P = np.full(known.shape, math.nan)
    if known.any():
        ratio = numerators.sum() / denominators.sum()
        contributions_P[known] = ratio + (numerators - ratio * denominators) / denominators.mean()
    return contributions_P


def disagreement(answers: Sequence[Hashable]) -> float:
    """The chance that two attempts at a problem give different answers, unbiased (Simpson's index); nan for fewer than two."""
    n = len(answers)
    if n < 2:
        return math.nan
    return 1.0 - sum(count * (count - 1) for count in Counter(answers).values()) / (n * (n - 1))


def count_unscored(scores_PS: Ragged) -> int:
    """How many attempts are nan."""
    return sum(int(np.isnan(np.asarray(row, float)).sum()) for row in scores_PS)


def halves(labels: Labels, seed: int = 0) -> tuple[frozenset[Hashable], frozenset[Hashable]]:
    """The different labels in two halves at random: one to fit something on, the other to test it on.

    Who falls where depends on the seed and the labels alone, not on their order or number. Of an odd number the second half has one more.
    """
    order = sorted(set(labels), key=lambda label: fold(seed, "half", str(label)))
    return frozenset(order[: len(order) // 2]), frozenset(order[len(order) // 2 :])


# -------------------------------------------------------------------------------------------------- for the other files


def measured(values: Column) -> np.ndarray:
    """The values that are not nan."""
    values = np.asarray(values, float)
    return values[~np.isnan(values)]


def both(before_P: Column, after_P: Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two columns where both are measured, and which problems those are. Raises ValueError for other lengths."""
    before, after = np.asarray(before_P, float), np.asarray(after_P, float)
    if before.shape != after.shape:
        raise ValueError(f"a paired difference needs the same problems twice, got {before.size} and {after.size}")
    known = ~np.isnan(before) & ~np.isnan(after)
    return before[known], after[known], known


def over_clusters(values_P: Column, clusters_P: Labels | None) -> np.ndarray:
    """What repeats: the measured values themselves, or each cluster's contribution to their mean.

    A problem, and not a cluster, weighs the same: the mean is one ratio of sums, of which clusters are the units. The
    contributions' spread is the cluster-robust error of Miller (2411.00640, section 2.2) times C / (C - 1), without which
    few clusters seem surer than they are.
    """
    values = np.asarray(values_P, float)
    known = ~np.isnan(values)
    if clusters_P is None:
        return values[known]
    if len(clusters_P) != values.size:
        raise ValueError(f"{len(clusters_P)} cluster labels for {values.size} problems")
    numbers: dict[Hashable, int] = {}
    ids = np.array([numbers.setdefault(clusters_P[i], len(numbers)) for i in np.flatnonzero(known)], int)
    return ratio_contributions(np.bincount(ids, values[known]), np.bincount(ids)) if ids.size else values[known]
