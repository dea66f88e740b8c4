"""Python in a sandbox, kept between the calls of one attempt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from posttrain import sandbox
from posttrain.sandbox import Limits, require
from posttrain.sandbox.launch import START_S
from posttrain.sandbox.talk import Ended, Talk, place
from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolError

_INSIDE = Path(__file__).with_name("inside")
DEFAULT_LIMITS = Limits(wall_s=3600, cpu_s=600)
"""Of one interpreter in all; a single call has `call_s`."""


@dataclass(frozen=True)
class Python:
    """The tool `python`: an interpreter of its own for each attempt, begun with the first call, without network or the host's files.

    Raises UserError where there is no sandbox. At most `MOST_TALKS` attempts have one at a time; others wait for theirs.
    """

    call_s: float = 10.0
    """Seconds that one call may take; then the interpreter is ended, and what it held is lost: the model is told so."""
    limits: Limits = DEFAULT_LIMITS
    packages: bool = True
    """Whether `import` finds the packages that are installed here, numpy for instance."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Tool]]:
        await asyncio.to_thread(require)
        async with place() as number:
            interpreter = _Interpreter(self, number)
            try:
                yield (tool(interpreter.python, rebuilds=True),)
            finally:
                await interpreter.end()


@dataclass
class _Interpreter:
    settings: Python
    number: int
    talk: Talk | None = None

    async def python(self, code: str) -> str:
        """Run Python code. Variables, functions and imports stay for the next call. Gives what is printed, and the value of a last expression."""
        try:
            if self.talk is None:
                await self._begin()
            async with asyncio.timeout(self.settings.call_s):
                answer = await self.talk.ask(_asked(code))
        except TimeoutError:
            await self.end()
            raise ToolError(f"the code had not ended after {self.settings.call_s:g} s; a new interpreter begins empty") from None
        except Ended as error:
            await self.end()
            raise ToolError(f"the interpreter is gone ({error}); a new one begins empty") from None
        except asyncio.CancelledError:
            await self.end()
            raise
        return self._output(answer)

    async def _begin(self) -> None:
        """Start it, and wait until it stands: that does not count towards the call's time."""
        source = (_INSIDE / "interpreter.py").read_text()
        self.talk = Talk(sandbox.python(source, limits=self.settings.limits, packages=self.settings.packages), self.number)
        async with asyncio.timeout(START_S):
            await self.talk.ask(_asked(""))

    def _output(self, answer: bytes) -> str:
        """What it says that it printed: whatever runs inside may say anything."""
        try:
            output = json.loads(answer)["output"]
        except (ValueError, TypeError, KeyError, RecursionError):
            output = None
        if not isinstance(output, str):
            raise ToolError("the interpreter's answer cannot be read")
        return output or "(nothing was printed)"

    async def end(self) -> None:
        if self.talk is not None:
            talk, self.talk = self.talk, None
            await talk.close()


def _asked(code: str) -> bytes:
    return json.dumps({"code": code}).encode()
