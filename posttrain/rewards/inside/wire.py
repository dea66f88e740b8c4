"""How tests and program speak with one another: JSON in frames, and values that cross as data.

None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, Decimal, Fraction and the types of
`datetime` cross as copies, subclasses as the type that they derive from: on the other side they are plain values again, with
nothing of the sender's in them. The plain types themselves cross too (`int`, as in "leave out what is an int"). Whatever else
the program has (functions, classes, generators, instances) stays with it, and crosses as a number that stands for it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

MAX_FRAME = 4 << 20
"""Bytes. A frame within it needs some 50 times as much memory at the most, whatever is in it."""
_LARGE = 1 << 62


class Gone(BaseException):
    """The other side has ended. No `Exception`: tests that forgive errors must not forgive this."""


class Unsendable(Exception):
    """A value that cannot cross: no data, on its way to a side that cannot hold it, or larger than a frame."""


class Connection:
    """Frames over two descriptors: a length in 4 bytes, then JSON."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads, self.writes = reads, writes

    def send(self, message: object) -> None:
        """Raises `Gone` if nobody reads any more, and `Unsendable` for what is larger than a frame."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_FRAME:
            raise Unsendable(f"a value of more than {MAX_FRAME} bytes cannot be handed over")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            while view:
                view = view[os.write(self.writes, view) :]
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> object:
        """The next message. Raises `Gone` at the end, and for what is no frame; RecursionError or ValueError for JSON that is none."""
        length = int.from_bytes(self._exactly(4), "big")
        if length > MAX_FRAME:
            raise Gone
        return json.loads(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = os.read(self.reads, min(count - len(data), 1 << 16))
            if not piece:
                raise Gone
            data += piece
        return bytes(data)


_COLLECTIONS = {"l": list, "t": tuple, "s": set, "f": frozenset}
_IN_PARTS = {
    "c": (complex, lambda value: (value.real, value.imag), complex),
    "b": (bytes, lambda value: (value.hex(),), bytes.fromhex),
    "a": (bytearray, lambda value: (value.hex(),), bytearray.fromhex),
    "r": (range, lambda value: (value.start, value.stop, value.step), range),
    "D": (Decimal, lambda value: (str(value),), Decimal),
    "F": (Fraction, lambda value: (str(value),), Fraction),
    "T": (datetime.datetime, lambda value: (value.isoformat(),), datetime.datetime.fromisoformat),  # a date too, so before it
    "Y": (datetime.date, lambda value: (value.isoformat(),), datetime.date.fromisoformat),
    "H": (datetime.time, lambda value: (value.isoformat(),), datetime.time.fromisoformat),
    "E": (datetime.timedelta, lambda value: (value.days, value.seconds, value.microseconds), datetime.timedelta),
}
"""tag: (type, its parts as JSON, the value of such parts)."""
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range)}


def pack(value: object, hold: Callable[[object], int]) -> object:
    """The value as JSON; `hold` gives the number of one that is no data, or raises `Unsendable`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -_LARGE < value < _LARGE else ["i", hex(value)]
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return ["d", *(pack(part, hold) for item in dict.items(value) for part in item)]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["k", value.__name__]
    for tag, kind in _COLLECTIONS.items():
        if isinstance(value, kind):
            return [tag, *(pack(item, hold) for item in kind.__iter__(value))]
    for tag, (kind, parts, _) in _IN_PARTS.items():
        if isinstance(value, kind):
            return [tag, *parts(value)]
    return ["o", hold(value)]


def unpack(data: object, stand_in: Callable[[int], object]) -> object:
    """The value of such JSON; `stand_in` gives what stands for a value that stayed where it is. Raises ValueError for other JSON."""
    if not isinstance(data, list):
        return data
    tag, *parts = data
    if tag == "i":
        return int(parts[0], 16)
    if tag == "o":
        return stand_in(int(parts[0]))
    if tag == "k":
        return _TYPES[parts[0]]
    if tag in _IN_PARTS:
        return _IN_PARTS[tag][2](*parts)
    values = [unpack(part, stand_in) for part in parts]
    if tag == "d":
        return dict(zip(values[::2], values[1::2], strict=True))
    if tag in _COLLECTIONS:
        return _COLLECTIONS[tag](values)
    raise ValueError(f"no value: {tag!r}")
