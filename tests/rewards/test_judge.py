"""A language model as the judge: grades, comparisons in both orders, and what happens to what cannot be read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.rewards.judge import GRADES, Judge, by_asking
from posttrain.types import Message, Problem, Rollout, Score, answered

ASKED = Problem("1", (Message("user", "Name a prime."),), "")


def judge(opinion) -> Judge:
    """A judge whose log-probs are `opinion(text, option)`."""

    async def option_logprobs(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        (message,) = messages
        return [opinion(message.content, option) for option in options]

    return Judge(option_logprobs)


def grade(asked: Judge, text: str) -> Score:
    return asyncio.run(asked.grade(answered(ASKED, text)))


def compare(asked: Judge, first: str, second: str) -> tuple[float, float]:
    return asyncio.run(asked.prefers_first(ASKED.messages, first, second))


# ---------------------------------------------------------------------------------------------------------------- pointwise


def test_a_grade_is_the_expected_one_between_0_and_1_by_hand() -> None:
    chances = dict(zip(GRADES, (0.1, 0.0, 0.2, 0.3, 0.4), strict=True))
    score = grade(judge(lambda text, option: math.log(chances[option]) if chances[option] else -math.inf), "7")
    assert score.value == pytest.approx((0 * 0.1 + 2 * 0.2 + 3 * 0.3 + 4 * 0.4) / 4)
    assert score.parts == pytest.approx({f"p({g})": p for g, p in chances.items()})


def test_a_grade_ignores_how_likely_it_is_that_the_judge_says_any_grade() -> None:
    say = lambda level: judge(lambda text, option: level - int(option))  # noqa: E731
    assert grade(say(0), "7").value == pytest.approx(grade(say(-30), "7").value)


def test_the_judge_reads_the_request_and_the_answer() -> None:
    seen: list[str] = []
    grade(judge(lambda text, option: seen.append(text) or 0.0), "seven {curly}")
    assert "Name a prime." in seen[0] and "seven {curly}" in seen[0]


@pytest.mark.parametrize("unreadable", [-math.inf, math.nan, math.inf])
def test_a_judgement_that_cannot_be_read_is_unscored_and_not_a_bad_grade(unreadable: float) -> None:
    score = grade(judge(lambda text, option: unreadable), "7")
    assert score.is_unscored and "no grade" in score.explanation


def test_an_attempt_that_failed_is_not_shown_to_the_judge() -> None:
    asked = judge(lambda text, option: pytest.fail("the judge was asked"))
    score = asyncio.run(asked.grade(Rollout(ASKED, (), outcome="error", error="no network")))
    assert score.is_unscored and "no network" in score.explanation


# ----------------------------------------------------------------------------------------------------------------- pairwise


def test_a_love_of_the_first_place_cancels() -> None:
    """The judge says A with 90%, whatever stands there."""
    loves_a = judge(lambda text, option: math.log(0.9 if option == "A" else 0.1))
    assert compare(loves_a, "7", "8") == pytest.approx((0.5, 0.8))
    assert compare(loves_a, "7", "7")[0] == 0.5


def test_a_preference_shines_through_a_love_of_a_place_and_is_the_same_from_either_side() -> None:
    def opinion(text: str, option: str) -> float:
        """Log-odds of 2 for the answer that says 7, and of 1 for place A."""
        seven_is_a = text.index("7") < text.index("8")
        return 1.0 * (option == "A") + 2.0 * ((option == "A") == seven_is_a)

    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    expected = (sigma(1 + 2) + 1 - sigma(1 - 2)) / 2
    assert compare(judge(opinion), "7", "8")[0] == pytest.approx(expected) and expected > 0.5
    assert compare(judge(opinion), "8", "7")[0] == pytest.approx(1 - expected)


def test_a_comparison_that_cannot_be_read_in_one_order_is_nan() -> None:
    one_way = judge(lambda text, option: -math.inf if text.index("7") < text.index("8") else 0.0)
    assert math.isnan(compare(one_way, "7", "8")[0])


def test_siblings_get_the_mean_chance_of_being_preferred() -> None:
    """A judge who is sure that the longer answer is better."""
    longer = judge(lambda text, option: 0.0 if option == ("A" if _length(text, "A") > _length(text, "B") else "B") else -math.inf)
    rollouts = [answered(ASKED, "x" * n) for n in (3, 9, 5)]
    failed = Rollout(ASKED, (), outcome="error", error="gone")
    scores = asyncio.run(longer.compare_all([*rollouts, failed]))
    assert [s.value for s in scores[:3]] == [0.0, 1.0, 0.5] and scores[0].parts == {"order": 0.0}
    assert scores[3].is_unscored


def test_siblings_without_a_comparison_that_could_be_read_are_unscored() -> None:
    scores = asyncio.run(judge(lambda text, option: math.nan).compare_all([answered(ASKED, "7"), answered(ASKED, "8")]))
    assert all(score.is_unscored and "could be read" in score.explanation for score in scores)


def _length(text: str, place: str) -> int:
    return text.split(f"[Answer {place}]\n")[1].split("\n")[0].count("x")


# ------------------------------------------------------------------------------------------------- a judge that only writes


def asked_to(write) -> Judge:
    return Judge(by_asking(ScriptedAgent(lambda problem, sample, seed: write(problem.messages[0].content, sample)), n=4))


def test_any_agent_can_be_the_judge_and_its_replies_are_counted() -> None:
    replies = ("A", "A.", "**A** is better", "B")
    p, moved = compare(asked_to(lambda text, sample: replies[sample]), "7", "8")
    assert (p, moved) == pytest.approx((0.5, 0.5))
    score = grade(asked_to(lambda text, sample: ("5", "5", "3", "1")[sample]), "7")
    assert score.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_a_reply_that_begins_with_no_option_counts_for_none() -> None:
    replies = ("Actually, both", "I would say B", "10", "A")
    assert compare(asked_to(lambda text, sample: replies[sample] if text.index("7") < text.index("8") else "B"), "7", "8")[0] == 1.0
    score = grade(asked_to(lambda text, sample: "Great answer!"), "7")
    assert score.is_unscored
    assert grade(asked_to(lambda text, sample: "10 out of 10"), "7").is_unscored, "10 is not the grade 1"
