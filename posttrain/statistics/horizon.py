"""Success against the length of a job: is it p to the number of steps, and if not, does it fall faster or slower?

| law       | success at h               | what it says                                                                    |
|-----------|----------------------------|---------------------------------------------------------------------------------|
| constant  | p^h                        | every step fails at the same rate (Ord 2025): half-life ln 1/2 / ln p           |
| Weibull   | exp(-(h / scale)^shape)    | shape 1 is constant; above, steps fail more often later; below, jobs are unlike |
| logistic  | 1 / (1 + (h / h50)^slope)  | what horizons are commonly fitted by (2503.14499)                               |

The rate of a constant hazard makes 80% of jobs succeed at .322 of the half-life, whatever the rate; a smaller ratio speaks of jobs
that are unlike. All are fitted by likelihood.

An interval holds the values at which the profile likelihood is not too far below its top (Wilks 1938): it bends with the likelihood,
where one of value ± errors would not. How far too far is, whole problems say: attempts at one problem are alike, and the likelihood takes
them for independent. Its drop is divided by how many times larger the variance between problems of one horizon makes the error (a sandwich,
White 1982; at least 1), and held against Student's t with problems less horizons degrees of freedom. Legend: P problems, H horizons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import optimize, stats

from posttrain.statistics.means import rate_interval
from posttrain.types import Measurement

Law = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The chance of success from (logs of parameters, horizons)."""
LOCATIONS, SHAPES = (-7.0, 7.0), (-3.0, 3.0)
"""Where the logs of steps and of shapes are looked for."""


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
    """exp(-(h / scale)^shape), from the logs of scale and shape; 0 where the power is beyond what a float holds."""
    scale, shape = np.exp(log_parameters)
    with np.errstate(over="ignore"):
        return np.exp(-((horizons / scale) ** shape))


def logistic(log_parameters: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """1 / (1 + (h / h50)^slope), from the logs of h50 and slope."""
    h50, slope = np.exp(log_parameters)
    return 1 / (1 + (horizons / h50) ** slope)


def constant(log_parameters: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """exp(-h / scale), from the log of scale: p^h with p = exp(-1 / scale)."""
    return np.exp(-horizons / np.exp(log_parameters[0]))


def logistic_by_h80(log_parameters: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """The logistic law from the logs of h80 and slope: 1 / (1 + (h / h80)^slope / 4)."""
    h80, slope = np.exp(log_parameters)
    return 1 / (1 + (horizons / h80) ** slope / 4)


def fit_horizon(horizons_P: Sequence[int], right_P: Sequence[int], n_P: Sequence[int]) -> HorizonFit:
    """Fits the laws to problems of which `right_P` of `n_P` attempts succeeded. Raises ValueError for no attempts at all.

    Problems without attempts that could be judged are left out. Where nothing failed, or nothing succeeded, p is 1 or 0 and its
    interval is Wilson's of that many problems at their mean length; the free laws then say nothing. An interval without an end within
    reason ends at 0 or in infinity; there is none from a single problem.
    """
    known = np.asarray(n_P) > 0
    data = _Data(*(np.asarray(column, float)[known] for column in (horizons_P, right_P, n_P)))
    if not len(data.horizons):
        raise ValueError("success against the horizon needs at least one attempt that could be judged")
    mixed = 0 < data.right.sum() < data.n.sum()
    step = _step(data) if mixed else _edge(float(data.right.sum() > 0), data.horizons)
    if not mixed or len(set(data.horizons)) < 2:
        silent = Measurement(math.nan, math.nan, math.nan, math.nan, len(data.horizons))
        steps = replace(silent, unit="steps")
        return HorizonFit(step, _half_life(step), silent, steps, steps, (math.nan, math.nan), (math.nan, math.nan))
    found, h50_slope = _likeliest(data, weibull), _likeliest(data, logistic)
    h80 = h50_slope + np.array([math.log(0.25) / math.exp(h50_slope[1]), 0.0])
    return HorizonFit(
        step, _half_life(step), _measured(data, weibull, found, 1), _measured(data, logistic, h50_slope, 0, "steps"),
        _measured(data, logistic_by_h80, h80, 0, "steps"), tuple(map(float, np.exp(found))), tuple(map(float, np.exp(h50_slope))),
    )  # fmt: skip


def half_life(step: float) -> float:
    """How many steps half of the jobs survive at this chance of a right step: ln 1/2 / ln p; infinite for 1."""
    return math.inf if step >= 1 else 0.0 if step <= 0 else math.log(0.5) / math.log(step)


# ---------------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class _Data:
    """Problems: how long, and how many of how many attempts succeeded; Float[P] each."""

    horizons: np.ndarray
    right: np.ndarray
    n: np.ndarray

    @cached_property
    def by_length(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Float[H]: the horizons, and what succeeded and failed at each; and for each problem the place of its own."""
        lengths, place = np.unique(self.horizons, return_inverse=True)
        return lengths, np.bincount(place, self.right), np.bincount(place, self.n - self.right), place

    def loss(self, law: Law, parameters: np.ndarray) -> float:
        """The negative log-likelihood."""
        lengths, right, wrong, _ = self.by_length
        return float(-(right @ _logs(law, parameters, lengths)[0] + wrong @ _logs(law, parameters, lengths)[1]))

    def slopes(self, law: Law, parameters: np.ndarray) -> np.ndarray:
        """Of each problem's log-likelihood, by each parameter: Float[P, parameters]."""
        lengths, _, _, place = self.by_length
        steps = 1e-4 * np.eye(len(parameters))
        by_right, by_wrong = (
            np.stack([(_logs(law, parameters + step, lengths)[i] - _logs(law, parameters - step, lengths)[i]) / 2e-4 for step in steps], -1)
            for i in (0, 1)
        )
        return self.right[:, None] * by_right[place] + (self.n - self.right)[:, None] * by_wrong[place]

    def errors(self, law: Law, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The variance of the likeliest parameters as the likelihood has it, and as whole problems have it."""
        slope = lambda x: self.slopes(law, x).sum(0)  # noqa: E731
        information = -np.stack([(slope(best + step) - slope(best - step)) / 2e-3 for step in 1e-3 * np.eye(len(best))])
        inverse = np.linalg.pinv((information + information.T) / 2)
        place, slopes = self.by_length[3], self.slopes(law, best)
        counts = np.bincount(place)[place]
        means = np.stack([np.bincount(place, column) / np.bincount(place) for column in slopes.T], -1)[place]
        alone = counts == 1  # nothing is known of how problems of its length differ
        apart = np.where(alone[:, None], slopes, (slopes - means) * np.sqrt(counts / np.maximum(counts - 1, 1))[:, None])
        return inverse, inverse @ (apart.T @ apart) @ inverse


def _logs(law: Law, parameters: np.ndarray, horizons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logs of the chances of success and of failure."""
    chance = law(parameters, horizons).clip(1e-12, 1 - 1e-12)
    return np.log(chance), np.log1p(-chance)


def _step(data: _Data) -> Measurement:
    """p of the constant hazard, the root of what falls as p rises: the sum of h (right - (n - right) p^h / (1 - p^h))."""
    slope = lambda log_p: float(np.sum(data.horizons * (data.right - (data.n - data.right) / np.expm1(-data.horizons * log_p))))  # noqa: E731
    log_p = optimize.brentq(slope, -700 / data.horizons.max(), -1e-12)
    scale = _measured(data, constant, np.array([-math.log(-log_p)]), 0)
    p = lambda at: math.exp(-1 / at) if at > 0 else at  # noqa: E731
    return Measurement(p(scale.value), p(scale.value) * scale.stderr / scale.value**2, p(scale.low), p(scale.high), scale.n)


def _likeliest(data: _Data, law: Law) -> np.ndarray:
    """The logs of both parameters. Data that no finite value fits best run to the edge of where is looked."""
    start = np.log([np.median(data.horizons), 1.0])
    return optimize.minimize(lambda x: data.loss(law, x) / data.n.sum(), start, method="L-BFGS-B", bounds=[LOCATIONS, SHAPES]).x


def _measured(data: _Data, law: Law, best: np.ndarray, index: int, unit: str = "") -> Measurement:
    """One of the parameters, with the interval of its profile."""
    value, n = math.exp(best[index]), len(data.horizons)
    if n < 2:
        return Measurement(value, math.nan, math.nan, math.nan, n, unit=unit)
    by_likelihood, by_problems = (variance[index, index] for variance in data.errors(law, best))
    spread = max(1.0, by_problems / by_likelihood) if by_likelihood > 0 else 1.0
    furthest = spread * stats.t.ppf(0.975, max(1, n - len(data.by_length[0]))) ** 2 / 2
    low, high = (_end(data, law, best, index, furthest, side) for side in (-1, 1))
    return Measurement(value, value * math.sqrt(spread * max(0.0, by_likelihood)), low, high, n, unit=unit)


def _end(data: _Data, law: Law, best: np.ndarray, index: int, furthest: float, side: int) -> float:
    """Where the profile has fallen by `furthest` below its top, on one side; 0 or infinity where it does not."""
    top = data.loss(law, best)

    def beyond(value: float) -> float:
        if len(best) == 1:
            return data.loss(law, np.array([value])) - top - furthest
        at = lambda other: data.loss(law, np.array([value, other] if index == 0 else [other, value]))  # noqa: E731
        bounds = SHAPES if index == 0 else LOCATIONS
        return optimize.minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 1e-5}).fun - top - furthest

    reach = best[index] + side * np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
    for near, far in pairwise(reach):
        if beyond(far) > 0:
            return math.exp(optimize.brentq(beyond, *sorted((near, far)), xtol=1e-5))
    return math.inf if side > 0 else 0.0


def _edge(step: float, horizons: np.ndarray) -> Measurement:
    """p where all attempts ended alike."""
    low, high = rate_interval(step, 0.0, len(horizons))
    ends = float(low) ** (1 / horizons.mean()), float(high) ** (1 / horizons.mean())
    return Measurement(step, 0.0 if len(horizons) > 1 else math.nan, *ends, len(horizons))


def _half_life(step: Measurement) -> Measurement:
    return Measurement(half_life(step.value), math.nan, half_life(step.low), half_life(step.high), step.n, unit="steps")
