"""Tools of MCP servers: real programs over stdio and HTTP, their complaints, and their deaths."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posttrain.agents.conversation import Limits
from posttrain.agents.scripted import ScriptedSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.tools.calling import Calling
from posttrain.tools.mcp import MCP
from posttrain.types import Message, Problem, Rollout, ToolCall, UserError

pytest.importorskip("mcp")
SERVER = str(Path(__file__).with_name("mcp_server.py"))
STDIO = {"command": sys.executable, "args": [SERVER]}
PROBLEM = Problem("p", (Message("user", "?"),), "")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, SERVER, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            time.sleep(0.05)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def attempt(servers: Mapping[str, Any], *calls: tuple[str, dict[str, Any]]) -> Rollout:
    """One call a turn, and then the end."""

    def say(transcript: Any, sample: int, seed: int) -> Message:
        turn = len(transcript.turns)
        return Message("assistant", "", (ToolCall(*calls[turn]),)) if turn < len(calls) else Message("assistant", "done")

    return asyncio.run(ToolAgent(ScriptedSpeaker(say), Calling((MCP(servers),)), Limits()).attempt(PROBLEM, 1))[0]


def told(rollout: Rollout) -> list[str]:
    return [m.content for m in rollout.messages if m.role == "tool"]


CALLS = (("add", {"a": 2, "b": 3}), ("add", {"a": "x", "b": 3}), ("count", {}), ("count", {}), ("fail", {}), ("picture", {}))


def check(answers: list[str]) -> None:
    assert answers[0] == "5" and answers[1] == "error: 'a' must be a whole number, not \"x\"" and answers[2:4] == ["1", "2"]
    assert answers[4].startswith("error: ") and "it is raining" in answers[4] and answers[5] == "(image of image/png, not shown)"


def test_a_program_is_started_for_each_attempt_and_keeps_its_state_within_it() -> None:
    check(told(attempt({"test": STDIO}, *CALLS)))


def test_an_address_is_spoken_to_likewise(address: str) -> None:
    check(told(attempt({"test": {"url": address}}, *CALLS)))


def test_a_server_that_dies_ends_the_attempt_as_an_error_with_its_record_whole() -> None:
    rollout = attempt({"test": STDIO}, ("add", {"a": 2, "b": 3}), ("die", {}), ("add", {"a": 2, "b": 3}))
    assert rollout.outcome == "error" and "is gone" in rollout.error
    assert told(rollout) == ["5"] and [m.role for m in rollout.messages] == ["assistant", "tool", "assistant"]


def test_with_several_servers_names_begin_with_theirs(address: str) -> None:
    rollout = attempt({"one": STDIO, "two": {"url": address}}, ("one_add", {"a": 1, "b": 1}), ("two_add", {"a": 2, "b": 2}), ("add", {}))
    assert told(rollout)[:2] == ["2", "4"] and "there is no tool 'add'" in told(rollout)[2]


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ({"command": "/no/such/program"}, "No such file"),
        ({"command": sys.executable, "args": ["-c", "import sys; print('no key was given', file=sys.stderr); sys.exit(1)"]}, "no key was given"),
        ({"url": "http://127.0.0.1:9/mcp"}, "cannot be used"),
    ],
)
def test_a_server_that_cannot_be_had_is_the_users_to_mend(server: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        attempt({"test": server})


def test_a_server_that_says_nothing_is_not_waited_for_long() -> None:
    async def run() -> None:
        async with MCP({"test": {"command": sys.executable, "args": ["-c", "import time; time.sleep(60)"]}}, start_s=0.5).open():
            pass

    begun = time.monotonic()
    with pytest.raises(UserError, match="silent for 0.5 s"):
        asyncio.run(run())
    assert time.monotonic() - begun < 10


def test_servers_are_read_from_the_usual_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"test": STDIO}}))
    assert MCP.from_file(str(file)).servers == {"test": STDIO}
    for content in ("", "{}", '{"mcpServers": {}}', '{"mcpServers": {"a": {"command": 3}}}', '{"mcpServers": {"a": 3}}'):
        file.write_text(content)
        with pytest.raises(UserError):
            MCP.from_file(str(file))
    with pytest.raises(UserError, match="cannot be read .No such file"):
        MCP.from_file(str(tmp_path / "nowhere.json"))
