"""What more attempts and longer thoughts buy: performance against attempts and tokens, from one pool of attempts at each problem.

From the same attempts follow what an oracle would find among k (coverage, which is no accuracy) and what selections that can
be had in practice make of them: a vote, the model's own likelihood, a reward. Each is an expectation over all subsets of k
(exact, but for the weighted vote's and the allocated one's, which are drawn), its interval is over problems, and its tokens are all that
were read and written: prompts, thoughts, judges, and attempts at finding out how hard a problem is. Searches (beams, looks ahead, revisions)
choose while they write, so that they draw attempts of their own for each budget.
Legend: P problems, S attempts at one problem.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posttrain import statistics
from posttrain.evals.measure import Evaluation
from posttrain.evals.quantities import Clusters, clusters_of
from posttrain.evals.records import Attempt, Record, plain
from posttrain.scaling import laws
from posttrain.scaling.allocate import cross_fitted, split_of
from posttrain.scaling.cost import Spent, VerifierTokens, spent_on
from posttrain.scaling.vote import Extract, elected, likelihood, likelihood_per_token
from posttrain.seeds import fold
from posttrain.types import Measurement

ORACLE = "coverage (oracle)"
ALLOCATED = "majority, by difficulty"
SUBSETS = 200
"""Drawn for a vote that is weighted or goes on from a few attempts, for each problem and k."""
POOLED = ("votes", "best", "allocate")
"""The strategies that choose among the attempts of one pool."""
LOOKS = 4
"""Attempts from which difficulty is estimated."""
FEWEST_TO_ALLOCATE = 10
"""Problems; with fewer there is no learning from others what suits whom."""


@dataclass(frozen=True)
class Pool:
    """The attempts at one problem that could be scored, side by side."""

    id: str
    scores_S: np.ndarray
    """The task's."""
    answers: tuple[Hashable | None, ...]
    likelihood_S: np.ndarray
    per_token_S: np.ndarray
    rewards_S: np.ndarray | None
    """Those of a reward that chooses; -inf where it could not judge."""
    spent: Spent
    """Of all of them together, judging by the reward included."""

    @property
    def n(self) -> int:
        return len(self.scores_S)

    @property
    def n_right(self) -> int:
        return int((self.scores_S >= 1).sum())

    def each(self, verified: bool) -> Spent:
        """The mean of one attempt, in fractions of tokens, with its judge where one was asked."""
        s, n = self.spent, max(self.n, 1)
        return Spent(s.prompt_tokens / n, s.sampled_tokens / n, s.verifier_tokens / n if verified else 0)


@dataclass(frozen=True)
class Point:
    """One curve at one place."""

    k: float
    """Attempts at each problem; the mean where problems get different numbers; of a search its beams or turns."""
    value: Measurement
    tokens: Measurement
    """Spent on one problem."""
    spent: Spent
    """The mean of it by what it was for."""


@dataclass(frozen=True)
class Curve:
    """One way of choosing among attempts."""

    name: str
    points: tuple[Point, ...]
    is_pooled: bool = True
    """Whether each point takes the same number of attempts at every problem from the pool; else it has tokens of its own."""

    @property
    def is_oracle(self) -> bool:
        """Whether it looks at the gold answers, so that it is a ceiling for the others and no accuracy."""
        return self.name == ORACLE


@dataclass(frozen=True)
class Law:
    """A beta law of solve rates, fitted on few attempts, and what it says of many."""

    fitted_on: int
    """The first attempts at each problem, so many."""
    mixture: laws.BetaBinomial
    single_p_value: float
    """Of the claim that all problems have one solve rate."""
    forecasts: tuple[tuple[int, Measurement], ...]
    measured: Measurement
    """Coverage at the largest k that was measured."""
    held: bool
    """Whether that lies within the interval that was forecast for this k."""


@dataclass(frozen=True)
class Unsolved:
    """A problem that no attempt has solved."""

    id: str
    n: int
    rate_bound: float
    """With a solve rate above it, n attempts would have shown a right answer 95 times in 100; for this problem by itself."""


@dataclass(frozen=True)
class Search:
    """A search at one budget, measured on attempts of its own."""

    name: str
    budget: int
    """Its beams, or the turns of its conversation."""
    evaluation: Evaluation


@dataclass(frozen=True)
class Arm:
    """One model, thinking in one way."""

    name: str
    model: str
    thinking_tokens: int | None
    """The most that a thought may take; None where it is not forced."""
    evaluation: Evaluation
    curves: tuple[Curve, ...]
    law: Law | None
    wall: tuple[Unsolved, ...]
    searches: tuple[Search, ...] = ()
    withheld: str = ""
    """Why nothing of it is shown, or nothing: too many attempts could not be scored."""

    def curve(self, name: str) -> Curve:
        return next(curve for curve in self.curves if curve.name == name)

    def to_json(self) -> dict[str, Any]:
        e = self.evaluation
        return plain({
            "name": self.name, "model": self.model, "thinking_tokens": self.thinking_tokens, "n_problems": len(e.records), "samples": e.samples,
            "chance": e.chance, "n_unscored": sum(map(_n_unscored, (e, *(s.evaluation for s in self.searches)))), "withheld": self.withheld,
            "notes": [*e.notes, *(f"{s.name} at {s.budget}: {note}" for s in self.searches for note in s.evaluation.notes)],
            "truncated_frac": e["truncated_frac"], "length_tokens": e["length_tokens"],
            "curves": [{"name": c.name, "is_oracle": c.is_oracle, "is_pooled": c.is_pooled, "points": [_flat(p) for p in c.points]} for c in self.curves],
            "law": self.law, "wall": self.wall,
        })  # fmt: skip


def _n_unscored(evaluation: Evaluation) -> int:
    return sum(len(record.attempts) - record.n_scored for record in evaluation.records)


def _flat(point: Point) -> dict[str, Any]:
    return {"k": point.k, "value": point.value, "tokens": point.tokens, "spent": point.spent}


async def arm(
    name: str, model: str, thinking_tokens: int | None, evaluation: Evaluation, extract: Extract,
    rewards: Mapping[int, float] | None = None, verifier_tokens: VerifierTokens | None = None,
    strategies: Collection[str] = POOLED, searches: Sequence[Search] = (), unscored_ok: bool = False,
) -> Arm:  # fmt: skip
    """The curves of one evaluation, and of searches beside it. `rewards`: of each scored attempt, by the `id` of its rollout object,
    where a reward is to choose. `strategies`: which of `POOLED`; coverage is always there.

    Where more than 5% of the attempts could not be scored, its own or a search's, the arm is withheld, unless `unscored_ok`.
    """
    pools = [await pool(record, extract, rewards, verifier_tokens) for record in evaluation.records]
    clusters = clusters_of(evaluation.records)
    curves = [curve(rule, pools, evaluation.ks, clusters, evaluation.seed) for rule in rules_for(pools, strategies)]
    allocated = by_difficulty(pools, evaluation.ks, clusters, evaluation.seed) if "allocate" in strategies else None
    curves += [*([allocated] if allocated else []), *search_curves(searches)]
    law, wall = coverage_law(pools, evaluation.samples), unsolved(pools)
    withheld = "" if unscored_ok else next(filter(None, (e.withheld for e in (evaluation, *(s.evaluation for s in searches)))), "")
    return Arm(name, model, thinking_tokens, evaluation, tuple(curves), law, wall, tuple(searches), withheld)


async def pool(record: Record, extract: Extract, rewards: Mapping[int, float] | None, verifier_tokens: VerifierTokens | None) -> Pool:
    """What is known of each attempt that could be scored. A reward that could not judge (nan) ranks its attempt last."""
    scored = [a for a in record.attempts if not a.score.is_unscored]
    own = [[(await rule(a.rollout)).value for a in scored] for rule in (likelihood, likelihood_per_token)]
    judged = None if rewards is None else np.array([_or_last(rewards[id(a.rollout)]) for a in scored])
    spent = sum((spent_on(a.rollout) for a in scored), Spent())
    if rewards is not None and verifier_tokens is not None:
        spent += Spent(verifier_tokens=sum(verifier_tokens(a.rollout) for a in scored))
    return Pool(
        record.problem.id, np.array([a.score.value for a in scored]), tuple(extract(a.rollout.text) for a in scored),
        *(np.array([_or_last(value) for value in values]) for values in own), judged, spent,
    )  # fmt: skip


def _or_last(value: float) -> float:
    return -math.inf if math.isnan(value) else value


# -------------------------------------------------------------------------------------------------------------- curves


def rules_for(pools: Sequence[Pool], strategies: Collection[str] = POOLED) -> tuple[str, ...]:
    """The names of the ways to choose among these attempts that were asked for. A weighted vote needs rewards that can be weights: finite, at least 0."""
    given = [p.rewards_S for p in pools if p.rewards_S is not None]
    weighable = given and all((np.isneginf(r) | (np.isfinite(r) & (r >= 0))).all() for r in given)
    found = {"majority": "votes", "best by likelihood": "best", "best by likelihood per token": "best"}
    found |= {"best by reward": "best"} if given else {}
    found |= {"vote weighted by reward": "votes"} if weighable else {}
    return (ORACLE, *(rule for rule, strategy in found.items() if strategy in strategies))


def curve(rule: str, pools: Sequence[Pool], ks: Sequence[int], clusters: Clusters = None, seed: int = 0) -> Curve:
    """A way to choose, at each k: the mean over the problems with at least k scored attempts."""
    points = []
    for k in ks:
        values_P = [chosen(rule, p, k, seed) for p in pools]
        points.append(point(k, values_P, [scaled(p.each(verified="reward" in rule), k) for p in pools], clusters))
    return Curve(rule, tuple(points))


def chosen(rule: str, p: Pool, k: int, seed: int = 0) -> float:
    """The expected score of what the rule makes of k of the attempts; nan where there are fewer."""
    if p.n < k:
        return math.nan
    match rule:
        case "majority":
            return statistics.expected_of_majority(p.answers, p.scores_S, k)
        case "best by likelihood":
            return statistics.expected_of_best(p.likelihood_S, p.scores_S, k)
        case "best by likelihood per token":
            return statistics.expected_of_best(p.per_token_S, p.scores_S, k)
        case "best by reward":
            return statistics.expected_of_best(p.rewards_S, p.scores_S, k)
        case "vote weighted by reward":
            return _weighted_vote(p, k, seed)
    return float(statistics.pass_at_k(p.n, p.n_right, k))


def _weighted_vote(p: Pool, k: int, seed: int) -> float:
    """Over `SUBSETS` random subsets, in random order."""
    rng = np.random.default_rng(fold(seed, "weighted vote", p.id, k))
    weights_S = np.where(np.isneginf(p.rewards_S), 0.0, p.rewards_S)
    found = []
    for _ in range(SUBSETS):
        subset = rng.permutation(p.n)[:k]
        weights = weights_S[subset] if weights_S[subset].any() else np.ones(k)
        found.append(p.scores_S[subset[elected([p.answers[i] for i in subset], weights)]])
    return float(np.mean(found))


def point(k: float, values_P: Sequence[float], spent_P: Sequence[Spent], clusters: Clusters) -> Point:
    """Means over the problems that have a value."""
    known = [i for i, value in enumerate(values_P) if not math.isnan(value)]
    tokens = [spent_P[i].total_tokens if i in set(known) else math.nan for i in range(len(values_P))]
    together = sum((spent_P[i] for i in known), Spent())
    value = statistics.rate_over_problems(values_P, clusters=clusters)
    return Point(k, value, statistics.mean_over_problems(tokens, "tokens", clusters=clusters), scaled(together, 1 / max(len(known), 1)))


def scaled(spent: Spent, factor: float) -> Spent:
    return Spent(*(getattr(spent, name) * factor for name in Spent.__dataclass_fields__))


def by_difficulty(pools: Sequence[Pool], ks: Sequence[int], clusters: Clusters = None, seed: int = 0) -> Curve | None:
    """Votes of more or fewer attempts, by a difficulty that the first `LOOKS` attempts show; None with too few problems or attempts.

    What `VoteByDifficulty` does: the first attempts vote too, so that what the looking costs is not lost. The budgets are those of the
    other curves: the mean number of attempts at a problem, these first ones included. Plans are cross-fitted: which difficulties are given
    more was learned on other problems than those it is tried on.
    """
    full = [i for i, p in enumerate(pools) if p.n == max(ks)]
    budgets = [k for k in ks if k > LOOKS]
    if len(full) < FEWEST_TO_ALLOCATE or not budgets:
        return None
    more = further(ks)
    difficulty_P = np.array([split_of(pools[i].answers[:LOOKS]) for i in full])
    scores_PS = np.array([[_vote_going_on(pools[i], m, seed) for m in more] for i in full])
    points = []
    for budget in budgets:
        found = cross_fitted(difficulty_P, scores_PS, np.array(more, float), LOOKS, budget, seed=seed)
        spent = [
            scaled(pools[i].each(False), n - LOOKS) + Spent(difficulty_tokens=pools[i].each(False).total_tokens * LOOKS)
            for i, n in zip(full, found.spent_P, strict=True)
        ]  # fmt: skip
        points.append(point(float(found.spent_P.mean()), list(found.scores_P), spent, clusters and tuple(clusters[i] for i in full)))
    return Curve(ALLOCATED, tuple(points), is_pooled=False)


def further(ks: Sequence[int]) -> list[int]:
    """Numbers of attempts beside the first `LOOKS`: none, a few, and what makes each k whole, so that a plan may treat all problems alike."""
    return sorted({0, *(k for k in ks if k <= max(ks) - LOOKS), *(k - LOOKS for k in ks if k > LOOKS)})


def _vote_going_on(p: Pool, more: int, seed: int) -> float:
    """The mean score of a vote of the first `LOOKS` attempts and `more` of the others, over `SUBSETS` of these."""
    rng = np.random.default_rng(fold(seed, "a vote that goes on", p.id, more))
    found = []
    for _ in range(SUBSETS):
        voting = [*rng.permutation(LOOKS), *(LOOKS + rng.permutation(p.n - LOOKS)[:more])]
        found.append(p.scores_S[voting[elected([p.answers[i] for i in voting], [1.0] * len(voting))]])
    return float(np.mean(found))


def search_curves(searches: Sequence[Search]) -> list[Curve]:
    """One for each name, its budgets ascending."""
    budgets = sorted(searches, key=lambda search: search.budget)
    return [
        Curve(name, tuple(_searched_point(s.budget, s.evaluation) for s in budgets if s.name == name), is_pooled=False)
        for name in dict.fromkeys(search.name for search in searches)
    ]


def _searched_point(budget: int, evaluation: Evaluation) -> Point:
    """Every problem's mean over its scored attempts; without one it has no value."""
    each = [[a for a in record.attempts if not a.score.is_unscored] for record in evaluation.records]
    spent = [scaled(sum((spent_on(a.rollout) for a in scored), Spent()), 1 / max(len(scored), 1)) for scored in each]
    return point(budget, [record.rate for record in evaluation.records], spent, clusters_of(evaluation.records))


# ------------------------------------------------------------------------------------------------------ law and wall


def coverage_law(pools: Sequence[Pool], samples: int) -> Law | None:
    """Fitted on the first eighth of the attempts (two at least), forecasting up to four times all of them.

    The forecast for all is compared with what they showed. The attempts that it was fitted on are among them, and the problems
    are the same: its interval, which is one over problems, should hold the measured value more often than 95 times in 100. None with
    fewer than four attempts, or where no problem has them all scored.
    """
    full = [p for p in pools if p.n == samples]
    few = max(2, samples // 8)
    if samples < 4 or not full:
        return None
    counts = np.array([int((p.scores_S[:few] >= 1).sum()) for p in full])
    compared = laws.compare_with_exponential(counts, few)
    ks = [2**i for i in range((4 * samples).bit_length()) if few < 2**i <= 4 * samples]
    ks = sorted({*ks, samples})
    forecasts = dict(zip(ks, laws.forecasts(counts, few, ks), strict=True))
    measured = statistics.rate_over_problems([float(p.n_right > 0) for p in full])
    held = forecasts[samples].low <= measured.value <= forecasts[samples].high
    return Law(few, compared.mixture, compared.p_value, tuple(forecasts.items()), measured, bool(held))


def unsolved(pools: Sequence[Pool]) -> tuple[Unsolved, ...]:
    """The problems without a right answer, each with the exact upper bound on its solve rate (about 3 / n)."""
    return tuple(Unsolved(p.id, p.n, laws.wall([0], p.n).rate_bound) for p in pools if p.n and not p.n_right)


def scored_attempts(evaluation: Evaluation) -> list[Attempt]:
    """Those that a reward is asked about."""
    return [a for record in evaluation.records for a in record.attempts if not a.score.is_unscored]
