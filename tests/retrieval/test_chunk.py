"""Passages know where they stand, leave nothing out, and keep within their size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.retrieval.chunk import Chunking, chunk
from posttrain.types import UserError

TEXTS = st.one_of(st.text(max_size=300), st.text(alphabet="ab .!\n\r\t。", max_size=300))
CHUNKINGS = st.builds(
    lambda unit, size, share: Chunking(unit, size, int(share * (size - 1))),
    st.sampled_from(["characters", "sentences", "paragraphs"]),
    st.integers(1, 60),
    st.floats(0, 1),
)


def texts(text: str, *chunking) -> list[str]:
    return [passage.text for passage in chunk("a", text, Chunking(*chunking))]


@given(TEXTS, CHUNKINGS)
def test_a_passage_is_what_stands_at_its_place(text, chunking):
    for passage in chunk("a.txt", text, chunking):
        assert text[passage.start : passage.end] == passage.text
        assert passage.id == f"a.txt:{passage.start}-{passage.end}"


@given(TEXTS, CHUNKINGS)
def test_every_character_that_is_not_blank_is_in_some_passage(text, chunking):
    covered = {i for passage in chunk("a", text, chunking) for i in range(passage.start, passage.end)}
    assert not [i for i, character in enumerate(text) if not character.isspace() and i not in covered]


@given(TEXTS, CHUNKINGS)
def test_passages_are_never_blank_never_too_long_and_each_ends_after_the_last(text, chunking):
    passages = chunk("a", text, chunking)
    assert all(passage.text == passage.text.strip() != "" and len(passage.text) <= chunking.size for passage in passages)
    for one, next in pairwise(passages):
        assert one.start < next.start and one.end < next.end
        assert one.end - next.start <= chunking.overlap


def test_characters_are_cut_into_windows_that_overlap():
    assert texts("abcdefghij", "characters", 4, 1) == ["abcd", "defg", "ghij"]
    assert texts("abcdefgh", "characters", 4, 0) == ["abcd", "efgh"]


def test_whole_sentences_are_packed_while_they_fit():
    text = "One two. Three! Four five six? Seven."
    assert texts(text, "sentences", 16, 0) == ["One two. Three!", "Four five six?", "Seven."]
    assert texts(text, "sentences", 24, 8) == ["One two. Three!", "Three! Four five six?", "Seven."]


def test_paragraphs_are_parted_by_an_empty_line_whatever_ends_a_line():
    assert texts("a b.\nc.\n\nd\r\n \r\ne", "paragraphs", 8, 0) == ["a b.\nc.", "d\r\n \r\ne"]


def test_a_sentence_that_is_too_long_is_cut_at_characters():
    assert texts("Ab. " + "x" * 10, "sentences", 6, 0) == ["Ab.", "xxxxxx", "xxxx"]


def test_a_text_of_blanks_has_no_passages():
    assert texts("") == texts(" \n\t ") == []


@pytest.mark.parametrize("chunking", [("words", 10, 0), ("characters", 0, 0), ("characters", 5, 5), ("characters", 5, -1)])
def test_what_cannot_be_cut_is_refused(chunking):
    with pytest.raises(UserError, match="give"):
        Chunking(*chunking)
