"""Intervals of what has no formula of its own: by drawing the problems (or their clusters) anew, with replacement.

A problem is drawn with all that belongs to it, and for two models at once, so that what they share stays shared.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from posttrain.statistics.columns import CONFIDENCE

RESAMPLES = 1000


def resampled_weights(n_units: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "resamples units"]:
    """How often each unit is drawn in each resample. No unit gives an empty matrix."""
    if not n_units:
        return np.zeros((resamples, 0), int)
    return np.random.default_rng(seed).multinomial(n_units, np.full(n_units, 1 / n_units), size=resamples)


def percentile_interval(replicates: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """The central 95% of what the resamples gave; infinities are values, nan are left out. nan where nothing is left."""
    known = np.sort(replicates[~np.isnan(replicates)])
    if not known.size:
        return math.nan, math.nan
    # Not interpolated, for between a number and infinity there is nothing.
    low, high = (round((known.size - 1) * part) for part in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(known[low]), float(known[high])


def spread(replicates: Float[np.ndarray, " resamples"]) -> float:
    """The standard error that the resamples show; nan for fewer than two that are known."""
    known = replicates[np.isfinite(replicates)]
    return float(known.std(ddof=1)) if known.size > 1 else math.nan


def replicate_correlation(before: Float[np.ndarray, " resamples"], after: Float[np.ndarray, " resamples"]) -> float:
    """How two estimates vary together from resample to resample; 0 where one of them does not vary."""
    known = np.isfinite(before) & np.isfinite(after)
    before, after = before[known], after[known]
    if before.size < 2 or np.ptp(before) == 0 or np.ptp(after) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1))
