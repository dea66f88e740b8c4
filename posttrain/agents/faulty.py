"""A speaker that knows its job and errs as often as it is told to: for measures of reliability, where the truth is known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from posttrain.agents.conversation import Spoken, Transcript
from posttrain.seeds import fold
from posttrain.tasks.jobs import JobEnv, Jobs
from posttrain.types import Message, ToolCall, UserError


@dataclass(frozen=True)
class FaultySpeaker:
    """Carries out a task's operations one after the other; a step is wrong with the chance

        error + drift * (steps before it) + conditioned * (the share of those that were wrong), between 0 and 1.

    With `error` alone it errs at a constant rate; `drift` makes it worse with length whatever has happened, `conditioned` only
    where it has erred, or was made to seem to have. It has no tokens. What it says depends on the seed, the problem, the sample
    and the step. Raises UserError for an error rate outside 0 to 1.
    """

    task: Jobs
    error: float = 0.1
    drift: float = 0.0
    conditioned: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.error <= 1:
            raise UserError(f"an error rate lies between 0 and 1, not {self.error}")

    async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
        """`n` turns, each a single call, or the number asked for when all has been done."""
        async with self.task.world.open(transcript.problem) as env:
            for message in transcript.said:
                if message.role == "assistant":
                    await env.reply(message)
            samples = [transcript.sample] if transcript.turns else range(n)
            return [Spoken(self._said(env, transcript, fold(seed, transcript.problem.id, sample))) for sample in samples]

    def _said(self, env: JobEnv, transcript: Transcript, seed: int) -> Message:
        if env.due is None:
            return Message("assistant", str(self.task.craft.count(env.world, env.asked)))
        number = len(env.steps)
        wrong = sum(step.right is False for step in env.steps) / number if number else 0.0
        errs = Random(fold(seed, "errs", number)).random() < self.error + self.drift * number + self.conditioned * wrong
        calls = self.task.next_calls(env, Random(fold(seed, "slip", number)) if errs else None)
        if not calls:
            return Message("assistant", "This cannot be done.")
        has_read = len(calls) > 1 and any(_same(calls[0], call) for call in _last_calls(transcript))
        return Message("assistant", "", (calls[-1] if has_read else calls[0],))


def _last_calls(transcript: Transcript) -> tuple[ToolCall, ...]:
    return transcript.turns[-1].spoken.message.tool_calls if transcript.turns else ()


def _same(a: ToolCall, b: ToolCall) -> bool:
    return replace(a, id="") == replace(b, id="")
