"""Numbers that carry their doubt: clustered means, pass@k, paired differences and their tests.

Attempts at one problem resemble each other, so what repeats is the problem (Miller 2024, 2411.00640, section 2.2). Every
estimate here is first one number for each problem, and its error is the spread of those numbers; more attempts at the
same problems make each number steadier, but never count as more problems. Where problems come in groups (ten questions about
one text), the group repeats: pass `clusters`. nan marks what was not measured: it is left out, and counted.
Legend: P problems, S attempts at one problem, C clusters of problems, M models.

    columns        one number for each problem: means, ratios, disagreement
    means          from those to a mean or a rate with its interval; intervals of plain counts
    paired         two models on the same problems, or on different ones
    significance   is a difference chance? one, or many at once
    power          how small a difference n problems can show, and how many it would take; the verdict
    passk          pass@k and pass^k, unbiased
    subsets        what choosing among k of n attempts gives, exactly
    crossing       from how many attempts on the base is ahead
    bootstrap      intervals of what has no formula
    selection      what the best of many measurements owes to luck
    survival       how far attempts come before their first error
    horizon        success against the length of a job: p^h, or not

Distributions, tests and adjustments are those of scipy and statsmodels wherever they have them.
"""

from posttrain.statistics.bootstrap import percentile_interval, replicate_correlation, resampled_weights, spread
from posttrain.statistics.columns import (
    CONFIDENCE, Column, Labels, Ragged, count_unscored, disagreement, halves, problem_means, ratio_contributions,
)  # fmt: skip
from posttrain.statistics.crossing import Crossover, crossover
from posttrain.statistics.horizon import HorizonFit, fit_horizon, half_life
from posttrain.statistics.means import (
    CountMethod, clustered_mean, clustered_rate, count_interval, mean_over_problems, rate_interval, rate_over_problems,
)  # fmt: skip
from posttrain.statistics.paired import (
    joined, paired_difference, paired_rate_contrast, paired_rate_difference, unpaired_difference, unpaired_rate_difference,
)  # fmt: skip
from posttrain.statistics.passk import pass_at_k, pass_hat_k
from posttrain.statistics.power import (
    Outcome, Verdict, detectable_effect, difference_variance, power_of, problems_needed, verdict,
)  # fmt: skip
from posttrain.statistics.selection import Selection, expected_maximum, select
from posttrain.statistics.significance import (
    benjamini_hochberg, changes_by_chance, holm, is_saturated, mcnemar_p_value, sign_flip_p_value, significant_changes, unpaired_p_value,
)  # fmt: skip
from posttrain.statistics.subsets import MOST_ATTEMPTS, expected_of_best, expected_of_majority
from posttrain.statistics.survival import hazard_slope, step_accuracy, survival

__all__ = [
    "CONFIDENCE", "Column", "CountMethod", "Crossover", "HorizonFit", "Labels", "MOST_ATTEMPTS", "Outcome", "Ragged", "Selection", "Verdict",
    "benjamini_hochberg", "changes_by_chance", "clustered_mean", "clustered_rate", "count_interval", "count_unscored", "crossover",
    "detectable_effect", "difference_variance", "disagreement", "expected_maximum", "expected_of_best", "expected_of_majority",
    "fit_horizon", "half_life", "halves", "hazard_slope", "holm", "is_saturated", "joined", "mcnemar_p_value", "mean_over_problems",
    "paired_difference", "paired_rate_contrast", "paired_rate_difference", "pass_at_k", "pass_hat_k", "percentile_interval", "power_of", "problem_means",
    "problems_needed", "rate_interval", "rate_over_problems", "ratio_contributions", "replicate_correlation", "resampled_weights",
    "select", "sign_flip_p_value", "significant_changes", "spread", "step_accuracy", "survival", "unpaired_difference",
    "unpaired_p_value", "unpaired_rate_difference", "verdict",
]  # fmt: skip
