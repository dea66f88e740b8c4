"""How coverage grows with attempts: what it is a mixture of, what a small k says of a large one, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from posttrain.statistics import pass_at_k
from posttrain.types import Measurement, UserError

Counts = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class PowerLaw:
    """-log pass@k = scale * k ** -exponent (Brown et al., arXiv 2407.21787; Schaeffer et al., 2502.17578)."""

    scale: float
    exponent: float

    def pass_at(self, k: float) -> float:
        return math.exp(-self.scale * k**-self.exponent)


@dataclass(frozen=True)
class BetaBinomial:
    """Solve rates drawn from Beta(a, b): 1 - pass@k then falls as k ** -a for a large k."""

    a: float
    b: float
    log_likelihood: float
    """Of the counts, in nats."""

    def pass_at(self, k: float) -> float:
        """1 - B(a, b+k) / B(a, b)."""
        return float(-np.expm1(special.betaln(self.a, self.b + k) - special.betaln(self.a, self.b)))


@dataclass(frozen=True)
class Exponential:
    """One solve rate for every problem: 1 - pass@k = (1 - rate) ** k."""

    rate: float
    log_likelihood: float
    """Of the counts, in nats."""

    def pass_at(self, k: float) -> float:
        return 1.0 - (1.0 - self.rate) ** k


@dataclass(frozen=True)
class Comparison:
    """A mixture of solve rates against a single one."""

    mixture: BetaBinomial
    single: Exponential
    log_likelihood_ratio: float
    """Mixture over single, in nats; 0 where a mixture explains nothing more."""
    p_value: float
    """Of the single rate."""


@dataclass(frozen=True)
class Wall:
    """The problems never solved."""

    n_unsolved: int
    n_problems: int
    rate_bound: float
    """A problem with a higher solve rate than this would have shown a right answer with the confidence asked for."""


def coverage(counts_P: Counts, n: int, ks: Sequence[int]) -> np.ndarray:
    """The mean unbiased pass@k over problems, for each k, from counts of right answers among n attempts; nan where k > n."""
    counts_P = _checked(counts_P, n)
    return np.array([np.mean(pass_at_k(n, counts_P, k)) for k in ks])


def failure_slope(ks: Sequence[int], coverages: Sequence[float] | np.ndarray) -> float:
    """The least-squares slope of log(1 - pass@k) over log k. Raises UserError as `fit_power_law` does."""
    log_k, coverages = _line(ks, coverages)
    return float(np.polyfit(log_k, np.log1p(-coverages), 1)[0])


def fit_power_law(ks: Sequence[int], coverages: Sequence[float] | np.ndarray) -> PowerLaw:
    """Least squares of log(-log pass@k) on log k, unweighted.

    Raises UserError with fewer than two k, or where a coverage is not strictly between 0 and 1.
    """
    log_k, coverages = _line(ks, coverages)
    slope, intercept = np.polyfit(log_k, np.log(-np.log(coverages)), 1)
    return PowerLaw(float(np.exp(intercept)), float(-slope))


def fit_beta_binomial(counts_P: Counts, n: int) -> BetaBinomial:
    """The likeliest a and b, both kept within e**-12 and e**16: counts with no spread beyond chance run to the upper end."""
    weights_C = np.bincount(_checked(counts_P, n), minlength=n + 1).astype(float)
    log_a, log_b = _likeliest(weights_C, n)
    return BetaBinomial(math.exp(log_a), math.exp(log_b), -_beta_binomial_loss((log_a, log_b), weights_C, n))


def fit_exponential(counts_P: Counts, n: int) -> Exponential:
    """The likeliest single solve rate."""
    counts_P = _checked(counts_P, n)
    rate = float(counts_P.mean() / n)
    return Exponential(rate, float(stats.binom.logpmf(counts_P, n, rate).sum()))


def compare_with_exponential(counts_P: Counts, n: int) -> Comparison:
    """Likelihood-ratio test of one solve rate for all against a beta mixture.

    No spread is the edge of the mixture's parameters, so that twice the ratio is half the time 0 and half the time
    chi-square with one degree of freedom (Self and Liang 1987).
    """
    mixture, single = fit_beta_binomial(counts_P, n), fit_exponential(counts_P, n)
    ratio = max(0.0, mixture.log_likelihood - single.log_likelihood)
    return Comparison(mixture, single, ratio, float(0.5 * stats.chi2.sf(2 * ratio, 1)) if ratio > 0 else 1.0)


def forecast(counts_P: Counts, n: int, k: int, resamples: int = 200, seed: int = 0) -> Measurement:
    """pass@k for any k, also beyond n, from the beta-binomial fit; its interval from a bootstrap over problems.

    The interval holds the doubt about which problems were drawn, and none about whether solve rates follow a beta law.
    """
    counts_P = _checked(counts_P, n)
    weights_C = np.bincount(counts_P, minlength=n + 1)
    draws = np.random.default_rng(seed).multinomial(len(counts_P), weights_C / len(counts_P), size=resamples)
    fit = fit_beta_binomial(counts_P, n)
    start = (math.log(fit.a), math.log(fit.b))
    values = [BetaBinomial(*np.exp(_likeliest(draw.astype(float), n, start)), math.nan).pass_at(k) for draw in draws]
    low, high = np.quantile(values, (0.025, 0.975))
    return Measurement(fit.pass_at(k), float(np.std(values, ddof=1)), float(low), float(high), len(counts_P), unit="fraction")


def wall(counts_P: Counts, n: int, confidence: float = 0.95) -> Wall:
    """How many problems were never solved in n attempts, and the exact upper bound on one such problem's solve rate.

    1 - (1 - confidence) ** (1/n). It holds for each problem by itself and is no bound on all of them at once; attempts of
    several problems are not pooled, for these were picked because they failed.
    """
    counts_P = _checked(counts_P, n)
    return Wall(int((counts_P == 0).sum()), len(counts_P), -math.expm1(math.log1p(-confidence) / n))


def _checked(counts_P: Counts, n: int) -> np.ndarray:
    counts_P = np.asarray(counts_P)
    if counts_P.ndim != 1 or not len(counts_P) or n < 1 or not np.isin(counts_P, np.arange(n + 1)).all():
        raise UserError(f"counts of right answers must be a non-empty list of whole numbers between 0 and the number of attempts, {n}")
    return counts_P.astype(int)


def _line(ks: Sequence[int], coverages: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    coverages = np.asarray(coverages, float)
    if len(set(ks)) < 2 or not ((coverages > 0) & (coverages < 1)).all():
        raise UserError("a law of coverage needs at least two k whose pass@k lies strictly between 0 and 1")
    return np.log(np.asarray(ks, float)), coverages


def _beta_binomial_loss(log_ab: Sequence[float] | np.ndarray, weights_C: np.ndarray, n: int) -> float:
    return float(-(weights_C @ stats.betabinom.logpmf(np.arange(n + 1), n, *np.exp(log_ab))))


def _likeliest(weights_C: np.ndarray, n: int, start: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    found = optimize.minimize(_beta_binomial_loss, start, (weights_C, n), method="L-BFGS-B", bounds=[(-12, 16)] * 2)
    return float(found.x[0]), float(found.x[1])
