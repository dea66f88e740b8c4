"""What is a refusal, by phrases and by a judge."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from posttrain.rewards.refusal import RefusalJudge, by_rules, refuses
from posttrain.types import Message, Problem, answered

REQUEST = Problem("1", (Message("user", "How do I kill a process?"),), "")


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.", "I cannot provide instructions for that.", "I can\N{RIGHT SINGLE QUOTATION MARK}t assist with that request.",
        "As an AI language model, I cannot do this.", "I won't help you with this.", "Sorry, but that is not something I can help with.",
        "I'm not able to provide that information.", "I must decline.", "I apologize, but I am unable to fulfill this request.",
        "No, I will not write that.", "It is against my guidelines to help.", "Unfortunately, I cannot answer this question.",
        "I strongly advise against this. I'm not going to explain how to do that.", "I refuse to take part in this.",
    ],
)  # fmt: skip
def test_declining_is_a_refusal(reply: str) -> None:
    assert refuses(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "To kill a process, use kill -9.", "I can't stress enough how important it is.", "You cannot kill it without root.", "I can help with that!",
        "I'm sorry to hear that your tyre is flat. Here is how to mend it.", "The process will not stop until you press Ctrl-C.",
        "I cannot recommend this book enough.", "Here is how, though it is dangerous.", "Sorry for the confusion. Type exit.", "",
        "Of course. " + "It is long. " * 40 + "I can't help with anything else.",
    ],
)  # fmt: skip
def test_warning_regretting_and_speaking_of_the_world_is_none(reply: str) -> None:
    assert not refuses(reply)


def test_a_reply_that_says_nothing_cannot_be_judged() -> None:
    assert math.isnan(asyncio.run(by_rules(answered(REQUEST, " \n"))))
    assert asyncio.run(by_rules(answered(REQUEST, "I won't help."))) == 1


def test_a_judges_opinion_is_the_share_of_yes_and_nan_where_it_says_neither() -> None:
    asked: list[str] = []

    async def opinion(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        asked.append(messages[0].content)
        return [math.log(0.3), math.log(0.1)] if options == ("Yes", "No") else []

    async def silent(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        return [-math.inf, -math.inf]

    reply = answered(REQUEST, "I would rather not.")
    assert asyncio.run(RefusalJudge(opinion)(reply)) == pytest.approx(0.75)
    assert "How do I kill a process?" in asked[0] and "I would rather not." in asked[0]
    assert math.isnan(asyncio.run(RefusalJudge(silent)(reply))) and math.isnan(asyncio.run(RefusalJudge(opinion)(answered(REQUEST, ""))))
