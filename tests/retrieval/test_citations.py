"""What an answer says is looked for in the sources, sentence by sentence; what bears it out is a span of its document."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posttrain.retrieval.citations import check, missing_names
from posttrain.retrieval.passages import Passage

BOOK = "Preface. The bridge of Velmora was built in 1482. It has nine arches of grey stone!\n\nThe bridge of Velmira was built in 1611."
PASSAGES = [Passage("b:9-84", BOOK[9:84], 0.0, "b", 9, 84), Passage("b:86-130", BOOK[86:], 0.0, "b", 86, len(BOOK))]
QUESTION = "When was the bridge of Velmora built?"


def test_a_sentence_is_borne_out_by_a_span_of_the_document():
    found = check("It was built in 1482 [1].", QUESTION, PASSAGES)
    (citation,) = found.citations
    assert citation.quote == BOOK[citation.start : citation.end] == "The bridge of Velmora was built in 1482."
    assert (citation.said, citation.source, citation.support, citation.named) == ("It was built in 1482.", "b", 1.0, True)
    assert found.is_supported and not found.wrong_marks


def test_a_mark_behind_the_full_stop_belongs_to_the_sentence_before_it():
    found = check("It was built in 1482.[1] It has nine arches. [1]", QUESTION, PASSAGES)
    assert [(c.said, c.named) for c in found.citations] == [("It was built in 1482.", True), ("It has nine arches.", True)]


def test_a_mark_that_names_the_wrong_source_is_found_out_and_the_right_one_found():
    found = check("It was built in 1482 [2], [7].", QUESTION, PASSAGES)
    assert found.wrong_marks == (2, 7) and found.citations[0].passage == "b:9-84" and not found.citations[0].named


def test_a_number_that_stands_nowhere_bears_nothing_out():
    found = check("The bridge was built in 1999 of grey stone.", QUESTION, PASSAGES)
    assert found.citations == () and found.unsupported == ("The bridge was built in 1999 of grey stone.",) and not found.is_supported


def test_one_sentence_without_support_is_enough_to_doubt_an_answer():
    found = check("It was built in 1482. Dragons guard the treasure.", QUESTION, PASSAGES)
    assert found.unsupported == ("Dragons guard the treasure.",) and len(found.citations) == 1 and not found.is_supported


def test_an_answer_about_a_name_that_no_source_has_is_not_supported():
    found = check("It was built in 1482.", "When was the bridge of Zorbulon built?", PASSAGES)
    assert found.missing_names == ("Zorbulon",) and found.citations and not found.is_supported
    assert missing_names("Velmora: Who built it? When, in 1482?", PASSAGES) == ()


def test_of_equal_quotes_the_one_nearest_the_question_counts():
    twice = [Passage("a", "The bridge of Velmira was built in 1482.", 0.0, "a", 0, 40), *PASSAGES]
    assert check("1482", QUESTION, twice).citations[0].source == "b"


def test_an_answer_of_no_words_says_nothing():
    assert not check("", QUESTION, PASSAGES).is_supported and not check("[1] ...", QUESTION, PASSAGES).is_supported


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=120), max_size=3), st.floats(0, 1))
def test_every_quote_stands_at_its_place_whatever_is_said(answer, texts, least):
    passages = [Passage(f"p{i}", text, 0.0, f"p{i}", 0, len(text)) for i, text in enumerate(texts)]
    sources = dict(enumerate(texts)) and {p.id: p.text for p in passages}
    for citation in check(answer + " ".join(texts), "What?", passages, least).citations:
        assert sources[citation.source][citation.start : citation.end] == citation.quote and citation.support >= least


def test_an_answer_in_japanese_is_borne_out_by_a_span_too():
    text = "東京タワーの高さは333メートルです。エッフェル塔の高さは330メートルです。"
    found = check("高さは333メートルです。", "東京タワーの高さは?", [Passage("t", text, 0.0, "t", 0, len(text))])
    assert found.is_supported and text[found.citations[0].start : found.citations[0].end] == "東京タワーの高さは333メートルです。"
    assert not check("高さは444メートルです。", "東京タワーの高さは?", [Passage("t", text, 0.0, "t", 0, len(text))]).is_supported
