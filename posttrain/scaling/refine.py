"""Attempt, then check and revise, in one conversation that only grows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from posttrain.scaling.cost import SearchedRollout, searched, total
from posttrain.seeds import fold
from posttrain.types import Agent, ContextFull, Message, Problem, Rollout, UserError

CHECK = "Check your answer step by step. If it is wrong, correct it; then state your final answer again."


@dataclass(frozen=True)
class Refine:
    """Sequential revision: an attempt and then k follow-ups, each of which reads all that was said before.

    By prompting alone, unlike the revision model trained for it in arXiv 2408.03314. The last answer counts, right or
    wrong. An attempt or revision that is truncated or fails ends the conversation, and its outcome is the whole's; one that the
    model's context has no room for is not asked for, and the whole is truncated. The
    rollout holds every turn's messages and completions, the follow-up questions among the messages. With k = 0 it is the
    agent's own first attempt.
    """

    agent: Agent
    k: int
    ask: str = CHECK
    """The user's turn before each revision."""

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` conversations, the first turns of which are the agent's own `n` attempts."""
        if self.k < 0:
            raise UserError(f"the number of revisions must be at least 0, not {self.k}")
        firsts = await self.agent.attempt(problem, n, seed)
        return list(await asyncio.gather(*(self._revise(first, i, seed) for i, first in enumerate(firsts))))

    async def _revise(self, first: Rollout, i: int, seed: int) -> SearchedRollout:
        turns, said, problem = [first], first.messages, first.problem
        while len(turns) <= self.k and turns[-1].outcome == "terminated":
            asked = (*said, Message("user", self.ask))
            longer = replace(problem, messages=problem.messages + asked)
            try:
                (turn,) = await self.agent.attempt(longer, 1, fold(seed, "refine", i, len(turns)))
            except ContextFull:
                turns[-1] = replace(turns[-1], outcome="truncated")
                break
            turns.append(turn)
            said = (*asked, *turn.messages)
        completions = tuple(completion for turn in turns for completion in turn.completions)
        whole = replace(turns[-1], problem=problem, messages=said, completions=completions)
        return searched(whole, total(turns), i)
