"""A Python that remembers from call to call, and whose every end is told to the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from posttrain.agents.conversation import Transcript
from posttrain.agents.scripted import ScriptedSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.sandbox import Limits
from posttrain.tools.calling import Calling
from posttrain.tools.python import Python
from posttrain.types import Message, Problem, ToolCall
from tests.sandboxed import needs_sandbox

pytestmark = needs_sandbox


def told(codes: Sequence[str], box: Python | None = None, **more: Any) -> list[str]:
    async def run() -> list[str]:
        async with Calling((box or Python(packages=False),), **more).open(Problem("p", (), "")) as env:
            message = Message("assistant", "", tuple(ToolCall("python", {"code": code}) for code in codes))
            return [m.content for m in (await env.reply(message)).messages]

    return asyncio.run(run())


def test_what_one_call_defines_the_next_can_use_and_values_are_shown() -> None:
    assert told(["x = 6", "def f(n):\n    return n * x", "print('é')\nf(7)", "None"]) == [
        "(nothing was printed)", "(nothing was printed)", "é\n42\n", "(nothing was printed)",
    ]  # fmt: skip


def test_an_exception_is_told_from_the_models_own_lines_on_and_ends_nothing() -> None:
    first, second, third, fourth = told(["x = 1\ny = x / 0", "1 +", "raise SystemExit(3)", "x"])
    assert first == 'Traceback (most recent call last):\n  File "<call 1>", line 2, in <module>\n    y = x / 0\n         ~~^~~\nZeroDivisionError: division by zero\n'
    assert second.splitlines()[-1] == "SyntaxError: invalid syntax" and "ast.py" not in second
    assert third.endswith("SystemExit: 3\n") and fourth == "1\n"


def test_child_processes_are_heard_too_and_a_flood_is_cut() -> None:
    child, flood = told(["import subprocess; subprocess.run(['echo', 'child'])", "print('a' * 10**6)"], answer_chars=200)
    assert child.startswith("child\n") and len(flood) < 300 and "left out" in flood


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "the code had not ended after 0.5 s; a new interpreter begins empty"),
        ("import os; os._exit(3)", "exit code 3); a new one begins empty"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "a new one begins empty"),
        ("import os, sys; os.write(int(sys.argv[-1]), b'\\x00\\x00\\x00\\x02no' )", "cannot be read"),
        ("import os, sys; os.write(int(sys.argv[-1]), b'\\xff' * 4)", "a new one begins empty"),
    ],
)
def test_an_interpreter_that_hangs_ends_or_talks_nonsense_is_told_of_and_a_new_one_begins(code: str, reason: str) -> None:
    begun = time.monotonic()
    before, bad, *after = told(["x = 1", code, "'x' in globals()"], Python(call_s=0.5, packages=False))
    assert before == "(nothing was printed)" and bad.startswith("error: ") and reason in bad
    if "cannot be read" not in reason:
        assert after == ["False\n"]
    assert time.monotonic() - begun < 10


def test_memory_is_bounded_and_the_host_is_not_there() -> None:
    limits = Limits(wall_s=60, memory_bytes=128 << 20)
    much, host = told(["x = [bytearray(1 << 20) for _ in range(10**4)]", "import os; sorted(os.listdir('/box'))"], Python(limits=limits, packages=False))
    assert "memory" in much.lower()
    assert host == "['main.py']\n"


def test_an_attempt_that_is_taken_up_finds_what_it_had_defined() -> None:
    codes = ["x = 6", "x * 7"]

    def say(transcript: Transcript, sample: int, seed: int) -> Message | str:
        turn = len(transcript.turns)
        return Message("assistant", "", (ToolCall("python", {"code": codes[turn]}),)) if turn < 2 else "done"

    agent = ToolAgent(ScriptedSpeaker(say), Calling((Python(packages=False),)))
    begun = Transcript(Problem("p", (Message("user", "?"),), ""))
    (spoken,) = asyncio.run(agent.speaker.speak(begun, 1, 0, 99))
    cut_off = begun.spoke(spoken).answered((Message("tool", "(nothing was printed)"),), 0.1)
    assert asyncio.run(agent.go_on(cut_off)).messages[3].content == "42\n"


def test_every_attempt_has_its_own_and_all_are_gone_at_the_end() -> None:
    async def run() -> list[str]:
        async def one(n: int) -> str:
            async with Calling((Python(packages=False),)).open(Problem("p", (), "")) as env:
                await env.reply(Message("assistant", "", (ToolCall("python", {"code": f"x = {n}"}),)))
                return (await env.reply(Message("assistant", "", (ToolCall("python", {"code": "x"}),)))).messages[0].content

        return await asyncio.gather(*map(one, range(4)))

    assert asyncio.run(run()) == ["0\n", "1\n", "2\n", "3\n"]
