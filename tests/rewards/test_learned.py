"""A learned reward: everyone who waits is read at once, and what could not be read is nan."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from posttrain.rewards.learned import Learned
from posttrain.types import Message, Problem, Rollout, Score, answered, unscored

ASKED = Problem("1", (Message("user", "Say x."),), "")


def scores(read, rollouts: Sequence[Rollout]) -> list[Score]:
    async def run() -> list[Score]:
        reward = Learned(read)
        return list(await asyncio.gather(*(reward(rollout) for rollout in rollouts)))

    return asyncio.run(run())


def test_all_who_wait_are_read_in_one_batch_and_get_their_own_number() -> None:
    batches: list[int] = []

    def read(conversations: Sequence[tuple[Message, ...]], tools: Sequence[object]) -> list[float]:
        batches.append(len(conversations))
        assert all(messages[0] == ASKED.messages[0] for messages in conversations)
        return [float(messages[-1].content) for messages in conversations]

    found = scores(read, [answered(ASKED, str(i)) for i in range(5)])
    assert [s.value for s in found] == [0.0, 1.0, 2.0, 3.0, 4.0] and batches == [5]


def test_what_has_no_finite_number_is_unscored_with_the_reason_and_spares_its_neighbours() -> None:
    given = [1.5, math.nan, math.inf, "too long", Score(0.5, {"steps": 2.0}), unscored("no step")]
    found = scores(lambda conversations, tools: given, [answered(ASKED, "x")] * 6)
    assert (found[0].value, found[4]) == (1.5, Score(0.5, {"steps": 2.0}))
    assert all(s.is_unscored for i, s in enumerate(found) if i in (1, 2, 3, 5))
    assert "nan" in found[1].explanation and "inf" in found[2].explanation and found[3].explanation == "too long"


def test_a_failed_attempt_is_not_read() -> None:
    (failed,) = scores(lambda conversations, tools: pytest.fail("it was read"), [Rollout(ASKED, (), outcome="error", error="no network")])
    assert failed.is_unscored and "no network" in failed.explanation


def test_a_model_that_breaks_breaks_everyone_who_waits_and_hangs_nobody() -> None:
    def read(conversations: Sequence[tuple[Message, ...]], tools: Sequence[object]) -> list[float]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        scores(read, [answered(ASKED, "x"), answered(ASKED, "y")])
