"""Rewards for form, and rewards made of rewards."""

from __future__ import annotations

import asyncio
import math

import pytest

from posttrain.rewards.exact import exact_number
from posttrain.rewards.format import came_to_an_end, has_marked_answer, matches
from posttrain.rewards.weighted import weighted
from posttrain.types import Problem, Rollout, Score, UserError, answered, unscored

PROBLEM = Problem("p", (), "42")


async def could_not_judge(rollout: Rollout) -> Score:
    return unscored("no judge today")


def test_a_marked_answer_is_a_closed_box_or_hashes():
    values = [
        asyncio.run(has_marked_answer(answered(PROBLEM, text))).value
        for text in (r"\boxed{1}", "#### 1", r"\boxed{1", "1", "####")
    ]
    assert values == [1, 1, 0, 0, 0]


def test_a_budget_that_ran_out_is_no_end_and_a_failed_machine_is_no_judgement():
    values = [asyncio.run(came_to_an_end(Rollout(PROBLEM, (), outcome=outcome))).value for outcome in ("terminated", "truncated")]
    assert values == [1, 0]
    assert asyncio.run(came_to_an_end(Rollout(PROBLEM, (), outcome="error", error="out of disk"))).is_unscored


@pytest.mark.parametrize(
    ("text", "value"), [("<think>a\nb</think> 42", 1), ("  <think></think>42\n", 1), ("42", 0), ("<think>a</think> 42 or so", 0)]
)
def test_a_pattern_must_match_all_of_the_text(text: str, value: float):
    assert asyncio.run(matches(r"<think>.*</think>\s*\d+")(answered(PROBLEM, text))).value == value


def test_a_pattern_that_takes_forever_on_a_text_leaves_it_unscored():
    score = asyncio.run(matches(r"(a+)+b", timeout_s=0.3)(answered(PROBLEM, "a" * 60)))
    assert score.is_unscored
    assert "not finished after 0.3 s" in score.explanation


def test_a_pattern_that_is_none_is_refused_before_any_text_is_judged():
    with pytest.raises(UserError, match="no regular expression"):
        matches("(")


def test_a_weighted_reward_is_the_sum_and_keeps_the_unweighted_parts():
    reward = weighted(exact=(exact_number, 1.0), form=(has_marked_answer, 0.25), length=(came_to_an_end, -0.5))
    score = asyncio.run(reward(answered(PROBLEM, "#### 42")))
    assert score.value == 1.0 + 0.25 - 0.5
    assert score.parts == {"exact": 1, "form": 1, "length": 1}
    assert "exact: last number 42, expected 42" in score.explanation


def test_one_part_that_could_not_be_judged_leaves_the_sum_unscored_and_the_other_parts_known():
    score = asyncio.run(weighted(exact=(exact_number, 1.0), learned=(could_not_judge, 0.1))(answered(PROBLEM, "42")))
    assert score.is_unscored
    assert score.parts["exact"] == 1
    assert math.isnan(score.parts["learned"])
    assert "learned: no judge today" in score.explanation


def test_a_part_with_weight_0_is_only_watched():
    score = asyncio.run(weighted(exact=(exact_number, 1.0), learned=(could_not_judge, 0.0))(answered(PROBLEM, "42")))
    assert score.value == 1
    assert math.isnan(score.parts["learned"])


def test_no_parts_and_infinite_weights_are_mistakes():
    with pytest.raises(ValueError, match="at least one"):
        weighted()
    with pytest.raises(ValueError, match="finite"):
        weighted(exact=(exact_number, math.inf))
