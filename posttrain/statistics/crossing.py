"""At how many attempts the weaker of two models overtakes the stronger one: where the pass@k curves cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posttrain.statistics.bootstrap import RESAMPLES, percentile_interval, resampled_weights
from posttrain.statistics.columns import Labels
from posttrain.statistics.passk import pass_at_k

SHARE_WITH_K = 0.9
"""The curves go as far as this share of the problems has scored attempts for: beyond, they would speak of other problems."""

SAME = 1e-9
"""Curves that lie closer together than this are on each other: their difference is rounding."""


@dataclass(frozen=True)
class Crossover:
    """The smallest k at which the base is ahead; infinity where it never is, up to `largest_k`."""

    k: float
    """1: the base is ahead from the first attempt on, so that there is nothing to overtake."""
    low: float
    high: float
    """The 95% interval over problems; infinity stands for none up to `largest_k`."""
    share: float
    """In how many of the resamples the base is ahead at some k: curves that meet at the top cross by chance in about half."""
    largest_k: int
    n: int
    """Problems, or their clusters."""


def crossover(
    n_base_P: Sequence[int], right_base_P: Sequence[int], n_trained_P: Sequence[int], right_trained_P: Sequence[int],
    clusters: Labels | None = None, seed: int = 0, resamples: int = RESAMPLES,
) -> Crossover | None:  # fmt: skip
    """Where the base's mean pass@k first exceeds the trained model's (Yue et al., 2504.13837), with a bootstrap over problems.

    From the scored and the right attempts at each problem, by the unbiased pass@k at every whole k, on the problems that have
    attempts for all of them. None for fewer than two such problems, or where some have no two attempts: there is no curve then.
    """
    counts = [np.asarray(column, int) for column in (n_base_P, right_base_P, n_trained_P, right_trained_P)]
    least_P = np.minimum(counts[0], counts[2])
    largest = int(np.quantile(least_P[least_P > 0], 1 - SHARE_WITH_K, method="lower")) if (least_P > 0).any() else 0
    kept = least_P >= max(largest, 1)
    if largest < 2 or kept.sum() < 2:
        return None
    lead_PK = _curves(*(c[kept] for c in counts[2:]), largest) - _curves(*(c[kept] for c in counts[:2]), largest)
    lead_UK, n_units = _by_unit(lead_PK, [clusters[i] for i in np.flatnonzero(kept)] if clusters is not None else None)
    drawn_RK = resampled_weights(n_units, resamples, seed) @ lead_UK
    found_R = _first_behind(drawn_RK)
    k = float(_first_behind(lead_UK.sum(0, keepdims=True))[0])
    low, high = percentile_interval(found_R)
    # The interval of so coarse a number need not hold the estimate; it is not worth a reader's doubt.
    return Crossover(k, min(low, k), max(high, k), float(np.isfinite(found_R).mean()), largest, n_units)


def _curves(n_P: np.ndarray, right_P: np.ndarray, largest: int) -> Float[np.ndarray, "problems ks"]:
    return pass_at_k(n_P[:, None], right_P[:, None], np.arange(1, largest + 1)[None])


def _by_unit(lead_PK: np.ndarray, clusters: Labels | None) -> tuple[np.ndarray, int]:
    """The sums over each cluster: a crossing is where a sum changes its sign, and needs no mean."""
    if clusters is None:
        return lead_PK, len(lead_PK)
    order = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(order), lead_PK.shape[1]))
    np.add.at(sums, [order[name] for name in clusters], lead_PK)
    return sums, len(order)


def _first_behind(lead_RK: np.ndarray) -> Float[np.ndarray, " resamples"]:
    behind = lead_RK < -SAME
    return np.where(behind.any(1), behind.argmax(1) + 1.0, math.inf)
