"""Exact judges: the same text, and the last number, against texts that were written to deceive them."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain.rewards.exact import exact_number, exact_text, last_number, normalise, number
from posttrain.types import Message, Problem, answered

PROBLEM = Problem("p", (Message("user", "What is 17+25?"),), "42")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17+25=42", "42"),
        ("17 + 25 = 42.", "42"),
        ("The answer is **42**!", "42"),
        ("\\boxed{42}", "42"),
        ("$42", "42"),
        ("42 apples", "42"),
        ("it is...42", "42"),
        ("0042", "42"),
        ("42.00", "42"),
        ("1,234,567", "1234567"),
        ("1,2,3", "3"),
        ("12,34", "34"),
        ("3.50", "3.5"),
        (".5", "0.5"),
        ("= \N{MINUS SIGN}8", "-8"),
        ("17-25=-8", "-8"),
        ("-0", "0"),
        ("the 42nd", "42"),
        ("\u7b54\u6848\u662f42", "42"),
        ("first 42, then 7\n", "7"),
    ],
)
def test_the_last_number_is_read_whatever_is_around_it(text: str, expected: str):
    assert last_number(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "none", "x2", "17+25", "17 - 25", "9^9^9^9", "2**42", "1e9^1e9", "4e1", "1.2.3", "3/4", "\u0664\u0662", "5\N{EN DASH}8"],
)
def test_what_is_no_number_or_was_not_worked_out_is_no_answer(text: str):
    assert last_number(text) is None


@given(st.integers(), st.sampled_from(["{}", "= {}", "answer: {}.", "**{}**", "${}$", "a=1, b={}", "({})", "so {}\n\n"]))
def test_every_whole_number_is_read_back_from_every_dress(value: int, dress: str):
    assert last_number(dress.format(value)) == str(value)
    assert last_number(dress.format(f"{value:,}")) == str(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$18", "18"),
        ("\\$18", "18"),
        ("$18$.", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("+7", "7"),
        ("1,080", "1080"),
        ("00", "0"),
        ("-.50", "-0.5"),
    ],
)
def test_a_number_is_written_in_one_way_only(text: str, expected: str):
    assert number(text) == expected


@pytest.mark.parametrize("text", ["", "4$2", "--5", "1,08", "1e3", "5 6", "x", "$", ".", "\u0664"])
def test_what_is_not_all_a_number_is_none(text: str):
    assert number(text) is None


@given(st.text(max_size=200))
def test_no_text_breaks_the_judge_and_what_it_reads_is_a_number(text: str):
    read = last_number(text)
    assert read is None or number(read) == read


@pytest.mark.parametrize("piece", ["1,111", "-", "1.,", "9+", "(", " ", "1e", "9"])
def test_the_cost_grows_no_faster_than_the_text(piece: str):
    began = time.monotonic()
    last_number(piece * 100_000)
    normalise(piece * 100_000)
    assert time.monotonic() - began < 2


def test_numbers_longer_than_an_int_may_be_are_compared_digit_by_digit():
    digits = "7" * 20_000
    assert last_number(f"it is {digits}") == digits
    assert last_number(f"it is {digits}1") != digits


@pytest.mark.parametrize(
    ("text", "value"), [("17+25=42", 1), ("42", 1), ("41", 0), ("", 0), ("17+25", 0), ("42 41 40 7", 0), ("-42", 0), ("420", 0)]
)
def test_exact_number_scores_the_last_number_only(text: str, value: float):
    assert asyncio.run(exact_number(answered(PROBLEM, text))).value == value


def test_exact_number_refuses_a_problem_whose_answer_is_no_number():
    with pytest.raises(ValueError, match="no number: 'many'"):
        asyncio.run(exact_number(answered(Problem("p", (), "many"), "1")))


@pytest.mark.parametrize(
    ("text", "gold", "value"),
    [
        (" The  Cat. ", "the cat", 1),
        ("'Paris'", "paris", 1),
        ("Paris, France", "paris", 0),
        ("x\N{SUPERSCRIPT TWO}", "x2", 0),
        ("", "a", 0),
    ],
)
def test_exact_text_forgives_case_spaces_and_punctuation_and_nothing_else(text: str, gold: str, value: float):
    assert asyncio.run(exact_text(answered(Problem("p", (), gold), text))).value == value
