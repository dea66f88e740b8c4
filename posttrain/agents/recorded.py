"""The world of an attempt that has been made: it replies what was replied then, so that the model alone can be tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from posttrain.agents.conversation import Transcript, Turn
from posttrain.types import Message, Problem, Reply


class Departed(Exception):
    """The model has said something else than it had then, to which no reply is known."""


@dataclass(frozen=True)
class Recorded:
    """A `World` out of a transcript; no tool is run."""

    transcript: Transcript

    @asynccontextmanager
    async def open(self, problem: Problem, seed: int) -> AsyncIterator[RecordedEnv]:
        heard = [turn for turn in self.transcript.turns if turn.spoken.message.tool_calls or not turn.spoken.complaints]
        yield RecordedEnv(self.transcript.tools, heard)


@dataclass
class RecordedEnv:
    """Replies turn by turn. Raises `Departed` for a turn that was not said then, or where no reply was kept."""

    tools: Sequence[Mapping[str, Any]]
    turns: list[Turn]
    """Those that reached the partner: complaints of calls that could not be read come from the loop."""
    heard: int = 0

    async def reply(self, message: Message) -> Reply:
        turn = self.turns[self.heard] if self.heard < len(self.turns) else None
        if turn is None or turn.told is None or turn.spoken.message != message:
            raise Departed(f"turn {self.heard + 1} is not what was said then" if turn else "more was said than then")
        self.heard += 1
        own = turn.told[: len(turn.told) - len(turn.spoken.complaints)]
        return Reply(own, turn.done)

    def state(self) -> Mapping[str, Any]:
        return {}
