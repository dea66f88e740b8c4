"""A reward model as a reward: whoever waits is read in one batch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.types import Message, Rollout, Score, unscored

Tools = Sequence[Mapping[str, Any]]
Read = Callable[[Sequence[tuple[Message, ...]], Sequence[Tools]], Sequence[float | str | Score]]
"""Conversations, and the tools described in each → a number or a whole score for each, or a text that says why there is none."""


@dataclass
class Learned:
    """Scores a whole conversation, prompt and attempt, by what `read` makes of it.

    A number that is not finite, or a conversation that cannot be read, gives nan with the reason. Where an attempt ran out
    of tokens its text is judged as it stands.
    """

    read: Read
    _waiting: list[tuple[Rollout, asyncio.Future[Score]]] = field(default_factory=list)

    async def __call__(self, rollout: Rollout) -> Score:
        if rollout.outcome == "error":
            return unscored(f"the attempt failed: {rollout.error}")
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        self._waiting.append((rollout, future))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._read_all)
        return await future

    def _read_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            talks = [(*rollout.problem.messages, *rollout.messages) for rollout, _ in waiting]
            values = self.read(talks, [rollout.problem.tools for rollout, _ in waiting])
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), value in zip(waiting, values, strict=True):
            if not future.done():
                future.set_result(_score(value))


def _score(found: float | str | Score) -> Score:
    if isinstance(found, str):
        return unscored(found)
    if isinstance(found, Score):
        return found
    return Score(found) if math.isfinite(found) else unscored(f"the reward model gave {found}")
