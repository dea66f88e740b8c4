"""The mathematical judge: which answer counts, what it equals, and what happens to texts written to break it."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from posttrain.rewards.math_equal import final_answer, math_answer, math_equal
from posttrain.types import Message, Problem, answered


def judged(text: str, gold: str, timeout_s: float = 5.0) -> float:
    return asyncio.run(math_equal(text, gold, timeout_s)).value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{41}, no, \boxed{42}", "42"),
        (r"\boxed{42}" * 1000, "42"),
        (r"\boxed{42} and \boxed{}" + r"\boxed{}" * 1000, "42"),
        (r"\boxed{42} then \boxed{\frac{1}{2", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {42}", "42"),
        ("{{{ \\boxed{42}", "42"),
        ("#### 41\nno:\n#### 42 ####\n####", "42"),
        ("\\boxed{42}\n#### The proof", "42"),
        ("####" * 1000, None),
        ("\\boxed{" * 1000, None),
        ("42", None),
        ("", None),
    ],
)
def test_the_last_closed_box_counts_and_without_one_the_last_hashes(text: str, answer: str | None):
    assert final_answer(text) == answer


GOLD = [
    "42",
    "-7",
    "1,080",
    "10,\\!080",
    "3.5",
    ".5",
    r"\frac{14}{3}",
    r"\frac12",
    r"11\sqrt2",
    r"2\pi",
    r"\left( 3, \frac{\pi}{2} \right)",
    r"(-\infty, 2]",
    "x^2+2x+1",
    r"\text{Evelyn}",
    r"\text{(C)}",
    r"90^\circ",
    r"\$32,\!348",
    r"50\%",
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    "1,-2",
    r"\{1, 2\}",
    "3+4i",
    "2516_8",
    r"x \in [-2,7]",
    "p - q",
    r"6 - 5i",
    r"\infty",
    "4210_{5}",
    r"10\text{ cm}",
]


@pytest.mark.parametrize("gold", GOLD)
def test_the_gold_answer_scores_1_in_a_box_and_after_hashes_and_a_changed_one_scores_0(gold: str):
    assert judged(f"so \\boxed{{{gold}}}.", gold) == 1
    assert judged(f"so\n#### {gold}", gold) == 1
    assert judged(r"so \boxed{987654}.", gold) == 0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac{28}{6}", r"\frac{14}{3}"),
        ("0.5", r"\frac12"),
        ("42.0", "42"),
        ("$1,080", "1080"),
        ("18 dollars", "18"),
        ("5 hours.", "5"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("x=42", "42"),
        ("Evelyn", r"\text{Evelyn}"),
        ("(-\\infty,2]", r"(-\infty, 2]"),
        ("-2, 1", "1,-2"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        ("50", r"50\%"),
        ("3 + 4i", "4i+3"),
        ("042", "42"),
        (r"\text{42}", "42"),
    ],
)
def test_another_way_to_write_the_same_scores_1(answer: str, gold: str):
    assert judged(f"\\boxed{{{answer}}}", gold) == 1


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1,2,3,42", "42"),
        ("41 or 42", "42"),
        ("5 million", "5"),
        ("2 and 3", "2"),
        ("-42", "42"),
        ("420", "42"),
        (r"\frac{1}{3}", "0.33"),
        ("[3,4)", "(3,4)"),
        ("1/0", "1"),
        ("9^9^9^9", "9"),
        ("1e9^1e9", "1"),
        ("\u0664\u0662", "42"),
        ("nan", "1"),
        ("__import__('os')", "1"),
        ("9" * 5000, "9"),
        (r"\frac{" * 200, "1"),
        (")(", "1"),
        ("\x00", "1"),
    ],
)
def test_another_answer_and_nonsense_score_0(answer: str, gold: str):
    assert judged(f"#### {answer}", gold) == 0


@pytest.mark.parametrize(
    "text", ["", "none of these", "####" * 1000, r"\boxed{}" * 1000, "\\boxed{" * 1000, "{" * 10_000, "$" * 10_000]
)
def test_a_text_without_an_answer_scores_0(text: str):
    assert judged(text, "42") == 0


@pytest.mark.parametrize(("text", "value"), [("The answer is 42.", 1), ("A: $42", 1), ("42 is wrong, it is 41", 0)])
def test_a_text_without_marks_is_searched(text: str, value: float):
    assert judged(text, "42") == value


@pytest.mark.parametrize("answer", ["9^{9^{9^9}}", "10^{10^{10^{10}}}", "(" * 3000, "(x+1)^{2000}"])
def test_what_hangs_the_judge_is_unscored_in_time_with_the_reason_and_the_next_text_is_judged(answer: str):
    asyncio.run(math_equal(r"\boxed{\frac{2}{4}}", r"\frac12"))  # so that starting a worker is not measured below
    began = time.monotonic()
    score = asyncio.run(math_equal(f"\\boxed{{{answer}}}", "9", timeout_s=0.5))
    assert time.monotonic() - began < 5
    assert score.is_unscored
    assert "no verdict: it had not finished after 0.5 s" in score.explanation
    assert judged(r"\boxed{\frac{2}{4}}", r"\frac12") == 1


def test_many_are_judged_at_once_and_hanging_ones_among_them_spoil_only_themselves():
    async def many() -> list[float]:
        texts = [r"\boxed{9^{9^{9^9}}}" if i % 16 == 0 else f"\\boxed{{\\frac{{{i}}}{{2}}}}" for i in range(32)]
        return [score.value for score in await asyncio.gather(*(math_equal(text, r"\frac{5}{2}", 1.0) for text in texts))]

    values = asyncio.run(many())
    assert [i for i, value in enumerate(values) if math.isnan(value)] == [0, 16]
    assert [i for i, value in enumerate(values) if value == 1] == [5]


def test_as_a_reward_it_judges_the_last_thing_said():
    rollout = answered(Problem("p", (Message("user", "?"),), "42"), r"\boxed{84/2}")
    assert asyncio.run(math_answer(rollout)).value == 1
