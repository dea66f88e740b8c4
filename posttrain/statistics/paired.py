"""Two models: on the same problems, where differences are paired, and on different ones, where they cannot be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from posttrain.statistics.columns import CONFIDENCE, Column, Labels, both, over_clusters
from posttrain.statistics.means import mean_over_problems, rate_over_problems
from posttrain.types import Measurement


def paired_difference(
    before_P: Column, after_P: Column, unit: str = "", n_unscored: int = 0, clusters: Labels | None = None
) -> Measurement:
    """The mean of after - before over the problems that have both, with Student's interval on the differences.

    Pairing removes the spread that both share: problems differ in difficulty far more than two models do.
    """
    before, after, known = both(before_P, after_P)
    return mean_over_problems(after - before, unit, n_unscored, _of(clusters, known))


def paired_rate_difference(
    before_P: Column, after_P: Column, unit: str = "fraction", n_unscored: int = 0, clusters: Labels | None = None
) -> Measurement:
    """`paired_difference` for values between 0 and 1, with an interval that holds near 0 and 1.

    The two models' Wilson intervals are joined by their correlation over problems, as Newcombe (1998, Statistics in Medicine
    17:2635) does for pairs of single outcomes; here on clustered rates, and without a continuity correction, but where the two agree on
    all n problems: their correlation then counts as 1 - 2 / n and not as 1, which would say that they agree on all others. Without
    spread in either model the correlation is taken as 0: all wrong twice says little of a 31st problem.

    Measured by simulation: Student's interval covered 46% where a model went from never to 2% over 30 problems, and had no
    width in half of the runs; this one covered at least 93% in all of 54 settings (10 to 100 problems, 1 or 8 attempts,
    rates of 0 to .98).
    """
    before, after, known = both(before_P, after_P)
    labels = _of(clusters, known)
    difference = mean_over_problems(after - before, unit, n_unscored, labels)
    was, now = (rate_over_problems(rates, clusters=labels) for rates in (before, after))
    return joined(difference, was, now, _correlation(over_clusters(before, labels), over_clusters(after, labels)))


def paired_rate_contrast(
    first: tuple[Column, Column], second: tuple[Column, Column], unit: str = "fraction", clusters: Labels | None = None
) -> Measurement:
    """How much more `second` changes than `first`, each (before, after) on the same problems: a difference of two paired differences.

    All values lie between 0 and 1. The two differences' intervals (`paired_rate_difference`) are joined by their correlation over
    problems as those of two rates are. Problems count that have all four. Covered at least 93% in each of 30 simulated settings (20
    to 250 problems, 1 or 8 attempts); up to all where hardly any problem is solved.
    """
    columns = np.asarray([*first, *second], float)
    known = ~np.isnan(columns).any(0)
    columns, labels = columns[:, known], _of(clusters, known)
    was, now = columns[1] - columns[0], columns[3] - columns[2]
    changes = (paired_rate_difference(*columns[i : i + 2], clusters=labels) for i in (0, 2))
    return joined(mean_over_problems(now - was, unit, 0, labels), *changes, _correlation(over_clusters(was, labels), over_clusters(now, labels)))


def unpaired_difference(before_P: Column, after_P: Column, unit: str = "", n_unscored: int = 0) -> Measurement:
    """The mean of after less that of before, on different problems, with Welch's interval; `n` is the smaller of the two."""
    was, now = mean_over_problems(before_P), mean_over_problems(after_P)
    value, stderr, n = now.value - was.value, math.hypot(was.stderr, now.stderr), min(was.n, now.n)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, _welch_freedom(was, now)) * stderr if stderr > 0 else stderr
    return Measurement(value, stderr, float(value - half), float(value + half), n, n_unscored, unit)


def unpaired_rate_difference(before_P: Column, after_P: Column, unit: str = "fraction", n_unscored: int = 0) -> Measurement:
    """`unpaired_difference` for values between 0 and 1: Newcombe's (1998, 17:873) method 10 on clustered rates."""
    difference = unpaired_difference(before_P, after_P, unit, n_unscored)
    return joined(difference, rate_over_problems(before_P), rate_over_problems(after_P), 0.0)


def joined(difference: Measurement, was: Measurement, now: Measurement, correlation: float) -> Measurement:
    """The difference with the interval that two intervals and their correlation give."""
    below = _length(now.value - now.low, was.high - was.value, correlation)
    above = _length(now.high - now.value, was.value - was.low, correlation)
    return replace(difference, low=difference.value - below, high=difference.value + above)


# ---------------------------------------------------------------------------------------------------------------- parts


def _of(clusters: Labels | None, known: np.ndarray) -> Labels | None:
    return None if clusters is None else [label for label, keep in zip(clusters, known, strict=True) if keep]


def _correlation(before: np.ndarray, after: np.ndarray) -> float:
    if before.size < 2 or np.ptp(before) == 0 or np.ptp(after) == 0:
        return 0.0
    if np.array_equal(before, after):
        return 1 - 2 / before.size
    return float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1))


def _length(a: float, b: float, correlation: float) -> float:
    """The length of the difference of two errors; rounding may take its square below 0."""
    square = a * a - 2 * correlation * a * b + b * b
    return square if math.isnan(square) else math.sqrt(max(square, 0.0))


def _welch_freedom(was: Measurement, now: Measurement) -> float:
    """Welch and Satterthwaite's degrees of freedom."""
    a, b = was.stderr**2, now.stderr**2
    return (a + b) ** 2 / (a**2 / (was.n - 1) + b**2 / (now.n - 1))
