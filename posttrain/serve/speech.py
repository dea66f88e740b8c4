"""A completion as text while it is being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from posttrain.engine.stops import Decode, cut

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass
class Speech:
    """Turns tokens into text that will not have to be taken back: no half character, no beginning of a stop."""

    decode: Decode
    stops: Sequence[str] = ()
    unspoken: Sequence[int] = ()
    """Tokens that are no words: the ends of a turn."""
    _ids: list[int] = field(default_factory=list)
    _text: str = ""
    _said: int = 0
    """Characters of the text given out."""
    _context: int = 0
    _start: int = 0

    def add(self, token_id: int) -> str:
        """What can be said after one more token."""
        if token_id not in self.unspoken:
            self._ids.append(token_id)
            grown = self.decode(self._ids[self._context :])
            if not grown.endswith(REPLACEMENT):
                self._take(grown)
        return self._give(len(self._text) - self._held())

    def end(self) -> str:
        """The rest, a broken character included."""
        self._take(self.decode(self._ids[self._context :]))
        return self._give(len(self._text))

    def _take(self, grown: str) -> None:
        """Each token is decoded behind those before it: some tokenizers drop a space at the start of a text."""
        self._text += grown[len(self.decode(self._ids[self._context : self._start])) :]
        self._context, self._start = self._start, len(self._ids)

    def _held(self) -> int:
        """Characters at the end that a stop may begin with."""
        sizes = [k for stop in self.stops for k in range(1, len(stop)) if self._text.endswith(stop[:k])]
        return max(sizes, default=0)

    def _give(self, until: int) -> str:
        until = min(until, len(cut(self._text, self.stops)))
        said, self._said = self._text[self._said : until], max(self._said, until)
        return said
