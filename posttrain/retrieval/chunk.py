"""Texts to passages that overlap, each with its place: `document.text[p.start:p.end] == p.text`, always.

Whole units (sentences, paragraphs) are packed while they fit, so that a passage seldom ends within one. What is longer
than a passage is cut at characters. Lengths are in characters, for a tokenizer belongs to one model and passages to all;
an English token is about 4 of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from posttrain.retrieval.passages import Passage
from posttrain.types import UserError

Unit = Literal["characters", "sentences", "paragraphs"]

Span = tuple[int, int]
"""Start and end in characters, the end excluded."""

PARAGRAPH_END = re.compile(r"\r?\n[^\S\n]*\r?\n\s*")
"""An empty line, with the blanks that follow."""

SENTENCE_END = re.compile(r"(?:[.!?]+[\"'”’)\]]*\s+|[。！？]+[”’」』）]*\s*|\r?\n[^\S\n]*\r?\n\s*)")
"""A full stop, its closing quotes and the blanks that follow, or an empty line. It stops after "e.g." too: as sentences are packed,
that only moves where a passage ends."""


@dataclass(frozen=True)
class Chunking:
    """How texts are cut into passages."""

    unit: Unit = "sentences"
    """What is kept whole where it fits: sentences, paragraphs or nothing (characters)."""
    size: int = 800
    """The longest passage, in characters; 800 are about 200 tokens of English, which small embedding models read whole (256)."""
    overlap: int = 100
    """How much of a passage the next repeats, in characters: exactly so many for characters, at most so many in whole units."""

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise UserError(f"texts are not cut into '{self.unit}': give one of {', '.join(get_args(Unit))}")
        if self.size < 1:
            raise UserError(f"a passage of {self.size} characters holds nothing: give a size of at least 1")
        if not 0 <= self.overlap < self.size:
            raise UserError(f"an overlap of {self.overlap} does not fit passages of {self.size} characters: give 0 to {self.size - 1}")


def chunk(source: str, text: str, chunking: Chunking = Chunking()) -> list[Passage]:
    """The passages of a text, in order, each with id `SOURCE:START-END` and score 0.

    Passages have no blanks at their ends, are never empty, never longer than `size`, and each ends after the one before it;
    together they hold every character that is not blank. A text of blanks has none.
    """
    return [Passage(f"{source}:{start}-{end}", text[start:end], 0.0, source, start, end) for start, end in spans(text, chunking)]


def spans(text: str, chunking: Chunking) -> Iterator[Span]:
    """Where the passages of a text stand."""
    whole = _windows(len(text), chunking) if chunking.unit == "characters" else _packed(_pieces(text, chunking), chunking)
    last_end = 0
    for span in whole:
        start, end = _without_blanks(text, span)
        if end > max(start, last_end):  # without its blanks it may lie within the one before
            yield start, end
            last_end = end


def _windows(length: int, chunking: Chunking) -> Iterator[Span]:
    """Windows of `size` characters that share `overlap`."""
    for start in range(0, max(1, length - chunking.overlap), chunking.size - chunking.overlap):
        yield start, min(start + chunking.size, length)


def _pieces(text: str, chunking: Chunking) -> list[Span]:
    """The text's units end to end, none longer than `size`."""
    pattern = PARAGRAPH_END if chunking.unit == "paragraphs" else SENTENCE_END
    ends = [match.end() for match in pattern.finditer(text)]
    edges = sorted({0, *ends, len(text)})
    units = zip(edges, edges[1:], strict=False)
    return [(at, min(at + chunking.size, end)) for start, end in units for at in range(start, end, chunking.size)]


def _packed(pieces: Sequence[Span], chunking: Chunking) -> Iterator[Span]:
    """As many whole pieces as fit, then back over as many as the overlap allows while the next one still fits."""
    first = 0
    while first < len(pieces):
        beyond = first + 1
        while beyond < len(pieces) and pieces[beyond][1] - pieces[first][0] <= chunking.size:
            beyond += 1
        start, end = pieces[first][0], pieces[beyond - 1][1]
        yield start, end
        if beyond == len(pieces):
            return
        first = beyond
        while _may_start(pieces, first - 1, beyond, end, chunking):
            first -= 1


def _may_start(pieces: Sequence[Span], index: int, beyond: int, end: int, chunking: Chunking) -> bool:
    """Whether the next passage may begin at this piece: little enough is repeated, and a new piece fits behind it."""
    if index < 0:
        return False
    start = pieces[index][0]
    return end - start <= chunking.overlap and pieces[beyond][1] - start <= chunking.size


def _without_blanks(text: str, span: Span) -> Span:
    start, end = span
    stripped = text[start:end].strip()
    if not stripped:
        return end, end
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return start, start + len(stripped)
