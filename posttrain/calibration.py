"""Calibration: whether what a model calls 80% sure is right 80% of the time.

Inputs are a confidence between 0 and 1 for each prediction and an outcome (1 right, 0 wrong, anything between for a part).
All raise ValueError for columns of different length or confidences outside 0 to 1; nothing in gives nan. With their intervals,
and for two models on the same problems: `calibration_intervals.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from posttrain.statistics import Labels, rate_over_problems
from posttrain.types import Measurement

Column = Sequence[float] | np.ndarray
Bins = Literal["equal_width", "equal_mass"]


@dataclass(frozen=True)
class Bin:
    """One row of a reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    """Mean over the bin."""
    accuracy: Measurement


def bin_ids(confidences: Column, n_bins: int = 15, bins: Bins = "equal_width") -> np.ndarray:
    """The bin of each prediction, 0 … n_bins − 1. Equal mass cuts between ranks, so that equal confidences share a bin."""
    confidences = np.asarray(confidences, float)
    if bins == "equal_width":
        return np.minimum((confidences * n_bins).astype(int), n_bins - 1)
    edges = np.quantile(confidences, np.arange(1, n_bins) / n_bins) if confidences.size else np.zeros(n_bins - 1)
    return np.searchsorted(edges, confidences, side="right")


def ece(confidences: Column, outcomes: Column, n_bins: int = 15, bins: Bins = "equal_width") -> float:
    """Expected calibration error (Guo et al., 1706.04599, eq. 3): the mean over predictions of |accuracy − confidence| of their bin.

    Never below 0, so that chance alone makes it positive: compare it with `ece_floor`.
    """
    confidences, outcomes = _columns(confidences, outcomes)
    if not confidences.size:
        return float("nan")
    gaps = np.bincount(bin_ids(confidences, n_bins, bins), outcomes - confidences, minlength=n_bins)
    return float(np.abs(gaps).sum() / confidences.size)


def ece_floor(
    confidences: Column, n_bins: int = 15, bins: Bins = "equal_width", seed: int = 0, draws: int = 1000, together: Labels | None = None
) -> float:
    """The mean `ece` that a perfectly calibrated model with these confidences shows at this n, by simulation."""
    return float(np.mean(ece_under_calibration(confidences, n_bins, bins, seed, draws, together)))


def ece_under_calibration(
    confidences: Column, n_bins: int = 15, bins: Bins = "equal_width", seed: int = 0, draws: int = 1000, together: Labels | None = None
) -> np.ndarray:
    """`ece` of outcomes drawn with exactly these probabilities, `draws` times: what chance alone does.

    Predictions that are right or wrong `together`, by equal labels (the same answer, given twice), share one draw: fewer
    coins fall less evenly, and the error that chance makes is larger.
    """
    confidences, _ = _columns(confidences, confidences)
    if not confidences.size:
        return np.full(draws, np.nan)
    ids = bin_ids(confidences, n_bins, bins)
    member = (ids[:, None] == np.arange(n_bins)).astype(float)
    coins = np.arange(confidences.size) if together is None else label_ids(together)
    random = np.random.default_rng(seed)
    found = []
    for batch in _batches(draws, confidences.size):
        right = random.random((batch, coins.max() + 1))[:, coins] < confidences
        found.append(np.abs((right - confidences) @ member).sum(1) / confidences.size)
    return np.concatenate(found)


def label_ids(labels: Labels, order: Sequence[Hashable] | None = None) -> np.ndarray:
    """Each label's number, in the order of their first appearance, or in the given one."""
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels if order is None else order))}
    return np.array([numbers[label] for label in labels], int)


def _batches(draws: int, size: int) -> Iterator[int]:
    """So many draws at a time that their numbers fit into some 32 MB; the draws do not depend on it."""
    most = max(1, 4_000_000 // size)
    yield from (min(most, draws - start) for start in range(0, draws, most))


def reliability(
    confidences: Column, outcomes: Column, n_bins: int = 15, bins: Bins = "equal_width", clusters: Labels | None = None
) -> list[Bin]:
    """The rows of a reliability diagram; empty bins are left out. Accuracies are over predictions, their intervals over `clusters`."""
    confidences, outcomes = _columns(confidences, outcomes)
    labels = np.arange(confidences.size) if clusters is None else label_ids(clusters)
    ids = bin_ids(confidences, n_bins, bins)
    rows = []
    for i in np.unique(ids):
        inside = ids == i
        low, high = (i / n_bins, (i + 1) / n_bins) if bins == "equal_width" else (confidences[inside].min(), confidences[inside].max())
        rows.append(Bin(float(low), float(high), int(inside.sum()), float(confidences[inside].mean()), rate_over_problems(outcomes[inside], clusters=labels[inside].tolist())))
    return rows


def brier(confidences: Column, outcomes: Column) -> float:
    """The mean of (confidence − outcome)²."""
    confidences, outcomes = _columns(confidences, outcomes)
    return float(np.mean((confidences - outcomes) ** 2)) if confidences.size else float("nan")


@dataclass(frozen=True)
class BrierParts:
    """Murphy's (1973) decomposition: brier = reliability − resolution + uncertainty + within."""

    reliability: float
    """Mean squared gap between a bin's confidence and its accuracy: 0 where calibrated."""
    resolution: float
    """How much the bins' accuracies differ: what the confidence knows."""
    uncertainty: float
    """The variance of the outcomes: nobody's fault."""
    within: float
    """What binning hides: 0 where every bin holds a single confidence."""


def brier_parts(confidences: Column, outcomes: Column, n_bins: int = 15, bins: Bins = "equal_width") -> BrierParts:
    """The parts of `brier`, which add up to it exactly."""
    confidences, outcomes = _columns(confidences, outcomes)
    if not confidences.size:
        return BrierParts(*[float("nan")] * 4)
    ids, base = bin_ids(confidences, n_bins, bins), outcomes.mean()
    n = np.bincount(ids, minlength=n_bins)
    share, filled = n / confidences.size, n > 0
    mean = lambda x: np.divide(np.bincount(ids, x, minlength=n_bins), n, out=np.zeros(n_bins), where=filled)  # noqa: E731
    accuracy = mean(outcomes)
    rel = float(share @ (mean(confidences) - accuracy) ** 2)
    res = float(share[filled] @ (accuracy[filled] - base) ** 2)
    unc = float(base * (1 - base)) if np.isin(outcomes, (0, 1)).all() else float(outcomes.var())
    return BrierParts(rel, res, unc, brier(confidences, outcomes) - rel + res - unc)


def auroc(confidences: Column, outcomes: Column) -> float:
    """The chance that a right prediction has more confidence than a wrong one, ties counting half; nan without both kinds."""
    confidences, outcomes = _columns(confidences, outcomes)
    right, wrong = confidences[outcomes > 0.5], confidences[outcomes <= 0.5]
    if not right.size or not wrong.size:
        return float("nan")
    ranks = stats.rankdata(confidences)
    return float((ranks[outcomes > 0.5].sum() - right.size * (right.size + 1) / 2) / (right.size * wrong.size))


def fit_temperature(logits: np.ndarray, labels: Sequence[int]) -> float:
    """The temperature that makes softmax(logits / T) most likely to give `labels` (Guo et al., section 4.2). logits [n, options].

    Fit it on one half and test it on the other. Between 0.01 and 100; raises ValueError for nothing to fit.
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels, int)
    if not len(labels) or logits.shape[0] != len(labels):
        raise ValueError("a temperature needs logits [n, options] and n labels")

    def nll(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        scaled = scaled - scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels]).mean())

    return float(np.exp(optimize.minimize_scalar(nll, bounds=(np.log(0.01), np.log(100)), method="bounded").x))


def _columns(confidences: Column, outcomes: Column) -> tuple[np.ndarray, np.ndarray]:
    confidences, outcomes = np.asarray(confidences, float), np.asarray(outcomes, float)
    if confidences.shape != outcomes.shape:
        raise ValueError(f"{len(confidences)} confidences for {len(outcomes)} outcomes")
    if confidences.size and not (confidences.min() >= 0 and confidences.max() <= 1):
        raise ValueError("a confidence lies between 0 and 1")
    return confidences, outcomes
