"""Tools as the partner of a model: its calls are run, one after the other, and their answers told."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from posttrain.tools.tool import Tool, Toolbox
from posttrain.types import Message, Problem, Reply, ToolCall, ToolError, UserError

LINGER_S = 1.0
"""How long a call that was stopped may take to end, before it is left to itself."""


@dataclass(frozen=True)
class Calling:
    """A `World` of tools: every attempt gets a set of its own, and is over when the model calls none."""

    boxes: Sequence[Toolbox]
    """Tools and toolboxes."""
    call_s: float = 30.0
    """How long one call may take, in seconds."""
    answer_chars: int = 8192
    """The longest answer, in characters: of a longer one the model is told the beginning and the end."""

    @asynccontextmanager
    async def open(self, problem: Problem, seed: int = 0) -> AsyncIterator[Caller]:
        """The tools of one attempt. Raises UserError where two have one name, and where one cannot be had."""
        async with AsyncExitStack() as stack:
            tools = [tool for box in self.boxes for tool in await stack.enter_async_context(box.open())]
            names = [tool.name for tool in tools]
            if len(set(names)) < len(names):
                raise UserError(f"two tools are called {max(names, key=names.count)}: give one of them another name")
            yield Caller({tool.name: tool for tool in tools}, self.call_s, self.answer_chars)


@dataclass(frozen=True)
class Caller:
    """The `Env` of one attempt: runs what the model calls."""

    by_name: Mapping[str, Tool]
    call_s: float
    answer_chars: int

    @property
    def tools(self) -> list[dict[str, Any]]:
        return [tool.schema for tool in self.by_name.values()]

    async def reply(self, message: Message) -> Reply:
        """The answers to the message's calls, in order; done where it calls nothing."""
        told = [Message("tool", await self._answer(call), (), call.id) for call in message.tool_calls]
        return Reply(tuple(told), done=not told)

    async def restore(self, message: Message) -> None:
        """Make those calls again whose results lay in a process that has ended; what others did has stayed."""
        for call in message.tool_calls:
            if call.name in self.by_name and self.by_name[call.name].rebuilds:
                await self._answer(call)

    def state(self) -> Mapping[str, Any]:
        return {}

    async def _answer(self, call: ToolCall) -> str:
        """What the call gives, or what is wrong with it, as text of bounded length."""
        try:
            return clipped(as_text(await self._run(call)), self.answer_chars)
        except ToolError as error:
            return clipped(f"error: {error}", self.answer_chars)

    async def _run(self, call: ToolCall) -> Any:
        if call.name not in self.by_name:
            raise ToolError(_unknown(call.name, list(self.by_name)))
        running = asyncio.ensure_future(self.by_name[call.name](call.arguments))
        try:
            await asyncio.wait({running}, timeout=self.call_s)
            if running.done():
                return running.result()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running}, timeout=LINGER_S)
        raise ToolError(f"{call.name} had not answered after {self.call_s:g} s and was stopped")


def as_text(value: Any) -> str:
    """A result as the model is told it: text as it is, nothing as `done`, bytes only where they are text, all else as JSON."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a character has no tokens
    if value is None:
        return "done"
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise ToolError(f"the answer is {len(value)} bytes that are no text") from None
    return as_text(json.dumps(value, ensure_ascii=False, default=str))


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning and its end with the number of characters left out between them."""
    if len(text) <= limit:
        return text
    half = max(1, limit // 2)
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _unknown(name: str, known: list[str]) -> str:
    closest = difflib.get_close_matches(name, known, n=1)
    return f"there is no tool '{name}'" + (f": did you mean {closest[0]}?" if closest else f"; there is {', '.join(known)}" if known else "")
