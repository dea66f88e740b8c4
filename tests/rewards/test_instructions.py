"""The 25 checkers of instructions: for each, a text that follows and one that does not."""

from __future__ import annotations

import pytest

from posttrain.rewards.instructions import CHECKERS, Instruction, certainly_in, count_sentences, in_language, instructions_of, loose_variants

CASES = [
    ("keywords:existence", {"keywords": ["rain", "Sun"]}, "RAIN and sunshine", "rain alone"),
    ("keywords:frequency", {"keyword": "so", "frequency": 2, "relation": "at least"}, "so and SO", "so it is"),
    ("keywords:frequency", {"keyword": "so", "frequency": 2, "relation": "less than"}, "so it is", "so and SO"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "a Cat!"),
    ("keywords:letter_frequency", {"letter": "Q", "let_frequency": 2, "let_relation": "at least"}, "Quite quick", "quite"),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 1, "let_relation": "less than"}, "no such thing", "Even so"),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"}, "One. Two! Three?", "One. Two"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Dr. Who came at 3.5 p.m. today.", "One. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***a***b", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "so so"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "so so", "so so so"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, 'a b\n\n"Then, c', "then\n\na"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}, "a b\n\nc", "a b\n\nc\n\nd"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n\np. s. more", "Bye. PS: more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. more", "Bye.\nP.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n- b\n* c"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "maybe"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1\na\nDay 2\nb", "Day one, Day 2"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<a title>>\ntext", "<< >>"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******one******two******", "one******\n******two"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, " say it. Yes.", "Yes. Say it."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, 'So. "Any questions?"', "Any questions? No."),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I say NO", "I say no"),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "I say no", "U.S.A. and EU-wide BAN"),
    ("change_case:english_capital", {}, "IT IS WHAT WE DO FOR YOU AND ALL OF THEM", "It is what we do for you and all of them"),
    ("change_case:english_lowercase", {}, "it is what we do for you and all of them", "It is what we do for you and all of them"),
    ("punctuation:no_comma", {}, "so; and", "so, and"),
    ("startend:quotation", {}, ' "so" ', 'so "it"'),
    ("language:response_language", {"language": "ko"}, "모든 인간은 태어날 때부터 자유롭다.", "All people are born free and they have the same rights."),
]  # fmt: skip


@pytest.mark.parametrize(("id", "arguments", "follows", "breaks"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_each_instruction_is_followed_by_one_text_and_broken_by_another(id: str, arguments: dict, follows: str, breaks: str) -> None:
    instruction = Instruction(id, arguments)
    assert instruction.followed(follows) is True
    assert instruction.followed(breaks) is False
    assert instruction.followed(" \n") is False, "a reply that says nothing follows nothing"


def test_all_25_have_a_case() -> None:
    assert len(CHECKERS) == 25 and {case[0] for case in CASES} == set(CHECKERS)


@pytest.mark.parametrize(
    ("text", "n"),
    [("", 0), ("...", 0), ("One", 1), ("One.", 1), ("One. Two", 2), ("He said \"No.\" Then he left.", 2), ("Mr. A. Smith came. He left.", 2), ("So it was I. We left.", 2),
     ("Really?! Yes...", 2), ("It cost 3.50 in all.", 1), ("e.g. this one.", 1)],
)  # fmt: skip
def test_sentences_are_counted_by_a_rule_that_can_be_read(text: str, n: int) -> None:
    assert count_sentences(text) == n


def test_loosely_a_reply_may_open_and_close_with_other_words_and_bear_asterisks() -> None:
    no_comma = Instruction("punctuation:no_comma", {})
    assert no_comma.followed("Sure, here it is:\nall good\nBye, then") is False
    assert no_comma.loosely_followed("Sure, here it is:\nall good\nBye, then") is True
    assert no_comma.loosely_followed("Sure\na, b\nBye") is False
    ends = Instruction("startend:end_checker", {"end_phrase": "that is all"})
    assert ends.followed("So **that is all**") is False and ends.loosely_followed("So **that is all**") is True
    assert loose_variants("one") == ["one", "one"], "what is left without its only line says nothing"


def test_without_the_package_a_language_is_told_by_what_is_certain() -> None:
    assert certainly_in("मैं घर जाता हूँ", "hi") is None and certainly_in("the cat is on the mat", "hi") is False, "Hindi shares its script"
    assert certainly_in("ฉันกลับบ้าน", "th") is True and certainly_in("ฉันกลับบ้าน", "de") is False
    assert certainly_in("Alle Menschen sind frei geboren", "de") is None
    assert certainly_in("It is what we do for you and all of them", "de") is False
    assert certainly_in("It is what we do for you and all of them", "en") is True and certainly_in("Все люди", "en") is False


def test_with_the_package_a_language_is_detected() -> None:
    pytest.importorskip("langdetect")
    assert in_language("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", "de") is True
    assert in_language("Alle Menschen sind frei und gleich an Würde und Rechten geboren.", "nl") is False
    assert in_language("12345", "de") is None


def test_an_unknown_instruction_and_an_unknown_relation_are_named() -> None:
    with pytest.raises(ValueError, match="no instruction 'poem:rhyme'"):
        instructions_of(["poem:rhyme"], [{}])
    with pytest.raises(ValueError, match="'at least' or 'less than', not 'around'"):
        Instruction("length_constraints:number_words", {"num_words": 3, "relation": "around"}).followed("so")
    (kept,) = instructions_of(["punctuation:no_comma"], [{"num_words": None}])
    assert kept.arguments == {}, "arguments that are null are those of other instructions"
