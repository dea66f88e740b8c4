"""The chance that one of k attempts is right, and the chance that all of them are."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy import stats

from posttrain.statistics.columns import Column


def pass_at_k(n: Column | int, c: Column | int, k: Column | int) -> Float[np.ndarray, ...]:
    """The chance that k attempts hold a right one, from n attempts of which c were right (Chen et al., 2107.03374, eq. 1).

    1 - C(n-c, k) / C(n, k): unbiased, for k of the n are drawn without replacement, which is scipy's hypergeometric
    distribution and exact to rounding for any n. Elementwise; nan where n < k, as k attempts then say nothing about k.
    Its interval is one over problems (`rate_over_problems` of the values), never over attempts.
    """
    n, c, k = _counts("pass@k", n, c, k)
    return np.where(n >= k, stats.hypergeom.sf(0, np.maximum(n, k), c, k), math.nan)


def pass_hat_k(n: Column | int, c: Column | int, k: Column | int) -> Float[np.ndarray, ...]:
    """pass^k: the chance that k attempts are right, every one, from n attempts of which c were (tau-bench, 2406.12045).

    C(c, k) / C(n, k): unbiased for p ** k. Elementwise; nan where n < k.
    """
    n, c, k = _counts("pass^k", n, c, k)
    return np.where(n >= k, stats.hypergeom.pmf(k, np.maximum(n, k), c, k), math.nan)


def _counts(name: str, n: Column | int, c: Column | int, k: Column | int) -> tuple[np.ndarray, ...]:
    n, c, k = np.broadcast_arrays(n, c, k)
    if ((c < 0) | (c > n) | (k < 1)).any():
        raise ValueError(f"{name} needs 0 <= c <= n right attempts and k >= 1")
    return n, c, k
