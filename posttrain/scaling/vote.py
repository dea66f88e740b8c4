"""Attempt k times and return one: by majority, by weighted vote, or the best by a score."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

from posttrain.scaling.cost import SearchedRollout, Spent, VerifierTokens, free, searched, total
from posttrain.types import Agent, Problem, Rollout, Score, UserError, unscored

Extract = Callable[[str], Hashable | None]
"""The answer in an attempt's last words, or None where there is none (`rewards.exact.last_number`, say)."""
Scorer = Callable[[Rollout], Awaitable[Score]]


@dataclass(frozen=True)
class Majority:
    """Self-consistency (arXiv 2203.11171): the most frequent answer of k attempts.

    Returns the first attempt that gave it. Among equally frequent answers the one given first wins. Attempts without an
    answer, and those whose machinery failed, do not vote; if nobody votes, the first attempt is returned.
    """

    agent: Agent
    k: int
    extract: Extract

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` votes, each over k attempts of its own."""
        groups = await _groups(self.agent, problem, n, self.k, seed)
        return [_kept(group, _elected(group, [1.0] * self.k, self.extract), i) for i, group in enumerate(groups)]


@dataclass(frozen=True)
class WeightedVote:
    """Each of k attempts votes for its answer with its score; the answer with the largest sum wins (arXiv 2206.02336).

    Returns the best-scored attempt that gave the winning answer, and the first among equals. A nan score is a vote of no weight; if
    all are nan, every vote counts the same. Ties, and attempts without an answer, as in `Majority`. Raises UserError for a
    negative or infinite score, which is no weight.
    """

    agent: Agent
    k: int
    extract: Extract
    scorer: Scorer
    verifier_tokens: VerifierTokens = free

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` votes, each over k attempts of its own."""
        groups = await _groups(self.agent, problem, n, self.k, seed)
        return [await self._vote(group, i) for i, group in enumerate(groups)]

    async def _vote(self, group: Sequence[Rollout], i: int) -> SearchedRollout:
        values = await _values(group, self.scorer)
        if any(value < 0 or math.isinf(value) for value in values):
            raise UserError("a weighted vote needs finite scores of at least 0; give a scorer whose values are weights, such as probabilities")
        weights = [1.0] * len(values) if all(map(math.isnan, values)) else [0.0 if math.isnan(v) else v for v in values]
        return _kept(group, _elected(group, weights, self.extract), i, _verified(group, self.verifier_tokens))


@dataclass(frozen=True)
class BestOf:
    """The best-scored of k attempts; the first among equals.

    A nan score never wins unless all are nan: then the first attempt is returned. An attempt whose machinery failed is not
    scored. `scorer` is any reward, or `likelihood` or `likelihood_per_token`. With the task's own judge as the scorer the
    chance of a right answer is pass@k, which is coverage and must not be reported as accuracy.
    """

    agent: Agent
    k: int
    scorer: Scorer
    verifier_tokens: VerifierTokens = free

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` choices, each among k attempts of its own."""
        groups = await _groups(self.agent, problem, n, self.k, seed)
        return [await self._choice(group, i) for i, group in enumerate(groups)]

    async def _choice(self, group: Sequence[Rollout], i: int) -> SearchedRollout:
        values = await _values(group, self.scorer)
        best = max(range(len(group)), key=lambda j: (not math.isnan(values[j]), 0.0 if math.isnan(values[j]) else values[j]))
        return _kept(group, best, i, _verified(group, self.verifier_tokens))


async def likelihood(rollout: Rollout) -> Score:
    """The log-probability in nats of all that was sampled, under the distribution it was drawn from; nan if nothing was."""
    logprobs = _logprobs(rollout)
    return Score(math.fsum(logprobs)) if logprobs else unscored("nothing was sampled")


async def likelihood_per_token(rollout: Rollout) -> Score:
    """The mean log-probability in nats of a sampled token; nan if none was sampled. Unlike the sum it does not prefer short attempts."""
    logprobs = _logprobs(rollout)
    return Score(math.fsum(logprobs) / len(logprobs)) if logprobs else unscored("nothing was sampled")


def _logprobs(rollout: Rollout) -> list[float]:
    return [logprob for completion in rollout.completions for logprob in completion.sampling_logprobs]


async def _groups(agent: Agent, problem: Problem, n: int, k: int, seed: int) -> list[list[Rollout]]:
    if k < 1:
        raise UserError(f"a search needs at least one attempt to choose from, not k={k}")
    rollouts = await agent.attempt(problem, n * k, seed)
    return [rollouts[i * k : (i + 1) * k] for i in range(n)]


async def _values(group: Sequence[Rollout], scorer: Scorer) -> list[float]:
    async def value(rollout: Rollout) -> float:
        return math.nan if rollout.outcome == "error" else (await scorer(rollout)).value

    return list(await asyncio.gather(*map(value, group)))


def _elected(group: Sequence[Rollout], weights: Sequence[float], extract: Extract) -> int:
    return elected([None if rollout.outcome == "error" else extract(rollout.text) for rollout in group], weights)


def elected(answers: Sequence[Hashable | None], weights: Sequence[float]) -> int:
    """The heaviest attempt with the winning answer, the first if nobody votes; `max` keeps the first among equals, and dicts keep their order."""
    votes: dict[Hashable, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            votes[answer] = votes.get(answer, 0.0) + weight
    if not votes:
        return 0
    winner = max(votes, key=lambda answer: votes[answer])
    return max((j for j, answer in enumerate(answers) if answer == winner), key=lambda j: weights[j])


def _verified(group: Sequence[Rollout], verifier_tokens: VerifierTokens) -> Spent:
    return Spent(verifier_tokens=sum(verifier_tokens(rollout) for rollout in group if rollout.outcome != "error"))


def _kept(group: Sequence[Rollout], chosen: int, i: int, verified: Spent | None = None) -> SearchedRollout:
    return searched(group[chosen], total(group) + (verified or Spent()), i)
