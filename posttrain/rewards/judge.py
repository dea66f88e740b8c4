"""A language model as the judge: of one answer by a grade, or of two by which is better, asked in both orders.

The judgement is read from the probabilities of the possible answers and not from sampled text: it costs one token, has no
noise of its own, and a judge that is torn says so with a number near the middle (2306.05685 on judges and their biases;
probabilities in place of a sampled verdict as in G-Eval, 2303.16634). A judge that only writes is asked several times
(`by_asking`). What cannot be read as a judgement is nan, and never an opinion.
"""

from __future__ import annotations

import math
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from posttrain.types import Agent, Message, Problem, Rollout, Score, unscored

OptionLogprobs = Callable[[Sequence[Message], Sequence[str]], Awaitable[Sequence[float]]]
"""Messages and possible answers → log-prob (nats) of each answer as what the judge says next."""

GRADES = ("1", "2", "3", "4", "5")

POINTWISE = (
    "Below are a request and an answer to it. Grade the answer from 1 (useless or wrong) to 5 (correct, helpful, clear)."
    " Reply with the grade only.\n\n[Request]\n{request}\n\n[Answer]\n{answer}\n\nGrade:"
)
PAIRWISE = (
    "Below are a request and two answers to it. Which answer is better: more correct, more helpful, clearer? Ignore their order"
    " and their length. Reply with A or B only.\n\n[Request]\n{request}\n\n[Answer A]\n{first}\n\n[Answer B]\n{second}\n\nBetter answer:"
)


@dataclass(frozen=True)
class Judge:
    """A model asked for its opinion."""

    option_logprobs: OptionLogprobs
    pointwise: str = POINTWISE
    pairwise: str = PAIRWISE

    async def grade(self, rollout: Rollout) -> Score:
        """The expected grade, from 0 (the lowest for certain) to 1. A `Reward`."""
        if rollout.outcome == "error":
            return unscored(f"the attempt failed: {rollout.error}")
        text = self.pointwise.format(request=_request(rollout.problem.messages), answer=rollout.text)
        chances = _normalised(await self.option_logprobs([Message("user", text)], GRADES))
        if chances is None:
            return unscored("the judge gives no grade any probability")
        value = sum(p * i for i, p in enumerate(chances)) / (len(GRADES) - 1)
        return Score(value, {f"p({grade})": p for grade, p in zip(GRADES, chances, strict=True)})

    async def prefers_first(self, request: Sequence[Message], first: str, second: str) -> tuple[float, float]:
        """P(the first is better), averaged over both orders, and how far the order alone moved it (0: not at all, 1: entirely).

        Two equal answers get exactly one half, whatever the judge's love of a place. nan where the judge could not be read.
        """
        asked = _request(request)
        as_a, against_b = await gather(self._p_of_a(asked, first, second), self._p_of_a(asked, second, first))
        as_b = 1 - against_b
        return (as_a + as_b) / 2, abs(as_a - as_b)

    async def compare_all(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Of attempts at one problem: the chance that each is preferred to a sibling, from 0 to 1, every two compared in both orders.

        The part `order` says how far the order moved its comparisons on the mean. A failed attempt is in no comparison; unscored
        is what is left without one that could be read.
        """
        chances: dict[int, list[tuple[float, float]]] = {i: [] for i, rollout in enumerate(rollouts) if rollout.outcome != "error"}
        pairs = [(i, j) for i in chances for j in chances if i < j]
        request = rollouts[0].problem.messages
        found = await gather(*(self.prefers_first(request, rollouts[i].text, rollouts[j].text) for i, j in pairs))
        for (i, j), (p, moved) in zip(pairs, found, strict=True):
            if not math.isnan(p):
                chances[i].append((p, moved))
                chances[j].append((1 - p, moved))
        return [_mean_chance(chances.get(i, [])) for i in range(len(rollouts))]

    async def _p_of_a(self, request: str, first: str, second: str) -> float:
        text = self.pairwise.format(request=request, first=first, second=second)
        chances = _normalised(await self.option_logprobs([Message("user", text)], ("A", "B")))
        return math.nan if chances is None else chances[0]


def by_asking(agent: Agent, n: int = 1) -> OptionLogprobs:
    """A judge out of anything that answers: it is asked `n` times, and the share of replies that begin with an option is its probability.

    Replies that begin with no option count for none; where all do, the judgement cannot be read.
    """

    async def read(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        rollouts = await agent.attempt(Problem("judgement", tuple(messages), ""), n)
        said = [next((o for o in options if _begins_with(r.text, o)), None) for r in rollouts]
        return [math.log(said.count(option) / n) if option in said else -math.inf for option in options]

    return read


def _begins_with(text: str, option: str) -> bool:
    """Whether the option stands first, as a word of its own: `A.` and `**A**` are A, `Actually` is not."""
    bare = text.lstrip(" \t\n*_([\"'`")
    return bare.startswith(option) and not bare[len(option) : len(option) + 1].isalnum()


def _mean_chance(compared: Sequence[tuple[float, float]]) -> Score:
    if not compared:
        return unscored("the judge compared it with nothing that could be read")
    return Score(sum(p for p, _ in compared) / len(compared), {"order": sum(moved for _, moved in compared) / len(compared)})


def _request(messages: Sequence[Message]) -> str:
    return messages[0].content if len(messages) == 1 else "\n".join(f"{m.role}: {m.content}" for m in messages)


def _normalised(logprobs: Sequence[float]) -> list[float] | None:
    finite = [x if math.isfinite(x) else -math.inf for x in logprobs]
    top = max(finite)
    if not math.isfinite(top):
        return None
    weights = [math.exp(x - top) for x in finite]
    return [w / sum(weights) for w in weights]
