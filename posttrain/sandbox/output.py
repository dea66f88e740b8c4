"""The beginning and the end of a stream of any length, in bounded memory."""

from __future__ import annotations


class HeadAndTail:
    """Keeps the first and the last `limit / 2` bytes of what is written to it."""

    def __init__(self, limit: int) -> None:
        self.half = max(1, limit // 2)
        self.head, self.tail = bytearray(), bytearray()
        self.total = 0

    def write(self, data: bytes) -> None:
        self.total += len(data)
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self.half:  # seldom, so that many small writes cost no more than one large one
            del self.tail[: -self.half]

    def text(self) -> str:
        """Both ends as text; between them, how much is missing."""
        tail = self.tail[-self.half :]
        missing = self.total - len(self.head) - len(tail)
        ends = [bytes(end).decode("utf-8", "replace") for end in (self.head, tail)]
        return f"{ends[0]}\n… {missing} bytes left out …\n{ends[1]}" if missing else bytes(self.head + tail).decode("utf-8", "replace")
