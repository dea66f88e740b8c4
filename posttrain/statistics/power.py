"""How small a difference n problems can show, how many problems a difference needs, and the verdict on one that was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from posttrain.statistics.means import t_quantile
from posttrain.types import Measurement

POWER, LEVEL = 0.8, 0.05
"""How often a true difference is to be found, and how often one is found where there is none."""

Outcome = Literal["better", "worse", "tied", "unknown"]
"""`tied`: not to be told apart at this n, which is not the same as equal; `unknown`: no interval, for n is too small."""


def difference_variance(
    between: float, within_before: float = 0.0, within_after: float = 0.0, samples_before: int = 1, samples_after: int = 1
) -> float:
    """The variance over problems of a paired difference: w² + s_A² / K_A + s_B² / K_B (Miller, 2411.00640, section 5).

    `between` is the variance over problems of the difference of the two models' true rates, `within_*` the mean variance of
    one attempt at a problem (rate (1 - rate) where scores are 0 or 1), `samples_*` the attempts at each problem.
    """
    return between + within_before / samples_before + within_after / samples_after


def problems_needed(effect: float, variance: float, power: float = POWER, level: float = LEVEL) -> int:
    """How many problems it takes to find a true difference `effect` with this power: (z_a/2 + z_b)² variance / effect².

    Miller, 2411.00640, section 5; rounded up. `variance` is that of one problem's paired difference. Raises ValueError for an
    effect of 0, which no number of problems shows.
    """
    from statsmodels.stats.power import normal_sample_size_one_tail  # 0.3 s that training need not wait for

    if effect == 0:
        raise ValueError("a difference of 0 is shown by no number of problems")
    return math.ceil(normal_sample_size_one_tail(abs(effect), power, level / 2, math.sqrt(variance)))


def detectable_effect(n: int, variance: float, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest true difference that n problems find with this power: the inverse of `problems_needed`."""
    return float((stats.norm.isf(level / 2) + stats.norm.ppf(power)) * math.sqrt(variance / n))


def power_of(effect: float, n: int, variance: float, level: float = LEVEL) -> float:
    """How often n problems find a true difference `effect`, in either direction."""
    from statsmodels.stats.power import normal_power

    return float(normal_power(effect, n, level, sigma=math.sqrt(variance)))


@dataclass(frozen=True)
class Verdict:
    """What a measured difference shows."""

    outcome: Outcome
    n: int
    """Problems that it rests on."""
    detectable: float
    """The smallest true difference that so many problems find four times in five; nan without an interval."""
    n_needed: int | None
    """How many problems would, if the measured difference were the true one; only where tied, and the difference is not 0."""


def verdict(
    difference: Measurement, better: Literal["higher", "lower"] = "higher", p_value: float = math.nan, tests: int = 1
) -> Verdict:
    """Better or worse where the interval leaves out 0 and, where there is a p value, it is at most .05; else tied.

    With several `tests` the p value must have been adjusted for them, and `detectable` and `n_needed` are at the level that
    Holm's strictest step demands. They take the variance from the interval's width, and so from these very problems.
    """
    if math.isnan(difference.low):
        return Verdict("unknown", difference.n, math.nan, None)
    variance = difference.n * ((difference.high - difference.low) / 2 / t_quantile(difference.n)) ** 2
    detectable = detectable_effect(difference.n, variance, level=LEVEL / tests)
    if not (difference.low > 0 or difference.high < 0) or p_value > LEVEL:
        needed = problems_needed(difference.value, variance, level=LEVEL / tests) if difference.value and variance else None
        return Verdict("tied", difference.n, detectable, needed and max(needed, difference.n + 1))
    welcome = (difference.low > 0) == (better == "higher")
    return Verdict("better" if welcome else "worse", difference.n, detectable, None)
