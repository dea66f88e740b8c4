"""A sandboxed program that is talked to while it runs: frames of bytes over one descriptor, whose number is its last argument.

A frame is its length in four bytes, the largest first, and then so many bytes. What comes out is the program's own word, as all
that leaves a sandbox. Each has a thread that attends to it until it ends; as many as `MOST_TALKS` can stand at a time, and others
wait for one to end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from posttrain.sandbox.bubblewrap import SANDBOXES_AT_ONCE
from posttrain.sandbox.launch import attend_talk
from posttrain.sandbox.layers import PROBE_NUMBER, require
from posttrain.sandbox.program import Program, Ran

FIRST_NUMBER = SANDBOXES_AT_ONCE // 2
MOST_TALKS = PROBE_NUMBER - FIRST_NUMBER
MAX_FRAME = 1 << 22
"""A longer answer is taken for the end of all sense, and ends the talk."""

_lock = threading.Lock()
_free = list(range(FIRST_NUMBER, FIRST_NUMBER + MOST_TALKS))


class Ended(Exception):
    """The program has ended; how, in words."""


@asynccontextmanager
async def place() -> AsyncIterator[int]:
    """The number of a sandbox that may stand; waits until one is free."""
    while (number := _take()) is None:
        await asyncio.sleep(0.05)
    try:
        yield number
    finally:
        with _lock:
            _free.append(number)


def _take() -> int | None:
    with _lock:
        return _free.pop() if _free else None


@dataclass
class Talk:
    """One program, from its first frame to its end."""

    program: Program
    number: int
    _line: socket.socket | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _ran: Ran | None = None

    @property
    def begun(self) -> bool:
        return self._line is not None

    async def ask(self, frame: bytes) -> bytes:
        """Send a frame, and wait for the next that comes back; starts the program if need be.

        Raises Ended where it has ended, and UserError where the sandbox cannot be had. A question that is not waited for any
        more leaves the line in the middle of a frame: close the talk then.
        """
        if self._line is None:
            await self._begin()
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._line, len(frame).to_bytes(4, "big") + frame)
            size = int.from_bytes(await self._read(4), "big")
            return await self._read(size)
        except (ConnectionError, EOFError):
            await asyncio.to_thread(self._thread.join, 2.0)  # it is ending: let it say why, if it does not merely close the line
            raise Ended((await self.close()).explanation) from None

    async def close(self) -> Ran:
        """Have it ended, and say how it did."""
        self._stop.set()
        if self._thread is None:
            return Ran("stopped", explanation="it was never begun")
        while self._thread.is_alive():  # its end is a matter of milliseconds
            await asyncio.sleep(0.005)
        self._line.close()
        return self._ran or Ran("stopped", explanation="it was stopped")

    async def _begin(self) -> None:
        await asyncio.to_thread(require)
        self._line, theirs = socket.socketpair()
        self._line.setblocking(False)
        self._thread = threading.Thread(target=self._attend, args=(theirs.detach(),), name="sandboxed talk", daemon=True)
        self._thread.start()

    def _attend(self, theirs: int) -> None:
        self._ran = attend_talk(self.program, self.number, self._stop, theirs)

    async def _read(self, size: int) -> bytes:
        if size > MAX_FRAME:
            await self.close()
            raise Ended("what it sent was no answer")
        data = b""
        while len(data) < size:
            more = await asyncio.get_running_loop().sock_recv(self._line, size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
