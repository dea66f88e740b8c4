"""Jobs in a world that changes: operations to carry out with tools, one after the other, and an end state that is checked exactly.

A job names its opening state and its operations; how many there are is its `horizon`. One accepted call that changes the world is
one *step*. A step is right if it leaves the world as the operation that was due would have left it: relative to the world as it
is, whatever earlier errors have made of it, so that an executor that minds nothing but the present makes no error for an earlier
one (2509.09677 counts so too). Calls that only read, and calls that are refused, are no steps. The job is done if the world is
in the end exactly as all operations leave it, what nobody asked to be touched included, and the number asked for last is true.

A world is data and its tools are pure, so that a conversation can be read again at any time: what was said makes the same world.
A problem may therefore bring turns of the assistant with it; the world then begins where they have brought it (`continued`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import blake2b
from random import Random
from typing import Any, Protocol

from posttrain.rewards.exact import last_number
from posttrain.seeds import fold
from posttrain.tasks.splits import check_split
from posttrain.tool_calls import CLOSE, OPEN, read_tags
from posttrain.tools.calling import Caller
from posttrain.tools.tool import Tool
from posttrain.types import Message, Problem, Reply, Rollout, Score, ToolCall, UserError

State = dict[str, Any]
"""What a world is at one time; plain JSON, one value under each key."""

AT_ONCE, ONE_BY_ONE = "at_once", "one_by_one"
ALL_DONE = "That was the last one."


@dataclass(frozen=True)
class Operation:
    """One thing to do."""

    kind: str
    words: str
    """As the model reads it."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Opening:
    """A job before it begins."""

    state: State
    words: str
    """How the world is described."""
    operations: tuple[Operation, ...]
    asked: str
    """What the number that is asked for at the end is of."""
    question: str
    """How it is asked for."""


class Craft(Protocol):
    """What can be done in one kind of world."""

    @property
    def name(self) -> str: ...

    @property
    def writes(self) -> Collection[str]:
        """The tools that change the world; the others read."""
        ...

    def draw(self, random: Random, horizon: int) -> Opening:
        """A job of so many operations, each of which changes the world when those before it were done."""
        ...

    def tools(self, state: State) -> Sequence[Tool]:
        """What may be called in the world that is in this state, which their calls change in place."""
        ...

    def done(self, state: State, operation: Operation) -> State | None:
        """The world after the operation; None where it cannot be carried out in this one."""
        ...

    def calls(self, state: State, operation: Operation) -> tuple[ToolCall, ...]:
        """The calls that carry it out in this state, of which the last changes it; for one that can be."""
        ...

    def slip(self, state: State, operation: Operation, random: Random) -> ToolCall:
        """A call that is accepted in place of the last of them, and is wrong."""
        ...

    def count(self, state: State, asked: str) -> int:
        """The number asked for at the end, in this state."""
        ...


@dataclass(frozen=True)
class Step:
    """One accepted call that could change the world."""

    turn: int
    """Which of the assistant's turns made it, from 0."""
    number: int
    """Which operation was due, from 0; the horizon where none was."""
    call: ToolCall
    right: bool | None
    """None where what was due cannot be done in the world as earlier errors have left it."""
    tool_fits: bool
    """Whether the operation takes this tool, whatever became of it."""


@dataclass(frozen=True)
class Refused:
    """A call that was not carried out."""

    turn: int
    call: ToolCall
    is_known: bool
    """Whether there is a tool of that name."""


@dataclass(frozen=True)
class Trace:
    """What an attempt did to its world."""

    horizon: int
    steps: tuple[Step, ...]
    refused: tuple[Refused, ...]
    state: State
    report: int
    """The number asked for at the end, as it is in this state."""

    @property
    def first_error(self) -> Step | None:
        return next((step for step in self.steps if step.right is False), None)

    @property
    def n_right(self) -> int:
        """How many steps came before the first that was not right."""
        return next((i for i, step in enumerate(self.steps) if not step.right), len(self.steps))


# ------------------------------------------------------------------------------------------------------------- the world


@dataclass(frozen=True)
class JobWorld:
    """The `World` of a craft's jobs."""

    craft: Craft

    @asynccontextmanager
    async def open(self, problem: Problem, seed: int = 0) -> AsyncIterator[JobEnv]:
        env = JobEnv(self.craft, problem)
        for message in problem.messages:
            if message.role == "assistant":
                await env.reply(message)
        env.turn = 0
        yield env


class JobEnv:
    """The partner in one job: runs calls, tells the next operation where these are told one by one; over when nothing is called."""

    def __init__(self, craft: Craft, problem: Problem) -> None:
        data = problem.data
        self.craft, self.told, self.asked, self.question = craft, data["told"], data["asked"], data["question"]
        self.operations = [Operation(**row) for row in data["operations"]]
        self.stop_after = data.get("stop_after", 0)
        self.world: State = deepcopy(data["state"])
        self.steps: list[Step] = []
        self.refused: list[Refused] = []
        self.turn = 0
        self.accepted = False
        watched = [replace(tool, function=self._watched(tool)) for tool in craft.tools(self.world)]
        self.caller = Caller({tool.name: tool for tool in watched}, call_s=30.0, answer_chars=8192)

    @property
    def tools(self) -> list[dict[str, Any]]:
        return self.caller.tools

    async def reply(self, message: Message) -> Reply:
        before = len(self.steps)
        told = [reply for call in message.tool_calls for reply in await self._made(call)]
        self.turn += 1
        if self.told == ONE_BY_ONE and len(self.steps) > before:
            told.append(Message("user", self._next()))
        return Reply(tuple(told), done=not message.tool_calls or 0 < self.stop_after <= len(self.steps))

    def state(self) -> dict[str, Any]:
        return {"world": deepcopy(self.world), "steps": len(self.steps)}

    def trace(self) -> Trace:
        return Trace(
            len(self.operations), tuple(self.steps), tuple(self.refused), deepcopy(self.world), self.craft.count(self.world, self.asked)
        )  # fmt: skip

    @property
    def due(self) -> Operation | None:
        """What is to be done next; None where all has been."""
        return self.operations[len(self.steps)] if len(self.steps) < len(self.operations) else None

    async def _made(self, call: ToolCall) -> tuple[Message, ...]:
        before, self.accepted = deepcopy(self.world), False
        reply = await self.caller.reply(Message("assistant", "", (call,)))
        if not self.accepted:
            self.refused.append(Refused(self.turn, call, call.name in self.caller.by_name))
        elif call.name in self.craft.writes:
            self.steps.append(self._step(call, before))
        return reply.messages

    def _step(self, call: ToolCall, before: State) -> Step:
        if self.due is None:
            return Step(self.turn, len(self.operations), call, False, tool_fits=False)
        wanted = self.craft.done(before, self.due)
        if wanted is None:
            return Step(self.turn, len(self.steps), call, None, tool_fits=True)
        fits = self.craft.calls(before, self.due)[-1].name == call.name
        return Step(self.turn, len(self.steps), call, self.world == wanted, fits)

    def _next(self) -> str:
        return f"Next: {self.due.words}" if self.due is not None else f"{ALL_DONE} {self.question}"

    def _watched(self, tool: Tool) -> Callable[..., Any]:
        async def call(**arguments: Any) -> Any:
            result = await tool.function(**arguments)
            self.accepted = True
            return result

        return call


# -------------------------------------------------------------------------------------------------------------- the task


@dataclass(frozen=True)
class Jobs(ABC):
    """What every task of jobs has in common; its `craft` says in which world."""

    horizon: int = 4
    """How many operations a job has."""
    told: str = AT_ONCE
    """`at_once`: all operations stand in the question; `one_by_one`: each is told when the one before has been carried out."""
    n_train: int = 256
    """How many jobs to train on."""
    n_test: int = 64
    """How many jobs to test on."""
    seed: int = 0
    """Which jobs are drawn."""

    def __post_init__(self) -> None:
        if min(self.horizon, self.n_train, self.n_test) < 1:
            raise UserError(f"{self.name} needs horizon, n_train and n_test of at least 1, not {self.horizon}, {self.n_train} and {self.n_test}")
        if self.told not in (AT_ONCE, ONE_BY_ONE):
            raise UserError(f"{self.name} tells its operations {AT_ONCE} or {ONE_BY_ONE}, not {self.told!r}")

    @property
    @abstractmethod
    def craft(self) -> Craft:
        """The world, and what may be done in it; hashable."""

    @property
    def name(self) -> str:
        return self.craft.name

    @property
    def world(self) -> JobWorld:
        """Where its problems are attempted."""
        return JobWorld(self.craft)

    def problems(self, split: str) -> Sequence[Problem]:
        """The jobs of `train` or `test`; no job is in both, whatever the seed. Raises UserError for another split."""
        check_split(split)
        return _problems(self.craft, self.horizon, self.told, split, self.n_train if split == "train" else self.n_test, self.seed)

    async def score(self, rollout: Rollout) -> Score:
        """1 if the world is exactly as it should be and the last number said is the one asked for; else 0.

        An attempt without a world of its own (a bare model's, a gold answer) is judged by the calls that its text holds.
        """
        trace = await self.trace(rollout)
        world = rollout.state["world"] if rollout.state else trace.state
        wanted = _final(self.craft, rollout.problem)
        report = str(self.craft.count(wanted, rollout.problem.data["asked"]))
        parts = {"world": float(world == wanted), "report": float(last_number(rollout.text) == report)}
        return Score(float(all(parts.values())), parts, _difference(world, wanted) or f"{rollout.problem.data['asked']} has {report}")

    def solution(self, problem: Problem) -> str:
        calls, state = [], deepcopy(problem.data["state"])
        for operation in _operations(problem):
            calls += self.craft.calls(state, operation)
            state = self.craft.done(state, operation)
        written = [f"{OPEN}\n{json.dumps({'name': c.name, 'arguments': dict(c.arguments)})}\n{CLOSE}" for c in calls]
        return "\n".join([*written, problem.answer])

    async def trace(self, rollout: Rollout) -> Trace:
        """What the attempt did, by carrying out its calls once more; history that its problem brings with it is not part of it."""
        async with self.world.open(rollout.problem) as env:
            begun, refused = len(env.steps), len(env.refused)
            for message in _carried_out(rollout):
                await env.reply(message)
            whole = env.trace()
        return replace(whole, steps=whole.steps[begun:], refused=whole.refused[refused:])

    async def continued(self, problem: Problem, length: int, wrong: Collection[int] = (), seed: int = 0) -> Problem:
        """The same job with the first `length` operations carried out before it begins: those in `wrong` wrongly, the others right.

        An attempt at it is over after its first step. It counts as the cluster of the problem that it was made of. Raises
        ValueError for a length that leaves nothing to do.
        """
        if not 0 <= length < len(problem.data["operations"]):
            raise ValueError(f"a job of {len(problem.data['operations'])} operations cannot go on after {length}")
        messages = list(problem.messages)
        async with self.world.open(problem) as env:
            for number in range(length):
                random = Random(fold(seed, problem.id, "slip", number))
                for call in self.next_calls(env, random if number in wrong else None):
                    said = Message("assistant", "", (replace(call, id=f"call{len(messages):05d}"),))
                    messages += [said, *(await env.reply(said)).messages]
        name = f"{problem.id}@{length}" + (f"-{'.'.join(map(str, sorted(wrong)))}" if wrong else "")
        return Problem(name, tuple(messages), problem.answer, {**problem.data, "stop_after": length + 1, "cluster": problem.id})

    def next_calls(self, env: JobEnv, random: Random | None = None) -> tuple[ToolCall, ...]:
        """The calls that carry out what is due, the last of them wrong if `random` is given; none where nothing can be."""
        if env.due is None or self.craft.done(env.world, env.due) is None:
            return ()
        calls = self.craft.calls(env.world, env.due)
        return calls if random is None else (*calls[:-1], self.craft.slip(env.world, env.due, random))


@cache
def _problems(craft: Craft, horizon: int, told: str, split: str, size: int, seed: int) -> tuple[Problem, ...]:
    random, found = Random(fold(seed, craft.name, split, horizon)), {}
    while len(found) < size:
        opening = craft.draw(random, horizon)
        content = json.dumps([opening.state, [o.words for o in opening.operations]])
        mark = int.from_bytes(blake2b(content.encode(), digest_size=6).digest(), "big")
        if (mark % 5 == 4) == (split == "test"):
            found[f"{craft.name}/{horizon}/{mark:012x}"] = opening
    return tuple(_problem(craft, name, opening, told) for name, opening in found.items())


def _problem(craft: Craft, name: str, opening: Opening, told: str) -> Problem:
    words = [operation.words for operation in opening.operations]
    listed = "\n".join(f"{i}. {text}" for i, text in enumerate(words, 1))
    job = f"Do this with your tools, in this order, and nothing else:\n{listed}\nWhen all is done: {opening.question}"
    asked = job if told == AT_ONCE else f"You are told one thing at a time. Do it with your tools, and nothing else.\nFirst: {words[0]}"
    data = {
        "state": opening.state, "operations": [asdict(operation) for operation in opening.operations], "told": told, "asked": opening.asked,
        "question": opening.question,
    }  # fmt: skip
    problem = Problem(name, (Message("user", f"{opening.words}\n{asked}"),), "", data)
    return replace(problem, answer=str(craft.count(_final(craft, problem), opening.asked)))


def _operations(problem: Problem) -> list[Operation]:
    return [Operation(**row) for row in problem.data["operations"]]


def _final(craft: Craft, problem: Problem) -> State:
    """The world when everything has been done."""
    state: State = deepcopy(problem.data["state"])
    for operation in _operations(problem):
        state = craft.done(state, operation)
    return state


def _carried_out(rollout: Rollout) -> list[Message]:
    """The assistant's turns with the calls that were answered; without a world, with the calls that their words hold."""
    said = [message for message in rollout.messages if message.role == "assistant"]
    if not rollout.state:
        return [message if message.tool_calls else replace(message, tool_calls=read_tags(message.content).calls) for message in said]
    answered = {message.tool_call_id for message in rollout.messages if message.role == "tool"}
    return [replace(message, tool_calls=tuple(call for call in message.tool_calls if call.id in answered)) for message in said]


def _difference(world: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where they differ first, in words; nothing where they do not."""
    for key in sorted({*world, *wanted}):
        if world.get(key) != wanted.get(key):
            return f"{key} is {world.get(key)!r} and should be {wanted.get(key)!r}"
    return ""
