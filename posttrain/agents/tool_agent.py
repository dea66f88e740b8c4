"""The loop: the model speaks, its partner replies, until one of them is done or a limit is reached.

Nothing that happens in between loses the attempt. A budget that ran out makes it truncated, a partner that broke makes it an
error, and either way the rollout holds all that was said, with the exact tokens. Only what the user can mend before anything was
said (a prompt too long for the model, a tool that is not installed) is raised.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from posttrain.agents.conversation import Journal, Limits, Speaker, Spoken, Transcript, Unwritten
from posttrain.seeds import fold
from posttrain.types import ContextFull, Env, Message, Outcome, Problem, Reply, Rollout, UserError, World


@dataclass(frozen=True)
class ToolAgent:
    """A model with tools, or in any other world: attempts a problem in as many turns as it takes."""

    speaker: Speaker
    world: World
    limits: Limits = Limits()
    journal: Callable[[Problem, int], Journal] = lambda problem, sample: Unwritten()
    """What keeps each attempt, by problem and sample."""

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts side by side, each in a world of its own; their first turns share the prompt's work.

        The same (problem, n, seed) gives the same attempts as far as the world's replies are the same.
        """
        first = _FirstTurn(self.speaker, n, seed, self.limits.tokens)
        try:
            return list(await asyncio.gather(*(self._attempt(Transcript(problem, sample), seed, first) for sample in range(n))))
        finally:
            first.forget()

    async def go_on(self, transcript: Transcript, seed: int = 0) -> Rollout:
        """The attempt that begins with this transcript: one that was cut off, or a fork of another.

        A partner that can `restore` takes in the turns that were answered; any other is told them again, and what it replies is
        passed over for what it replied then.
        """
        return await self._attempt(transcript, seed, _FirstTurn(self.speaker, transcript.sample + 1, seed, self.limits.tokens))

    async def _attempt(self, begun: Transcript, seed: int, first: _FirstTurn) -> Rollout:
        problem, sample = begun.problem, begun.sample
        run = _Run(begun, seed, first, self.journal(problem, sample))
        rollout = None
        try:
            async with self.world.open(problem, fold(seed, problem.id, sample)) as env:
                run.transcript = replace(begun, tools=tuple(env.tools))
                run.journal.begun(run.transcript, seed)
                outcome, reason = await self._ended(run, env)
                rollout = _rollout(run.transcript, outcome, reason, env)
        except UserError:
            if rollout is None:
                raise
        except Exception as error:
            rollout = rollout or _rollout(run.transcript, "error", _said(error))
        finally:
            await getattr(self.speaker, "ended", _nothing)(run.transcript)
        run.journal.ended(rollout)
        return rollout

    async def _ended(self, run: _Run, env: Env) -> tuple[Outcome, str]:
        """How the attempt ended, and why if not by itself."""
        try:
            async with asyncio.timeout(self.limits.wall_s) as clock:
                return await self._converse(run, env)
        except TimeoutError as error:
            if clock.expired():
                return "truncated", f"the limit of {self.limits.wall_s:g} s was reached"
            return "error", _said(error)
        except ContextFull as error:
            if not run.transcript.turns:
                raise
            return "truncated", str(error)
        except UserError as error:
            if not run.transcript.turns:
                raise
            return "error", str(error)
        except Exception as error:
            return "error", _said(error)

    async def _converse(self, run: _Run, env: Env) -> tuple[Outcome, str]:
        await _restore(run.transcript, env)
        while not run.transcript.done:
            if not run.transcript.waits:
                if reason := self.limits.spent(run.transcript):
                    return "truncated", reason
                spoken = await self._speak(run)
                run.transcript = run.transcript.spoke(spoken)
                run.journal.spoke(run.transcript)
                if not spoken.finished:
                    return "truncated", f"a turn was cut off after {len(spoken.completion.token_ids) if spoken.completion else 'too many'} tokens"
            begun = time.perf_counter()
            reply = await self._reply(run.transcript, env)
            if reply is None:
                return "truncated", f"the limit of {self.limits.working_s:g} s of the tools' work was reached"
            run.transcript = run.transcript.answered(reply.messages, time.perf_counter() - begun, reply.done)
            run.journal.answered(run.transcript)
        return "terminated", ""

    async def _speak(self, run: _Run) -> Spoken:
        """The next turn, with a name for each of its calls."""
        step = len(run.transcript.turns)
        if step:
            (spoken,) = await self.speaker.speak(run.transcript, 1, run.seed, self.limits.tokens - run.transcript.n_tokens)
        else:
            spoken = await run.first.of(run.transcript)
        calls = tuple(replace(call, id=call.id or f"call{step:03d}{i:02d}") for i, call in enumerate(spoken.message.tool_calls))
        return replace(spoken, message=replace(spoken.message, tool_calls=calls))

    async def _reply(self, transcript: Transcript, env: Env) -> Reply | None:
        """What comes back to the last turn, complaints of its calls included; None where the time of work is over."""
        spoken = transcript.turns[-1].spoken
        told = tuple(Message("tool", f"error: {complaint}") for complaint in spoken.complaints)
        if told and not spoken.message.tool_calls:
            return Reply(told)
        try:
            async with asyncio.timeout(self.limits.working_s - transcript.working_s) as clock:
                reply = await env.reply(spoken.message)
        except TimeoutError:
            if clock.expired():
                return None
            raise
        return replace(reply, messages=reply.messages + told)


@dataclass
class _Run:
    """What changes while an attempt is made."""

    transcript: Transcript
    seed: int
    first: _FirstTurn
    journal: Journal


class _FirstTurn:
    """The first turns of siblings, asked for at once where they are offered the same tools."""

    def __init__(self, speaker: Speaker, n: int, seed: int, max_tokens: int) -> None:
        self.speaker, self.n, self.seed, self.max_tokens = speaker, n, seed, max_tokens
        self.asked: dict[str, asyncio.Future[list[Spoken]]] = {}

    async def of(self, transcript: Transcript) -> Spoken:
        """That of this sibling."""
        offered = json.dumps(transcript.tools, sort_keys=True, default=str)
        if offered not in self.asked:
            self.asked[offered] = asyncio.ensure_future(self.speaker.speak(transcript, self.n, self.seed, self.max_tokens))
        return (await asyncio.shield(self.asked[offered]))[transcript.sample]

    def forget(self) -> None:
        for future in self.asked.values():
            future.cancel()


async def _restore(transcript: Transcript, env: Env) -> None:
    """Bring a fresh partner to where the transcript has come."""
    take_in = getattr(env, "restore", env.reply)
    for turn in transcript.turns:
        if turn.told is not None:
            await take_in(turn.spoken.message)


def _rollout(transcript: Transcript, outcome: Outcome, reason: str, env: Env | None = None) -> Rollout:
    state = dict(env.state()) if env is not None else {}
    return Rollout(transcript.problem, transcript.said, transcript.completions, outcome, transcript.sample, reason, usage=transcript.usage, state=state)


async def _nothing(transcript: Transcript) -> None:
    """A speaker that remembers nothing has nothing to forget."""


def _said(error: BaseException) -> str:
    """An exception in a line; of a group, the first of its own."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".removesuffix(": ")
