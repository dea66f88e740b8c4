"""Is a difference chance? One at a time, and many at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from posttrain.statistics.columns import Column, Labels, both, measured


def sign_flip_p_value(
    before_P: Column, after_P: Column, seed: int = 0, resamples: int = 9999, clusters: Labels | None = None
) -> float:
    """The two-sided chance of so large a mean difference if swapping the two models changed nothing.

    The permutation test on pairs: each problem's difference (each cluster's sum of them) keeps or changes its sign. Exact where
    the differences are of one size, for then it is McNemar's test, and where there are no more sign patterns than
    `resamples`; else by that many seeded draws, the observed one counted among them, so never 0. Problems without a
    difference change nothing and are left out. 1 where none differs; nan where no problem has both.
    """
    differences = _differences(before_P, after_P, clusters)
    if differences is None:
        return math.nan
    differences = differences[differences != 0]
    if differences.size < 2:
        return 1.0
    if np.ptp(np.abs(differences)) == 0:
        return _exact_mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    # The batch bounds the memory; the draws, and so the result, do not depend on it.
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=resamples, batch=1024, rng=np.random.default_rng(seed)
    )
    return float(test.pvalue)


def unpaired_p_value(before_P: Column, after_P: Column, seed: int = 0, resamples: int = 9999) -> float:
    """The two-sided chance of so large a difference of means if it did not matter which model a problem was given to.

    The permutation test of labels, for two models on different problems; exact where there are no more ways to deal the
    problems than `resamples`. 1 where all values are equal; nan where one model has none.
    """
    before, after = measured(before_P), measured(after_P)
    if not before.size or not after.size:
        return math.nan
    if np.ptp(np.concatenate([before, after])) == 0:
        return 1.0
    difference = lambda x, y, axis: x.mean(axis) - y.mean(axis)  # noqa: E731
    rng = np.random.default_rng(seed)
    return float(stats.permutation_test((after, before), difference, vectorized=True, n_resamples=resamples, batch=256, rng=rng).pvalue)


def mcnemar_p_value(before_P: Column, after_P: Column) -> float:
    """McNemar's exact two-sided test of single attempts: 0 or 1 for each problem and model; nan where no problem has both.

    Only the problems on which the models differ speak: fair coins would fall so unevenly with this chance. Raises ValueError
    for values other than 0 and 1, which `sign_flip_p_value` tests.
    """
    before, after, _ = both(before_P, after_P)
    if not np.isin([before, after], (0, 1)).all():
        raise ValueError("McNemar's test takes single attempts, 0 or 1: test rates with sign_flip_p_value")
    return _exact_mcnemar(int((after > before).sum()), int((after < before).sum())) if before.size else math.nan


def is_saturated(rates_P: Column, of: float = 1.0, level: float = 0.05) -> bool:
    """Whether not even a model that always scores `of` could be shown to differ from these rates on these problems.

    With `of` 1 the problems are too easy to tell good models apart: fewer than six of them leave anything to gain. False
    without problems.
    """
    rates = measured(rates_P)
    if (rates <= of).all():  # only one pattern of signs is as extreme, so that no draw is needed
        return rates.size > 0 and 2.0 ** (1 - int((rates < of).sum())) > level
    return sign_flip_p_value(rates, np.full(rates.shape, of)) > level


# -------------------------------------------------------------------------------------------------------- many at once


def holm(p_values: Column) -> Float[np.ndarray, " tests"]:
    """Holm's (1979) adjusted p values: below .05 together with a chance of any false claim below .05. nan stays nan.

    What was not tested does not count as a test.
    """
    from statsmodels.stats.multitest import multipletests

    return _of_tested(p_values, lambda tested: multipletests(tested, method="holm")[1])


def benjamini_hochberg(p_values: Column) -> Float[np.ndarray, " tests"]:
    """Benjamini and Hochberg's (1995) adjusted p values: of those below .05, on average at most 5% are false. nan stays nan."""
    return _of_tested(p_values, lambda tested: stats.false_discovery_control(tested, method="bh"))


def significant_changes(
    right_before_P: Column, n_before_P: Column, right_after_P: Column, n_after_P: Column, level: float = 0.05
) -> Int[np.ndarray, " problems"]:
    """1 for each problem solved significantly more often after than before, -1 for less often, 0 for neither.

    Fisher's exact test on each problem's attempts; Benjamini and Hochberg (1995) keep the expected share of false ones among
    those named below `level`. A problem without attempts on either side is not tested and counts as 0.
    """
    right_before, n_before, right_after, n_after = (
        np.asarray(counts, int) for counts in (right_before_P, n_before_P, right_after_P, n_after_P)
    )
    tested = (n_before > 0) & (n_after > 0)
    p_values = np.full(tested.shape, math.nan)
    counts = np.stack([right_before, n_before, right_after, n_after])[:, tested]
    p_values[tested] = [_fisher_p_value(*map(int, column)) for column in counts.T]
    more_often = np.sign(right_after * n_before - right_before * n_after)
    return np.where(benjamini_hochberg(p_values) <= level, more_often, 0)


@dataclass(frozen=True)
class ByChance:
    """How many problems would change from never right to right at least once if the two models were one."""

    expected: float
    p_value: float
    """The chance of as many as were seen, or more."""


def changes_by_chance(right_before_P: Column, n_before_P: Column, right_after_P: Column, n_after_P: Column) -> ByChance:
    """Problems that are "newly solved" by sampling noise alone; with the two models exchanged, those newly lost.

    Exact, and without any rate to be guessed: were the models one, then of the c right attempts among all n at a problem any
    would as well have been the other model's, so that all c fall after with the chance C(n_after, c) / C(n, c). The number of
    problems is a sum of such coins (Poisson binomial). Problems without attempts on either side are left out.
    """
    columns = [np.asarray(counts, int) for counts in (right_before_P, n_before_P, right_after_P, n_after_P)]
    right_before, n_before, right_after, n_after = (column[(columns[1] > 0) & (columns[3] > 0)] for column in columns)
    right = right_before + right_after
    chances = np.where(right > 0, stats.hypergeom.pmf(right, n_before + n_after, np.maximum(right, 1), n_after), 0.0)
    distribution = np.ones(1)
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    seen = int(((right_before == 0) & (right_after > 0)).sum())
    return ByChance(float(chances.sum()), float(min(distribution[seen:].sum(), 1.0)))


# ---------------------------------------------------------------------------------------------------------------- parts


def _differences(before_P: Column, after_P: Column, clusters: Labels | None) -> np.ndarray | None:
    """Of each problem, or each cluster's sum; None where no problem has both."""
    before, after, known = both(before_P, after_P)
    if not before.size:
        return None
    if clusters is None:
        return after - before
    names = [label for label, keep in zip(clusters, known, strict=True) if keep]
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.bincount([order[name] for name in names], after - before)


def _exact_mcnemar(gained: int, lost: int) -> float:
    from statsmodels.stats.contingency_tables import mcnemar  # 0.3 s that training need not wait for

    return float(mcnemar([[0, gained], [lost, 0]], exact=True).pvalue)


def _of_tested(p_values: Column, adjust: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The adjustment of the p values that are not nan, in their places."""
    p_values = np.asarray(p_values, float)
    tested = ~np.isnan(p_values)
    adjusted = np.full(p_values.shape, math.nan)
    if tested.any():
        adjusted[tested] = adjust(p_values[tested])
    return adjusted


@cache
def _fisher_p_value(right_before: int, n_before: int, right_after: int, n_after: int) -> float:
    table = [[right_before, n_before - right_before], [right_after, n_after - right_after]]
    return min(float(stats.fisher_exact(table).pvalue), 1.0)
