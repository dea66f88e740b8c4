"""What is measured, each as one number for each problem: accuracy, pass@k, diversity, length, entropy, KL.

Because every quantity is one number for each problem, its error, the paired difference between two models and the test of
that difference are the same few functions for all of them (`posttrain.statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posttrain import statistics
from posttrain.evals.records import Attempt, Record
from posttrain.evals.scorer import TokenScorer, score_rollouts
from posttrain.types import Aspect, Better, Measurement

Clusters = tuple[str, ...] | None
"""For each problem, what repeats; None where that is the problem."""


@dataclass(frozen=True)
class Quantity:
    """One thing measured on every problem."""

    name: str
    title: str
    better: Better
    per_problem: tuple[float, ...]
    """In the order of the problems; nan where a problem says nothing about it."""
    measurement: Measurement
    is_rate: bool
    """Whether it lies between 0 and 1, and its intervals must too."""
    clusters: Clusters = None


def rate(
    name: str, title: str, better: Better, values_P: Sequence[float] | np.ndarray, n_unscored: int = 0, clusters: Clusters = None
) -> Quantity:
    """A quantity that lies between 0 and 1 on every problem."""
    measurement = statistics.rate_over_problems(values_P, n_unscored=n_unscored, clusters=clusters)
    return Quantity(name, title, better, tuple(map(float, values_P)), measurement, is_rate=True, clusters=clusters)


def mean(
    name: str, title: str, better: Better, values_P: Sequence[float] | np.ndarray, unit: str, clusters: Clusters = None
) -> Quantity:
    """A quantity without bounds."""
    measurement = statistics.mean_over_problems(values_P, unit, clusters=clusters)
    return Quantity(name, title, better, tuple(map(float, values_P)), measurement, is_rate=False, clusters=clusters)


def rests_on_scores(name: str) -> bool:
    """Whether what is measured under this name speaks only of the attempts that could be scored."""
    scored = ("accuracy", "untouched_accuracy", "pass@", "pass^", "newly_", "significantly_", "ece_", "brier_", "auroc_", "aspect/")
    return name.startswith(scored)


def clusters_of(records: Sequence[Record]) -> Clusters:
    """What each problem belongs to; None where every problem stands for itself."""
    clusters = tuple(record.cluster for record in records)
    return clusters if len(set(clusters)) < len(clusters) else None


# ------------------------------------------------------------------------------------------------------ right and wrong


def accuracy(records: Sequence[Record], name: str = "accuracy", title: str = "accuracy") -> Quantity:
    """The mean score; 1 is right, 0 is wrong, what could not be scored is neither."""
    return rate(name, title, "higher", [record.rate for record in records], _n_unscored(records), clusters_of(records))


def pass_at_k(records: Sequence[Record], k: int) -> Quantity:
    """The chance that at least one of k attempts is right; a problem with fewer than k scored attempts says nothing about it."""
    values_P = statistics.pass_at_k([r.n_scored for r in records], [r.n_right for r in records], k)
    return rate(f"pass@{k}", f"pass@{k}", "higher", values_P, _n_unscored(records), clusters_of(records))


def pass_hat_k(records: Sequence[Record], k: int) -> Quantity:
    """The chance that all of k attempts are right: how far the model can be relied on."""
    values_P = statistics.pass_hat_k([r.n_scored for r in records], [r.n_right for r in records], k)
    return rate(f"pass^{k}", f"pass^{k}", "higher", values_P, _n_unscored(records), clusters_of(records))


def budgets(samples: int) -> tuple[int, ...]:
    """The k of pass@k: powers of two up to `samples`, and `samples` itself."""
    return tuple(sorted({*(2**i for i in range(samples.bit_length())), samples}))


def unscored_frac(records: Sequence[Record]) -> Quantity:
    """The share of attempts that could not be judged."""
    values_P = [(len(record.attempts) - record.n_scored) / len(record.attempts) for record in records]
    return rate("unscored_frac", "could not be scored", "lower", values_P, clusters=clusters_of(records))


def unparsed_frac(records: Sequence[Record]) -> Quantity | None:
    """The share in which the judge found no answer to judge, of the attempts whose score has a part `parsed`; None without any."""
    found = [[1 - a.score.parts["parsed"] for a in record.completed if "parsed" in a.score.parts] for record in records]
    if not any(found):
        return None
    values_P = statistics.problem_means(found)
    return rate("unparsed_frac", "hold no answer", "lower", values_P, clusters=clusters_of(records))


# ------------------------------------------------------------------------------------------- what a task asks for besides


def aspect(records: Sequence[Record], asked: Aspect) -> Quantity:
    """What `Aspect` describes, made of the parts of the scores, an attempt without the part left out."""
    values_P, clusters = _part(records, asked.part), clusters_of(records)
    if asked.per:
        return _bounded(asked, statistics.ratio_contributions(values_P, _part(records, asked.per)), clusters)
    if asked.versus:
        return _contrast(asked, records, values_P)
    if asked.given:
        given = _by_pair(records, _part(records, asked.given))
        values_P = np.array([v if given.get(r.pair) == 1 else math.nan for r, v in zip(records, values_P, strict=True)])
    if asked.signed:
        return _bounded(asked, values_P, clusters)
    return rate(asked.name, asked.title, asked.better, values_P, clusters=clusters)


def _bounded(asked: Aspect, values_P: np.ndarray, clusters: Clusters) -> Quantity:
    """A mean, or a ratio's contributions, with the interval of a rate at its doubt: one from -1 to 1 is twice a rate, less 1."""
    found = mean(asked.name, asked.title, asked.better, values_P, "fraction", clusters)
    m, scale, shift = found.measurement, 2 if asked.signed else 1, 1 if asked.signed else 0
    bounds = statistics.rate_interval((m.value + shift) / scale, m.stderr / scale, m.n)
    low, high = (float(bound) * scale - shift for bound in bounds)
    return replace(found, measurement=replace(m, low=low, high=high))


def _contrast(asked: Aspect, records: Sequence[Record], values_P: np.ndarray) -> Quantity:
    """part - versus over the pairs that have both; both problems bear it, so that the mean over problems is the mean over pairs."""
    own, others = _by_pair(records, values_P), _by_pair(records, _part(records, asked.versus))
    clusters = {record.pair: record.cluster for record in records if record.pair in own and record.pair in others}
    columns = ([side[pair] for pair in clusters] for side in (others, own))
    measurement = statistics.paired_rate_difference(*columns, clusters=list(clusters.values()))
    differences_P = [own[r.pair] - others[r.pair] if r.pair in clusters else math.nan for r in records]
    return Quantity(asked.name, asked.title, asked.better, tuple(differences_P), measurement, is_rate=False, clusters=tuple(r.cluster for r in records))


def _by_pair(records: Sequence[Record], values_P: np.ndarray) -> dict[str, float]:
    return {record.pair: float(value) for record, value in zip(records, values_P, strict=True) if not math.isnan(value)}


def _part(records: Sequence[Record], name: str) -> np.ndarray:
    """The mean of a part over each problem's scored attempts that have it."""
    return statistics.problem_means([[a.score.parts.get(name, math.nan) for a in record.attempts if not a.score.is_unscored] for record in records])


# ---------------------------------------------------------------------------------------------------- what was written


def truncated_frac(records: Sequence[Record]) -> Quantity:
    """The share that ran into a budget, of the attempts that did not fail."""
    values_P = _mean_of(records, lambda a: a.rollout.outcome == "truncated")
    return rate("truncated_frac", "ran into the limit", "lower", values_P, clusters=clusters_of(records))


def length_tokens(records: Sequence[Record]) -> Quantity:
    """Sampled tokens in an attempt, all its turns together; nan for attempts of which neither tokens nor their number are known."""
    values_P = _mean_of(records, lambda a: a.rollout.n_tokens if a.rollout.completions or a.rollout.usage else math.nan)
    return mean("length_tokens", "length", None, values_P, "tokens", clusters_of(records))


def tool_use(records: Sequence[Record]) -> tuple[Quantity, ...]:
    """Of attempts with tools: turns of the model and answered calls in each, and which share of a problem's calls was no good."""
    told = [[m.content for a in record.completed for m in a.rollout.messages if m.role == "tool"] for record in records]
    failed_P = [_mean([float(content.startswith("error: ")) for content in contents]) for contents in told]
    turns_P, calls_P = (_mean_of(records, lambda a, role=role: sum(m.role == role for m in a.rollout.messages)) for role in ("assistant", "tool"))
    clusters = clusters_of(records)
    return (
        mean("turns", "turns of the model", None, turns_P, "turns", clusters), mean("calls", "calls of tools", None, calls_P, "calls", clusters),
        rate("call_errors_frac", "calls that were no good", "lower", failed_P, clusters=clusters),
    )  # fmt: skip


def uses_tools(records: Sequence[Record]) -> bool:
    """Whether a tool was called in any attempt, well or not."""
    return any(message.role == "tool" for record in records for a in record.attempts for message in a.rollout.messages)


def diversity(records: Sequence[Record], final_answer: Callable[[str], str]) -> Quantity:
    """The chance that two attempts at a problem end in different answers; nan for fewer than two that did not fail."""
    values_P = [statistics.disagreement([final_answer(a.rollout.text) for a in record.completed]) for record in records]
    return rate("diversity", "two answers differ", None, values_P, clusters=clusters_of(records))


def sampling_logprob(records: Sequence[Record]) -> Quantity:
    """Log-probability per token of the model's own samples, under the distribution that they were drawn from."""
    return _per_token(
        "sampling_logprob",
        "own log-prob",
        records,
        lambda attempt: [value for c in attempt.rollout.completions for value in c.sampling_logprobs],
    )


def entropy(records: Sequence[Record]) -> Quantity:
    """Entropy of the model's choice of each token of its own samples, over the full vocabulary at temperature 1."""
    return _per_token("entropy", "entropy", records, lambda attempt: attempt.entropies or ())


# --------------------------------------------------------------------------------------------------------------- drift


def kl(records: Sequence[Record], other: TokenScorer, name: str, title: str) -> tuple[Quantity, Quantity]:
    """KL(own ‖ other) per completion and per token, from the model's own samples.

    The sum over tokens of log p(own) - log p(other), called k1 (http://joschu.net/blog/kl-approx.html): unbiased for the
    sequences as they were drawn, limits of length included. Needs samples drawn at temperature 1 from the full
    vocabulary (`are_exact`). Rests on the attempts that the model's own scorer has read.
    """
    log_ratios = _log_ratios(records, other)
    sums_P = [_mean([sum(attempt) for attempt in problem]) for problem in log_ratios]
    tokens_P = [_mean([len(attempt) for attempt in problem]) for problem in log_ratios]
    per_token_P = statistics.ratio_contributions(sums_P, tokens_P)
    return (
        mean(f"{name}_per_completion", f"{title} per completion", None, sums_P, "nats", clusters_of(records)),
        mean(f"{name}_per_token", f"{title} per token", None, per_token_P, "nats", clusters_of(records)),
    )


def are_exact(records: Sequence[Record]) -> bool:
    """Whether every completion is an exact draw from its model: temperature 1, nothing cut from the vocabulary."""
    drawn_with = {c.sampling for r in records for a in r.attempts for c in a.rollout.completions}
    return all(sampling.temperature == 1 and not sampling.truncates for sampling in drawn_with)


def _log_ratios(records: Sequence[Record], other: TokenScorer) -> list[list[list[float]]]:
    """For each problem, for each attempt that was read, for each token: log p(own) - log p(other)."""
    read = [[attempt for attempt in record.completed if attempt.logprobs] for record in records]
    others = iter(score_rollouts(other, [attempt.rollout for attempts in read for attempt in attempts]))
    return [[_subtracted(attempt.logprobs, next(others)[0]) for attempt in attempts] for attempts in read]


def _subtracted(own: Sequence[float] | None, other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(own or (), other, strict=True)]


# --------------------------------------------------------------------------------------------------------------- parts


def _n_unscored(records: Sequence[Record]) -> int:
    return sum(len(record.attempts) - record.n_scored for record in records)


def _mean_of(records: Sequence[Record], value: Callable[[Attempt], float]) -> np.ndarray:
    return statistics.problem_means([[value(attempt) for attempt in record.completed] for record in records])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _per_token(name: str, title: str, records: Sequence[Record], values: Callable[[Attempt], Sequence[float]]) -> Quantity:
    """Total over tokens of all problems: a long attempt weighs more than a short one, as it holds more tokens."""
    values_P = [[value for attempt in record.completed for value in values(attempt)] for record in records]
    contributions_P = statistics.ratio_contributions([sum(v) for v in values_P], [len(v) for v in values_P])
    return mean(f"{name}_per_token", f"{title} per token", None, contributions_P, "nats", clusters_of(records))
