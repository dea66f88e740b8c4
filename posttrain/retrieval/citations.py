"""Is what an answer says in the sources: each sentence against the sentences that were shown, with the place of the one that bears it out.

No model is asked, and nothing is trusted that the answer says of itself: a number in brackets only says which source to look in. What is
checked is words, not meaning: that a sentence's own words stand in one sentence of one source. "Is not in Rome" is borne out by "is in
Rome"; a paraphrase in other words is not borne out by what it paraphrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from posttrain.retrieval.chunk import SENTENCE_END
from posttrain.retrieval.passages import UNSPACED, Passage

MARKER = re.compile(r"\s*\[(?:sources? )?(\d{1,3}(?:\s*,\s*\d{1,3})*)\]", re.IGNORECASE)
"""`[2]` or `[1, 3]`, the number of a source as it was shown, from 1."""

WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

COMMON = frozenset(
    "a about above according after also all an and answer any are as at be been by called can could did do does each for from had has have he her"
    " him his how i if in into is it its may more most no not of on one only or other our she so some source sources such than that the their them"
    " then there these they this those to was we were what when where which who whom whose why will with would you your".split()
)
"""Words that every text has; they bear nothing out."""


@dataclass(frozen=True)
class Citation:
    """The sentence of a source that bears out a sentence of an answer: `quote == document_text[start:end]`."""

    said: str
    """The sentence of the answer, without its marks."""
    passage: str
    """The passage's id."""
    source: str
    """The document's name."""
    start: int
    end: int
    quote: str
    support: float
    """The share of the answer's own words (those that neither the question nor every text has) that stand in the quote."""
    named: bool
    """Whether the answer itself named this source; if not, it was found for it."""


@dataclass(frozen=True)
class Checked:
    """An answer held against the sources that it was made from."""

    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    """Sentences of the answer that no sentence of a source bears out."""
    wrong_marks: tuple[int, ...]
    """Numbers in brackets of sources that were not shown, or that do not bear out what stands before them."""
    missing_names: tuple[str, ...]
    """Names that the question asks about and that stand in no source shown."""

    @property
    def is_supported(self) -> bool:
        """Whether every sentence is borne out, and what was asked about is in the sources at all."""
        return bool(self.citations) and not self.unsupported and not self.missing_names


def check(answer: str, question: str, passages: Sequence[Passage], least: float = 0.6) -> Checked:
    """Looks for what bears out each sentence of an answer, in the sources as they were shown.

    A sentence is borne out by a source's sentence that has at least a share `least` of its own words, and all of its numbers. The sources
    that it names are looked in first, then all; of equally good ones the one that shares most with the question counts, then the first.
    An answer without a word of its own ("yes", or the question again) is held to all its words.
    """
    asked = _words(question) - COMMON
    citations, unsupported, wrong = [], [], []
    for said, marks in _sentences(answer):
        named = [mark for mark in marks if 1 <= mark <= len(passages)]
        found = _best(said, asked, [passages[mark - 1] for mark in named], least)
        citation = found or _best(said, asked, passages, least)
        wrong += [mark for mark in marks if mark not in named or not _best(said, asked, [passages[mark - 1]], least)]
        if citation is None:
            unsupported.append(said)
        else:
            citations.append(_citation(said, *citation, named=found is not None))
    return Checked(tuple(citations), tuple(unsupported), tuple(wrong), missing_names(question, passages))


def missing_names(question: str, passages: Sequence[Passage]) -> tuple[str, ...]:
    """The names in a question (words with a capital that begin no sentence, and numbers) that stand in none of the passages."""
    known = set().union(*(_words(passage.text) for passage in passages))
    return tuple(name for name in _names(question) if name.casefold() not in known)


def _names(question: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?:])\s+|\n", question):
        for place, word in enumerate(WORD.findall(sentence)):
            if word.isdigit() or (place and word[0].isupper() and len(word) > 1):
                yield word


def _sentences(answer: str) -> Iterator[tuple[str, list[int]]]:
    """The answer's sentences, each with the sources it names; a mark behind the full stop belongs to the sentence before it."""
    moved = re.sub(rf"([.!?])((?:{MARKER.pattern})+)", r"\2\1", answer, flags=re.IGNORECASE)
    edges = [0, *(match.end() for match in SENTENCE_END.finditer(moved)), len(moved)]
    for start, end in zip(edges, edges[1:], strict=False):
        marks = [int(number) for match in MARKER.finditer(moved[start:end]) for number in match[1].split(",")]
        said = MARKER.sub("", moved[start:end]).strip()
        if _words(said):
            yield said, marks


def _best(said: str, asked: set[str], passages: Sequence[Passage], least: float) -> tuple[Passage, int, int, float] | None:
    """The passage and the place in it of the sentence that bears this out best; None where none does."""
    words = _words(said)
    own = words - asked - COMMON or words - COMMON or words
    numbers = {word for word in own if any(map(str.isdigit, word))}
    best, best_rank = None, (least, 0)
    for passage in passages:
        for start, end in _spans(passage.text):
            there = _words(passage.text[start:end])
            support = len(own & there) / len(own) if numbers <= there else 0.0
            rank = (support, len(asked & there))
            if rank > best_rank or (best is None and support >= least):
                best, best_rank = (passage, start, end, support), rank
    return best


def _citation(said: str, passage: Passage, start: int, end: int, support: float, named: bool) -> Citation:
    return Citation(said, passage.id, passage.source, passage.start + start, passage.start + end, passage.text[start:end], support, named)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences of a text stand, without the blanks around them."""
    edges = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    for start, end in zip(edges, edges[1:], strict=False):
        bare = text[start:end].strip()
        if bare:
            start += len(text[start:end]) - len(text[start:end].lstrip())
            yield start, start + len(bare)


def _words(text: str) -> set[str]:
    return {word.casefold() for word in WORD.findall(text)}
