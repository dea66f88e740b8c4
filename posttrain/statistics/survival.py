"""How far attempts come before their first error: survival against the number of steps, and whether errors come at a constant rate.

An attempt is right for some steps; then the next one was wrong (`failed`), or nothing more is known of it (it came to its end, was
cut off, or the machinery broke): it is then censored, and counts as long as it was watched (Kaplan and Meier 1958). Attempts at
one problem resemble each other: errors are over clusters of attempts. Legend: A attempts, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from posttrain.statistics.columns import CONFIDENCE, ratio_contributions
from posttrain.statistics.means import mean_and_stderr, rate_interval
from posttrain.types import Measurement


def survival(right_A: Sequence[int], failed_A: Sequence[bool], clusters_A: Sequence[Hashable]) -> tuple[Measurement, ...]:
    """The chance that the first 1, 2, 3 … steps are all right, up to the last that any attempt came to; n counts clusters.

    Kaplan and Meier's product of 1 - h(t), where h(t) is the share of those still right before step t that fail at it. Its error
    is the spread of what each cluster contributes to it, linearised; with a cluster for each attempt that is Greenwood's. The
    interval is `rate_interval`, for Greenwood's has no width where nothing or everything failed. nan once nobody is left.
    """
    right, failed, ids, n = _checked(right_A, failed_A, clusters_A)
    steps = np.arange(1, int((right + failed).max(initial=0)) + 1)
    at_risk_AT = (right[:, None] + failed[:, None]) >= steps
    event_AT = failed[:, None] & (right[:, None] + 1 == steps)
    at_risk_T = at_risk_AT.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        hazard_T = event_AT.sum(0) / at_risk_T
        share_AT = (event_AT - hazard_T * at_risk_AT) / (at_risk_T * (1 - hazard_T))
    values_T = np.cumprod(1 - hazard_T)
    contributions_AT = -values_T * np.cumsum(np.where(hazard_T < 1, share_AT, 0), axis=1)
    sums_CT = np.zeros((n, len(steps)))
    np.add.at(sums_CT, ids, contributions_AT)
    stderr_T = np.sqrt((sums_CT**2).sum(0) * n / (n - 1)) if n > 1 else np.full(len(steps), math.nan)
    low_T, high_T = rate_interval(values_T, stderr_T, n)
    return tuple(Measurement(*map(float, row), n, unit="fraction") for row in zip(values_T, stderr_T, low_T, high_T, strict=True))


def step_accuracy(right_A: Sequence[int], failed_A: Sequence[bool], clusters_A: Sequence[Hashable]) -> Measurement:
    """The chance that a step is right where all before it were: what p is if errors come at a constant rate; n counts clusters.

    All steps that were at risk weigh the same: the likeliest p of independent steps.
    """
    right, failed, ids, n = _checked(right_A, failed_A, clusters_A)
    rights_C, steps_C = np.bincount(ids, right, minlength=n), np.bincount(ids, right + failed, minlength=n)
    units = ratio_contributions(rights_C, steps_C)
    units = units[~np.isnan(units)]
    value, stderr = mean_and_stderr(units)
    low, high = rate_interval(value, stderr, units.size)
    return Measurement(value, stderr, float(low), float(high), units.size, unit="fraction")


def hazard_slope(right_A: Sequence[int], failed_A: Sequence[bool], clusters_A: Sequence[Hashable]) -> Measurement:
    """How the log-odds of an error change when a step's number doubles; 0 is a constant rate, and what makes p^t hold.

    A logistic regression of errors on log2 of the step, among steps that were at risk, with errors over clusters (statsmodels).
    Above 0 errors become more frequent with length. Attempts of unlike difficulty make it negative, for the hard ones leave
    first. nan where nothing, or everything, failed, or there is but one step.
    """
    right, failed, ids, n = _checked(right_A, failed_A, clusters_A)
    rows = [(t, t == r + 1, c) for r, f, c in zip(right, failed, ids, strict=True) for t in range(1, r + f + 1)]
    steps, errors, groups = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3
    unknown = Measurement(math.nan, math.nan, math.nan, math.nan, n, unit="log-odds")
    if n < 2 or len(set(steps)) < 2 or not 0 < errors.sum() < len(errors) or len(set(steps[errors == 1])) < 2:
        return unknown
    import statsmodels.api as sm  # 0.3 s that training need not wait for

    inputs = np.stack([np.ones(len(steps)), np.log2(steps)], axis=1)
    fit = sm.GLM(errors.astype(float), inputs, sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": groups})
    low, high = fit.conf_int(1 - CONFIDENCE)[1]
    return Measurement(float(fit.params[1]), float(fit.bse[1]), float(low), float(high), n, unit="log-odds")


def _checked(
    right_A: Sequence[int], failed_A: Sequence[bool], clusters_A: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The columns, with clusters as numbers, and how many there are. Raises ValueError for other lengths or negative counts."""
    if not len(right_A) == len(failed_A) == len(clusters_A):
        raise ValueError(f"{len(right_A)} attempts, {len(failed_A)} ends and {len(clusters_A)} clusters do not fit together")
    right, failed = np.asarray(right_A, int), np.asarray(failed_A, bool)
    if (right < 0).any():
        raise ValueError("an attempt is right for 0 steps or more")
    numbers = {label: i for i, label in enumerate(dict.fromkeys(clusters_A))}
    return right, failed, np.array([numbers[label] for label in clusters_A], int), len(numbers)
