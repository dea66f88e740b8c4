"""What each way of optimising a reward paid for it: reward against KL, gold against proxy, and what was lost elsewhere.

The over-optimisation of a learned reward (Gao et al., 2210.10760) shows as a proxy that goes on rising while the gold reward
turns. Best-of-n of the starting policy is the yardstick that needs no training: its KL is at most log n − (n − 1)/n.
"""

from __future__ import annotations

import math
from asyncio import gather
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.evals.measure import judge
from posttrain.evals.scorer import TokenScorer, score_rollouts
from posttrain.seeds import fold
from posttrain.statistics import expected_of_best, mean_over_problems
from posttrain.types import Agent, Measurement, Problem, Rollout, Score, Task


@dataclass(frozen=True)
class Samples:
    """Attempts of one model, P problems by G samples, and their scores; a score's part `gold` is the gold reward."""

    rollouts_PG: list[list[Rollout]]
    scores_PG: list[list[Score]]

    @property
    def proxy_PG(self) -> np.ndarray:
        return np.array([[s.value for s in group] for group in self.scores_PG])

    @property
    def gold_PG(self) -> np.ndarray:
        """nan where there is none."""
        return np.array([[s.parts.get("gold", math.nan) for s in group] for group in self.scores_PG])


    def spread(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation of single attempts' scores, of `proxy` and (where there is one) of `gold`."""
        sides = {"proxy": self.proxy_PG, "gold": self.gold_PG}
        return {name: {"mean": float(np.nanmean(x)), "std": float(np.nanstd(x))} for name, x in sides.items() if not np.isnan(x).all()}


@dataclass(frozen=True)
class Point:
    """One model on the frontier."""

    name: str
    proxy: Measurement
    gold: Measurement | None
    kl_nats: Measurement
    """Of whole answers to the starting model, estimated by the mean log-ratio of the model's own samples."""
    length_tokens: Measurement
    truncated_frac: float


async def draw(agent: Agent, task: Task, problems: Sequence[Problem], n: int, seed: int) -> Samples:
    """`n` attempts at each problem, scored."""

    async def group(problem: Problem) -> tuple[list[Rollout], list[Score]]:
        rollouts = await agent.attempt(problem, n, fold(seed, "frontier"))
        return rollouts, list(await gather(*(judge(task, r, bounded=False) for r in rollouts)))

    pairs = await gather(*(group(problem) for problem in problems))
    return Samples([rollouts for rollouts, _ in pairs], [scores for _, scores in pairs])


def point(name: str, samples: Samples, start: TokenScorer) -> Point:
    """Means over problems with their 95% intervals; the same problems for every point.

    The KL takes the sampler's log-probs for the model's own, so that the answers must have been drawn at temperature 1 from all tokens.
    """
    flat = [r for group in samples.rollouts_PG for r in group]
    ours = [sum(x for c in rollout.completions for x in c.sampling_logprobs) for rollout in flat]
    gaps = iter([a - sum(b) for a, (b, _) in zip(ours, score_rollouts(start, flat), strict=True)])
    kl = [float(np.mean([next(gaps) for _ in group])) for group in samples.rollouts_PG]
    gold = samples.gold_PG
    return Point(
        name, mean_over_problems(_means(samples.proxy_PG), "reward", int(np.isnan(samples.proxy_PG).sum())),
        mean_over_problems(_means(gold), "reward", int(np.isnan(gold).sum())) if not np.isnan(gold).all() else None,
        mean_over_problems(kl, "nats"), mean_over_problems([float(np.mean([r.n_tokens for r in g])) for g in samples.rollouts_PG], "tokens"),
        sum(r.outcome == "truncated" for r in flat) / len(flat),
    )  # fmt: skip


@dataclass(frozen=True)
class BestOfN:
    """What choosing the best of n samples by the proxy would give."""

    n: int
    kl_bound_nats: float
    """log n − (n − 1) / n: exact without ties, an upper bound with them."""
    proxy: Measurement
    gold: Measurement | None


def best_of_n(samples: Samples) -> list[BestOfN]:
    """For n = 1, 2, 4 … up to the samples at hand: exact expectations over all subsets of n, by order statistics.

    Unscored attempts are left out of their problem; where fewer than n are left, the problem is too. Ties in the proxy are
    shared evenly among those tied.
    """
    proxy, gold = samples.proxy_PG, samples.gold_PG
    found = []
    for n in (2**i for i in range(int(math.log2(proxy.shape[1])) + 1)):
        rows = [(p[seen], g[seen]) for p, g in zip(proxy, gold, strict=True) if (seen := ~np.isnan(p)).sum() >= n]
        best = [(expected_of_best(p, p, n), expected_of_best(p, g, n)) for p, g in rows]
        golds = [g for _, g in best]
        found.append(BestOfN(
            n, math.log(n) - (n - 1) / n, mean_over_problems([p for p, _ in best], "reward"),
            mean_over_problems(golds, "reward") if golds and not np.isnan(golds).all() else None,
        ))  # fmt: skip
    return found


def _means(values_PG: np.ndarray) -> list[float]:
    return [float(np.nanmean(row)) if not np.isnan(row).all() else math.nan for row in values_PG]
