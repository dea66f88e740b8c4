"""A round: some problems, several attempts at each, and their scores. Every algorithm that learns from attempts begins here."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from posttrain.evals.measure import judge
from posttrain.statistics import clustered_mean, clustered_rate
from posttrain.types import Agent, Problem, Rollout, Score, Task, UserError


@dataclass(frozen=True)
class Round:
    """P problems, G attempts at each."""

    problems_P: list[Problem]
    rollouts_PG: list[list[Rollout]]
    scores_PG: list[list[Score]]

    def __add__(self, other: Round) -> Round:
        return Round(self.problems_P + other.problems_P, self.rollouts_PG + other.rollouts_PG, self.scores_PG + other.scores_PG)

    def only(self, rows: Sequence[int]) -> Round:
        """The round of these problems, with all their attempts: a group is never torn apart."""
        return Round(*([column[i] for i in rows] for column in (self.problems_P, self.rollouts_PG, self.scores_PG)))

    @property
    def values_PG(self) -> Tensor:
        """Float64[P, G]: scores, nan where unscored."""
        return torch.tensor([[s.value for s in group] for group in self.scores_PG], dtype=torch.float64)

    @property
    def truncated_PG(self) -> Tensor:
        """Bool[P, G]: which attempts ran out of tokens."""
        return torch.tensor([[r.outcome == "truncated" for r in group] for group in self.rollouts_PG], dtype=torch.bool)

    @property
    def rollouts(self) -> list[Rollout]:
        """All attempts, problem after problem."""
        return [rollout for group in self.rollouts_PG for rollout in group]

    @property
    def n_tokens(self) -> int:
        """How many tokens were sampled."""
        return sum(rollout.n_tokens for rollout in self.rollouts)


async def attempt(agent: Agent, task: Task, problems_P: Sequence[Problem], seeds_P: Sequence[int], group_size: int) -> Round:
    """Attempt every problem `group_size` times and score every attempt, all at once.

    A task that says of itself that it is `unbounded` may give any finite score.
    """

    async def group(problem: Problem, seed: int) -> tuple[list[Rollout], list[Score]]:
        rollouts = await agent.attempt(problem, group_size, seed)
        return rollouts, await score_siblings(task, rollouts)

    pairs = await gather(*(group(problem, seed) for problem, seed in zip(problems_P, seeds_P, strict=True)))
    return Round(list(problems_P), [rollouts for rollouts, _ in pairs], [scores for _, scores in pairs])


async def score_siblings(task: Task, rollouts: Sequence[Rollout]) -> list[Score]:
    """All attempts at one problem: each by itself, or, where the task says how, compared with one another."""
    compare = getattr(task, "score_siblings", None)
    if compare is not None:
        return await compare(rollouts)
    bounded = not getattr(task, "unbounded", False)
    return list(await gather(*(judge(task, rollout, bounded) for rollout in rollouts)))


def require_scores(round: Round) -> None:
    """Raises UserError where not one attempt could be scored: training on nothing would go on in silence."""
    if not round.values_PG.isfinite().any():
        reason = round.scores_PG[0][0].explanation or "no reason was given"
        raise UserError(f"none of the {round.values_PG.numel()} attempts of this step could be scored ({reason}): mend the reward")


def summary(round: Round) -> dict[str, float]:
    """What the attempts say, as metrics; the reward's interval is over problems."""
    values = [[score.value for score in group] for group in round.scores_PG]
    known = [v for group in values for v in group if v == v]
    reward = clustered_rate(values) if known and 0 <= min(known) and max(known) <= 1 else clustered_mean(values)
    rollouts = round.rollouts
    surprisal = -sum(x for r in rollouts for c in r.completions for x in c.sampling_logprobs)
    share = lambda outcome: sum(r.outcome == outcome for r in rollouts) / len(rollouts)  # noqa: E731
    return {
        "reward/mean": reward.value, "reward/stderr": reward.stderr, "reward/low": reward.low, "reward/high": reward.high,
        "reward/n": reward.n, "reward/unscored_frac": reward.n_unscored / len(rollouts),
        "sampling/length_tokens": round.n_tokens / len(rollouts), "sampling/tokens": round.n_tokens,
        "sampling/truncated_frac": share("truncated"), "sampling/error_frac": share("error"),
        "sampling/surprisal_nats": surprisal / max(1, round.n_tokens),
    } | _parts(round) | _turns(rollouts)  # fmt: skip


def _parts(round: Round) -> dict[str, float]:
    """The mean of each part of the scores, over the attempts that have it."""
    values: dict[str, list[float]] = {}
    for score in (score for group in round.scores_PG for score in group):
        for name, value in score.parts.items():
            if value == value:
                values.setdefault(name, []).append(value)
    return {f"reward/part_{name}": sum(found) / len(found) for name, found in values.items()}


def _turns(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """How attempts of several turns went: turns and answered calls of each, and the share of the calls that were no good. Nothing of bare answers."""
    told = [m.content for r in rollouts for m in r.messages if m.role == "tool"]
    if all(len(r.messages) <= 1 for r in rollouts):
        return {}
    errors = sum(content.startswith("error: ") for content in told)
    turns = sum(m.role == "assistant" for r in rollouts for m in r.messages)
    return {"agent/turns": turns / len(rollouts), "agent/calls": len(told) / len(rollouts), "agent/call_errors_frac": errors / max(1, len(told))}


def rollout_rows(round: Round, advantages_PG: Tensor) -> list[dict[str, Any]]:
    """One row for each problem, with every attempt's tokens, judgement and advantage, for `rollouts.jsonl`."""
    return [
        {
            "problem_id": problem.id, "messages": [asdict(m) for m in problem.messages], "answer": problem.answer,
            "attempts": [_attempt_row(r, s, a) for r, s, a in zip(group, scores, advantages.tolist(), strict=True)],
        }
        for problem, group, scores, advantages in zip(round.problems_P, round.rollouts_PG, round.scores_PG, advantages_PG, strict=True)
    ]  # fmt: skip


def _attempt_row(rollout: Rollout, score: Score, advantage: float) -> dict[str, Any]:
    turns = [
        {"prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "sampling_logprobs": c.sampling_logprobs,
         "stop_reason": c.stop_reason, "weight_version": c.weight_version}
        for c in rollout.completions
    ]  # fmt: skip
    return {
        "sample": rollout.sample, "text": rollout.text, "score": score.value, "parts": dict(score.parts),
        "explanation": score.explanation, "outcome": rollout.outcome, "error": rollout.error, "advantage": advantage, "turns": turns,
    }  # fmt: skip
