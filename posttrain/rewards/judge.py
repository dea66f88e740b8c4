"""A language model as the judge: of one answer by a grade, or of two by which is better, asked in both orders.

The judgement is read from the probabilities of the answer's first token and not from sampled text: it costs one token,
has no noise of its own, and a judge that is torn says so with a number near the middle (2306.05685 on judges and their
biases; probabilities in place of a sampled verdict as in G-Eval, 2303.16634).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from posttrain.types import Message, Rollout, Score, UserError, unscored

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

        Two equal answers get exactly one half, whatever the judge's love of a place.
        """
        asked = _request(request)
        as_a = await self._p_of_a(asked, first, second)
        as_b = 1 - await self._p_of_a(asked, second, first)
        return (as_a + as_b) / 2, abs(as_a - as_b)

    async def _p_of_a(self, request: str, first: str, second: str) -> float:
        text = self.pairwise.format(request=request, first=first, second=second)
        chances = _normalised(await self.option_logprobs([Message("user", text)], ("A", "B")))
        if chances is None:
            raise UserError("the judge gives neither A nor B any probability: take another model as judge")
        return chances[0]


def _request(messages: Sequence[Message]) -> str:
    return messages[0].content if len(messages) == 1 else "\n".join(f"{m.role}: {m.content}" for m in messages)


def _normalised(logprobs: Sequence[float]) -> list[float] | None:
    from math import exp, isfinite

    finite = [x if isfinite(x) else float("-inf") for x in logprobs]
    top = max(finite)
    if not isfinite(top):
        return None
    weights = [exp(x - top) for x in finite]
    return [w / sum(weights) for w in weights]
