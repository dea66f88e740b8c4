"""Success against the length of a job: is it p to the number of steps, and if not, does it fall faster or slower?

| law       | success at h               | what it says                                                                    |
|-----------|----------------------------|---------------------------------------------------------------------------------|
| constant  | p^h                        | every step fails at the same rate (Ord 2025): half-life ln 1/2 / ln p           |
| Weibull   | exp(-(h / scale)^shape)    | shape 1 is constant; above, steps fail more often later; below, jobs are unlike |
| logistic  | 1 / (1 + (h / h50)^slope)  | what horizons are commonly fitted by (2503.14499)                               |

The rate of a constant hazard makes 80% of jobs succeed at .322 of the half-life, whatever the rate; a smaller ratio speaks of jobs
that are unlike. All are fitted by likelihood; intervals come from a bootstrap of whole problems within each horizon. Legend: P problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from posttrain.statistics.means import rate_interval
from posttrain.types import Measurement

Law = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The chance of success from (parameters, horizons)."""


@dataclass(frozen=True)
class HorizonFit:
    """What success at several horizons says."""

    step: Measurement
    """p of the constant hazard."""
    half_life: Measurement
    """The horizon at which the constant hazard makes half of the jobs succeed, in steps."""
    shape: Measurement
    """Of the Weibull law: 1 where the hazard is constant. nan with a single horizon, or where nothing or everything succeeded."""
    h50: Measurement
    """The horizon at which half of the jobs succeed, by the logistic law."""
    h80: Measurement
    """That at which 80% do."""
    weibull: tuple[float, float]
    """Scale and shape."""
    logistic: tuple[float, float]
    """h50 and slope."""

    def constant_at(self, horizon: float) -> float:
        return self.step.value**horizon

    def free_at(self, horizon: float) -> float:
        """By the Weibull law."""
        return float(weibull(np.log(self.weibull), np.array([horizon]))[0])


def weibull(log_parameters: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """exp(-(h / scale)^shape), from the logs of scale and shape."""
    scale, shape = np.exp(log_parameters)
    return np.exp(-((horizons / scale) ** shape))


def logistic(log_parameters: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """1 / (1 + (h / h50)^slope), from the logs of h50 and slope."""
    h50, slope = np.exp(log_parameters)
    return 1 / (1 + (horizons / h50) ** slope)


def fit_horizon(horizons_P: Sequence[int], right_P: Sequence[int], n_P: Sequence[int], resamples: int = 200, seed: int = 0) -> HorizonFit:
    """Fits the laws to problems of which `right_P` of `n_P` attempts succeeded. Raises ValueError for no attempts at all.

    Problems without attempts that could be judged are left out. Where nothing failed, or nothing succeeded, p is 1 or 0 and its
    interval is Wilson's of that many problems at their mean length; the free laws then say nothing.
    """
    known = np.asarray(n_P) > 0
    horizons, right, n = (np.asarray(column, float)[known] for column in (horizons_P, right_P, n_P))
    if not len(horizons):
        raise ValueError("success against the horizon needs at least one attempt that could be judged")
    step = _constant(horizons, right, n)
    draws = _resampled(horizons, resamples, seed)
    steps = np.array([_constant(horizons[d], right[d], n[d]) for d in draws])
    found = _interval(step, steps, len(horizons)) if 0 < right.sum() < n.sum() else _edge(step, horizons)
    is_free = len(set(horizons)) > 1 and 0 < right.sum() < n.sum()
    free = {law: _free(law, horizons, right, n, draws if is_free else None) for law in (weibull, logistic)}
    (shape_scale, shape_draws), (h50_slope, h50_draws) = free[weibull], free[logistic]
    h80 = lambda x: x[..., 0] * 0.25 ** (1 / x[..., 1])  # noqa: E731
    return HorizonFit(
        found, _half_life(found), _interval(shape_scale[1], shape_draws[:, 1], len(horizons)), _interval(h50_slope[0], h50_draws[:, 0], len(horizons), "steps"),
        _interval(float(h80(h50_slope)), h80(h50_draws), len(horizons), "steps"), tuple(map(float, shape_scale)), tuple(map(float, h50_slope)),
    )  # fmt: skip


def half_life(step: float) -> float:
    """How many steps half of the jobs survive at this chance of a right step: ln 1/2 / ln p; infinite for 1."""
    return math.inf if step >= 1 else 0.0 if step <= 0 else math.log(0.5) / math.log(step)


# ---------------------------------------------------------------------------------------------------------------- parts


def _constant(horizons: np.ndarray, right: np.ndarray, n: np.ndarray) -> float:
    """The likeliest p: the root of what falls as p rises, sum of h (right - (n - right) p^h / (1 - p^h))."""
    if not right.sum() or right.sum() == n.sum():
        return float(right.sum() > 0)
    slope = lambda log_p: float(np.sum(horizons * (right - (n - right) / np.expm1(-horizons * log_p))))  # noqa: E731
    return math.exp(optimize.brentq(slope, -700 / horizons.max(), -1e-12))


def _free(law: Law, horizons: np.ndarray, right: np.ndarray, n: np.ndarray, draws: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest parameters, and those of each resample; nan where there are no draws."""
    if draws is None:
        return np.full(2, math.nan), np.full((1, 2), math.nan)
    best = _likeliest(law, horizons, right, n, np.log([np.median(horizons), 1.0]))
    found = [_likeliest(law, horizons[d], right[d], n[d], best) for d in draws if 0 < right[d].sum() < n[d].sum()]
    return np.exp(best), np.exp(np.array(found) if found else np.full((1, 2), math.nan))


def _likeliest(law: Law, horizons: np.ndarray, right: np.ndarray, n: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Kept within e**±7 of one step, and shapes within e**±3: data that no finite value fits best run to the edge."""
    lengths = np.unique(horizons)
    rights, totals = (np.array([column[horizons == h].sum() for h in lengths]) for column in (right, n))

    def loss(parameters: np.ndarray) -> float:
        chance = law(parameters, lengths).clip(1e-12, 1 - 1e-12)
        return float(-(rights @ np.log(chance) + (totals - rights) @ np.log1p(-chance)) / totals.sum())

    return optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-7, 7), (-3, 3)]).x


def _resampled(horizons: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Problems drawn with replacement within each horizon."""
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(horizons == h) for h in np.unique(horizons)]
    return np.concatenate([rng.choice(at, (resamples, len(at))) for at in places], axis=1)


def _interval(value: float, draws: np.ndarray, n: int, unit: str = "") -> Measurement:
    known = draws[~np.isnan(draws)]
    if not known.size or n < 2:
        return Measurement(float(value), math.nan, math.nan, math.nan, n, unit=unit)
    low, high = np.quantile(known, (0.025, 0.975))
    return Measurement(float(value), float(known.std()), float(low), float(high), n, unit=unit)


def _edge(step: float, horizons: np.ndarray) -> Measurement:
    """p where all attempts ended alike."""
    low, high = rate_interval(step, 0.0, len(horizons))
    ends = float(low) ** (1 / horizons.mean()), float(high) ** (1 / horizons.mean())
    return Measurement(step, 0.0 if len(horizons) > 1 else math.nan, *ends, len(horizons))


def _half_life(step: Measurement) -> Measurement:
    return Measurement(half_life(step.value), math.nan, half_life(step.low), half_life(step.high), step.n, unit="steps")
