"""Compute where it helps: each problem gets the strategy that did best, within a budget, on others as difficult as it.

After arXiv 2408.03314, section 3.2 ("compute-optimal scaling"), whose difficulty is estimated from 2,048 samples that its
comparison does not count. Here difficulty comes from a few attempts that are counted, what is best for a
difficulty is learned on other problems than those it is tried on (cross-fitting), and a budget holds for the whole set of problems, so
that a problem may get more because another gets less. Legend: P problems, S strategies, B bins of difficulty.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.scaling.cost import SearchedRollout, Spent, searched, spent_on, total
from posttrain.scaling.vote import Extract, elected
from posttrain.seeds import fold
from posttrain.types import Agent, Problem, Rollout, UserError

Difficulty = Callable[[Sequence[Rollout]], Awaitable[float]]
"""A few attempts at one problem → how difficult it seems, a larger number for a harder one. It must not look at the gold answer."""


@dataclass(frozen=True)
class Plan:
    """A strategy for each bin of difficulty."""

    edges: tuple[float, ...]
    """Between the bins, ascending: a difficulty equal to an edge lies in the harder bin."""
    chosen: tuple[int, ...]
    """The strategy of each bin, from the easiest."""

    def strategy(self, difficulty: float) -> int:
        """The strategy for a problem; one whose difficulty is nan counts as the hardest."""
        return self.chosen[-1 if math.isnan(difficulty) else int(np.searchsorted(self.edges, difficulty, side="right"))]


def disagreement_of(extract: Extract) -> Difficulty:
    """The share of attempts that do not give the most frequent answer; attempts without an answer agree with none. nan where none has one."""

    async def difficulty(rollouts: Sequence[Rollout]) -> float:
        answers = [None if rollout.outcome == "error" else extract(rollout.text) for rollout in rollouts]
        return split_of(answers)

    return difficulty


def split_of(answers: Sequence[Hashable | None]) -> float:
    """`disagreement_of` on answers that have been read already."""
    votes = [answers.count(answer) for answer in set(answers) - {None}]
    return 1 - max(votes) / len(answers) if votes else math.nan


def best_plan(difficulty_P: np.ndarray, scores_PS: np.ndarray, costs_S: np.ndarray, budget: float, bins: int = 3) -> Plan:
    """The plan with the highest mean score whose mean cost is at most `budget`, by trying all.

    Bins hold about the same number of problems each, as far as ties allow, which are never parted: where there are no more difficulties
    than bins, each has its own. Scores that are nan are in no mean. Among equally good plans the
    cheaper wins. Raises UserError where not even the cheapest strategy for all is within the budget.
    """
    edges = _edges(difficulty_P[~np.isnan(difficulty_P)], bins)
    placed = np.where(np.isnan(difficulty_P), len(edges), np.searchsorted(edges, difficulty_P, side="right"))
    weights_B = np.bincount(placed, minlength=len(edges) + 1) / len(placed)
    means_BS = np.array([_mean(scores_PS[placed == b]) if weights_B[b] else np.zeros(len(costs_S)) for b in range(len(weights_B))])
    plans = [np.array(plan) for plan in itertools.product(range(len(costs_S)), repeat=len(weights_B))]
    worth = [(float(weights_B @ means_BS[np.arange(len(plan)), plan]), -float(weights_B @ costs_S[plan]), plan) for plan in plans]
    within = [w for w in worth if -w[1] <= budget * (1 + 1e-12)]
    if not within:
        raise UserError(f"a budget of {budget:g} for each problem is less than the cheapest strategy costs, {costs_S.min():g}: raise it")
    best = max(within, key=lambda w: (round(w[0], 12), w[1]))
    return Plan(edges, tuple(int(s) for s in best[2]))


def _edges(known: np.ndarray, bins: int) -> tuple[float, ...]:
    """Halfway between neighbouring difficulties, where the share of easier problems comes closest to each of 1 / bins, 2 / bins, …"""
    values, counts = np.unique(known, return_counts=True)
    easier = counts.cumsum()[:-1] / max(len(known), 1)
    gaps = range(len(easier)) if len(values) <= bins else {int(np.abs(easier - b / bins).argmin()) for b in range(1, bins)}
    return tuple(float(values[i] + values[i + 1]) / 2 for i in sorted(gaps))


@dataclass(frozen=True)
class Allocation:
    """What each problem got, by plans that were learned without it."""

    chosen_P: np.ndarray
    """The strategy of each problem."""
    scores_P: np.ndarray
    spent_P: np.ndarray
    """The strategy and the finding out of the difficulty, in the unit of the costs."""
    plans: tuple[Plan, ...]
    """One for each fold."""
    folds_P: np.ndarray
    """Which fold each problem is tried in: its plan was learned on all the others."""


def cross_fitted(
    difficulty_P: np.ndarray, scores_PS: np.ndarray, costs_S: np.ndarray, pilot_cost: float, budget: float,
    bins: int = 3, folds: int = 5, seed: int = 0,
) -> Allocation:  # fmt: skip
    """Plans learned on all folds but one and tried on that one, for each in turn.

    `scores_PS`: what each strategy is expected to score on each problem, from attempts other than those that the difficulty was estimated
    from. `costs_S` and `budget` are in one unit, such as attempts for each problem; `pilot_cost` is what the estimate takes and
    comes out of the budget. A fold of N problems never spends more than N * budget: where more of its problems are hard than the plan
    was learned on, those that come last get the cheapest strategy. Raises UserError as `best_plan` does, and for
    fewer than two folds or fewer problems than folds.
    """
    n = len(difficulty_P)
    if not 2 <= folds <= n:
        raise UserError(f"cross-fitting takes at least 2 folds and a problem in each, not {folds} folds of {n} problems")
    folds_P = np.random.default_rng(fold(seed, "folds")).permutation(np.arange(n) % folds)
    chosen_P, plans = np.zeros(n, int), []
    for f in range(folds):
        tried, learned = np.flatnonzero(folds_P == f), folds_P != f
        plans.append(best_plan(difficulty_P[learned], scores_PS[learned], costs_S, budget - pilot_cost, bins))
        chosen_P[tried] = within_budget([plans[f].strategy(d) for d in difficulty_P[tried]], costs_S, (budget - pilot_cost) * len(tried))
    return Allocation(chosen_P, scores_PS[np.arange(n), chosen_P], costs_S[chosen_P] + pilot_cost, tuple(plans), folds_P)


def within_budget(wanted: Sequence[int], costs_S: np.ndarray, total_cost: float) -> list[int]:
    """The strategies wanted, in order, each as long as what is left then still pays the cheapest for all that follow; else the cheapest."""
    cheapest, left, given = int(costs_S.argmin()), total_cost, []
    for i, strategy in enumerate(wanted):
        reserve = costs_S[cheapest] * (len(wanted) - i - 1)
        given.append(strategy if costs_S[strategy] + reserve <= left * (1 + 1e-12) else cheapest)
        left -= costs_S[given[-1]]
    return given


@dataclass(frozen=True)
class ByDifficulty:
    """Looks at a problem with a few attempts of `pilot`, then gives it the strategy that the plan has for its difficulty.

    The pilot's attempts take no part in the answer, and all their tokens are recorded as `difficulty_tokens`.
    """

    pilot: Agent
    k: int
    """Attempts to estimate the difficulty from."""
    difficulty: Difficulty
    plan: Plan
    strategies: Sequence[Agent]

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts, each of which has looked for itself."""
        if self.k < 1 or max(self.plan.chosen) >= len(self.strategies):
            raise UserError("an allocation needs at least one attempt to look with, and a strategy for each of its plan")
        looks = await self.pilot.attempt(problem, n * self.k, fold(seed, "difficulty"))
        return list(await asyncio.gather(*(self._answer(problem, looks[i * self.k : (i + 1) * self.k], i, seed) for i in range(n))))

    async def _answer(self, problem: Problem, looks: Sequence[Rollout], i: int, seed: int) -> SearchedRollout:
        agent = self.strategies[self.plan.strategy(await self.difficulty(looks))]
        (answer,) = await agent.attempt(problem, 1, fold(seed, "answer", i))
        return searched(answer, Spent(difficulty_tokens=total(looks).total_tokens) + spent_on(answer), i)


@dataclass(frozen=True)
class VoteByDifficulty:
    """A vote of as many attempts as a problem seems to need: `k` look at how hard it is, the plan says how many more, and all of them vote.

    Unlike in `ByDifficulty` and the paper nothing that was paid for is thrown away (as in adaptive consistency, arXiv 2305.11860, which asks
    for one attempt more at a time). Ties, and attempts without an answer, as in `Majority`.
    """

    agent: Agent
    k: int
    """Attempts to estimate the difficulty from."""
    extract: Extract
    plan: Plan
    more: Sequence[int]
    """How many further attempts each strategy of the plan takes; 0 leaves it at the first ones."""

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` votes, each of which has looked for itself."""
        if self.k < 1 or min(self.more) < 0 or max(self.plan.chosen) >= len(self.more):
            raise UserError("an allocation needs at least one attempt to look with, and a number of attempts for each strategy of its plan")
        looks = await self.agent.attempt(problem, n * self.k, fold(seed, "difficulty"))
        return list(await asyncio.gather(*(self._vote(problem, looks[i * self.k : (i + 1) * self.k], i, seed) for i in range(n))))

    async def _vote(self, problem: Problem, looks: Sequence[Rollout], i: int, seed: int) -> SearchedRollout:
        count = self.more[self.plan.strategy(await disagreement_of(self.extract)(looks))]
        further = await self.agent.attempt(problem, count, fold(seed, "further", i)) if count else []
        votes = [*looks, *further]
        winner = votes[elected([None if r.outcome == "error" else self.extract(r.text) for r in votes], [1.0] * len(votes))]
        return searched(winner, Spent(difficulty_tokens=total(looks).total_tokens) + total(further), i)


def _mean(scores_PS: np.ndarray) -> np.ndarray:
    """Over the problems that have a score; 0 where none has."""
    counts = np.maximum((~np.isnan(scores_PS)).sum(0), 1)
    return np.nansum(scores_PS, 0) / counts
