"""What the best of many measurements owes to luck: checkpoints, seeds or prompts, chosen on the problems they are reported on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import integrate, stats

from posttrain.statistics.columns import CONFIDENCE
from posttrain.statistics.means import mean_over_problems
from posttrain.types import Measurement


def expected_maximum(m: int, correlation: float = 0.0) -> float:
    """The expected maximum of m standard normals of which any two correlate so much, by quadrature.

    Times the standard error, it is how far the best of m *equal* checkpoints lies above all of them: .56 standard errors for
    2, 1.54 for 10, 2.51 for 100, and less by sqrt(1 - correlation) where they are measured on the same problems. 0 for m = 1.
    """
    if m < 1 or not 0 <= correlation <= 1:
        raise ValueError("a maximum needs at least one measurement, and a correlation between 0 and 1")
    density = lambda x: x * m * stats.norm.pdf(x) * stats.norm.cdf(x) ** (m - 1)  # noqa: E731
    return math.sqrt(1 - correlation) * integrate.quad(density, -10, 10)[0] if m > 1 else 0.0


@dataclass(frozen=True)
class Selection:
    """The best of several, as it looks and as it is."""

    best: int
    """The one with the highest mean over all problems; the first of equals."""
    naive: Measurement
    """Its mean on the problems that chose it: too high."""
    honest: Measurement
    """The mean of choosing by some problems and measuring on the others."""
    bias: float
    """naive less honest."""


def select(scores_MP: Float[np.ndarray, "models problems"], seed: int = 0, resamples: int = 1000) -> Selection:
    """The best of M models or checkpoints scored on the same P problems, with a value that does not flatter it.

    Bootstrap bias correction (Tsamardinos et al. 2018, Machine Learning 107:1895): problems are drawn with replacement,
    the model that is best on them is measured on those not drawn, and so on; `honest` is the mean of these values and their
    central 95%. Unbiased for equal models, a little too low where they differ (it chooses by fewer problems than there are),
    and its interval is too wide rather than too narrow, for it measures on a third of them. Measured: with 20 equal
    models on 60 problems it covers more than 99 times in 100, the naive interval 59, and cross-validation in ten folds 73.

    nan is left out. Raises ValueError for fewer than two problems, and where no model has a score.
    """
    scores_MP = np.asarray(scores_MP, float)
    n_problems = scores_MP.shape[1]
    if n_problems < 2:
        raise ValueError("choosing and measuring apart takes at least two problems")
    draws_RP = np.random.default_rng(seed).multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=resamples)
    chosen_R = _means(scores_MP, draws_RP).argmax(0)
    apart_MR = _means(scores_MP, draws_RP == 0)
    values = apart_MR[chosen_R, np.arange(resamples)]
    best = int(_means(scores_MP, np.ones((1, n_problems)))[:, 0].argmax())
    naive = mean_over_problems(scores_MP[best])
    if not naive.n:
        raise ValueError("no model has a score to be chosen by")
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    honest = Measurement(float(values.mean()), float(values.std(ddof=1)), float(low), float(high), naive.n)
    return Selection(best, naive, honest, naive.value - honest.value)


def _means(scores_MP: np.ndarray, weights_RP: np.ndarray) -> np.ndarray:
    """Each model's weighted mean in each resample, [M, R]; -inf where nothing was measured."""
    known_MP = ~np.isnan(scores_MP)
    sums, n = (matrix @ weights_RP.T.astype(float) for matrix in (np.where(known_MP, scores_MP, 0), known_MP.astype(float)))
    return np.where(n > 0, sums / np.maximum(n, 1), -np.inf)
