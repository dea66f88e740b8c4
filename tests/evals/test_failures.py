"""Each way to fail, as a trajectory that fails in that way and in no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from posttrain.agents.conversation import Limits, Spoken, Transcript
from posttrain.agents.scripted import ScriptedSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.evals.failures import UNREADABLE, Verdict, verdict
from posttrain.evals.measure import judge
from posttrain.tasks.ledger import Ledger
from posttrain.types import Message, Rollout, ToolCall

TASK = Ledger(3, operations=("add",), accounts=3)
PROBLEM = next(p for p in TASK.problems("test") if len({o["arguments"]["account"] for o in p.data["operations"]}) == 3)
GOLD = [Message("assistant", "", (ToolCall("add", o["arguments"]),)) for o in PROBLEM.data["operations"]]
DONE = f"It has {PROBLEM.answer}."
ACCOUNT = PROBLEM.data["operations"][0]["arguments"]["account"]


def calling(name: str, **arguments: object) -> Message:
    return Message("assistant", "", (ToolCall(name, arguments),))


def found(*turns: Message | str, speaker: object = None, **limits: object) -> tuple[Verdict, Rollout]:
    say = lambda transcript, sample, seed: turns[min(len(transcript.turns), len(turns) - 1)]  # noqa: E731
    agent = ToolAgent(speaker or ScriptedSpeaker(say), TASK.world, Limits(**{"steps": 12, **limits}))

    async def run() -> tuple[Verdict, Rollout]:
        (rollout,) = await agent.attempt(PROBLEM, 1)
        return verdict(rollout, await judge(TASK, rollout), await TASK.trace(rollout)), rollout

    return asyncio.run(run())


READ, NEVER_TOLD = calling("balance", account=ACCOUNT), "It must be 987 by now."
OFF_BY_ONE = calling("add", account=ACCOUNT, amount=PROBLEM.data["operations"][0]["arguments"]["amount"] + 1)
TO_ANOTHER = calling("add", account=ACCOUNT, amount=PROBLEM.data["operations"][1]["arguments"]["amount"])
WAYS = {
    "success": ([*GOLD, DONE], 3, False),
    "success, though it first called what is not there": ([calling("pay"), GOLD[0], READ, *GOLD[1:], DONE], 3, False),
    "wrong argument: another amount": ([OFF_BY_ONE, *GOLD[1:], DONE], 0, True),
    "wrong argument: another account": ([GOLD[0], TO_ANOTHER, GOLD[2], DONE], 1, True),
    "wrong argument: refused, and nothing after it": ([GOLD[0], calling("add", account="nobody", amount=1), "I stop."], 1, True),
    "wrong tool: another that changes the world": ([calling("transfer", source=ACCOUNT, target=ACCOUNT, amount=1), DONE], 0, True),
    "wrong tool: one that is not there, and nothing after it": ([GOLD[0], calling("pay", to=ACCOUNT), "I stop."], 1, True),
    "wrong tool: one more when all was done": ([*GOLD, GOLD[0], DONE], 3, False),
    "repeated loop: the same again and again": ([GOLD[0], READ], 1, True),
    "repeated loop: in a cycle": ([GOLD[0], *[READ, calling("pay")] * 4, "I stop."], 1, True),
    "hallucinated result: a tool's answer of its own": ([GOLD[0], "<tool_response>\nall done\n</tool_response>"], 1, True),
    "hallucinated result: a number never told": ([GOLD[0], NEVER_TOLD], 1, True),
    "hallucinated result: an untrue one at the end": ([*GOLD, "It has 987."], 3, False),
    "gave up: in words": (["I cannot do this."], 0, True),
    "gave up: half way": ([GOLD[0], GOLD[1], "That is all."], 2, True),
    "gave up: without the number": ([*GOLD, "All is done."], 3, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_fail_is_told_from_the_trajectory(way: str) -> None:
    turns, right, failed = WAYS[way]
    seen, _ = found(*turns)
    assert (seen.kind, seen.right, seen.failed) == (way.replace(",", ":").partition(":")[0], right, failed), seen.why
    assert bool(seen.why) == (seen.kind != "success")


def test_a_budget_that_ran_out_is_no_failed_step() -> None:
    seen, _ = found(GOLD[0], GOLD[1], steps=2)
    assert (seen.kind, seen.right, seen.failed, seen.why) == ("ran out", 2, False, "the limit of 2 steps was reached")


def test_what_went_wrong_first_decides() -> None:
    assert found(OFF_BY_ONE, READ, steps=6)[0].kind == "wrong argument"
    assert found(GOLD[0], READ, READ, READ, OFF_BY_ONE, DONE)[0].kind == "repeated loop"
    assert found("<tool_response>1</tool_response>")[0].kind == "hallucinated result"


def test_a_broken_machine_is_no_failure_of_the_model() -> None:
    def broken(transcript: Transcript, sample: int, seed: int) -> Message:
        if transcript.turns:
            raise ConnectionResetError("the server is gone")
        return GOLD[0]

    seen, rollout = found(speaker=ScriptedSpeaker(broken))
    assert (seen.kind, seen.right, seen.failed, seen.why) == ("infrastructure", 1, False, "ConnectionResetError: the server is gone")
    assert rollout.outcome == "error"


def test_a_call_that_cannot_be_read_is_a_wrong_argument_if_nothing_follows_it() -> None:
    class Garbled:
        async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
            complaint = (UNREADABLE.removeprefix("error: ") + ".",)
            return [Spoken(Message("assistant", "add(5"), complaints=complaint) if not transcript.turns else Spoken(Message("assistant", "Sorry."))]

    assert found(speaker=Garbled())[0].kind == "wrong argument"


def test_turns_that_repeat_and_are_right_are_no_loop() -> None:
    task = Ledger(3, operations=("add",), accounts=2)
    same: Callable[..., bool] = lambda p: len({str(o["arguments"]) for o in p.data["operations"]}) == 1  # noqa: E731
    problem = next((p for n in (64, 4096) for p in Ledger(3, operations=("add",), accounts=2, n_train=n).problems("train") if same(p)), None)
    assert problem is not None
    turns = [Message("assistant", "", (ToolCall("add", o["arguments"]),)) for o in problem.data["operations"]] + ["It is so."]
    agent = ToolAgent(ScriptedSpeaker(lambda t, *_: turns[len(t.turns)]), task.world)
    (rollout,) = asyncio.run(agent.attempt(problem, 1))
    trace, score = asyncio.run(task.trace(rollout)), asyncio.run(judge(task, rollout))
    assert verdict(rollout, score, trace).kind == "gave up"
