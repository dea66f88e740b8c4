"""The right form, whatever it says: rewards that look at how an answer is written and never at whether it is right."""

from __future__ import annotations

import re

from posttrain.rewards.math_equal import final_answer
from posttrain.rewards.weighted import Reward
from posttrain.rewards.workers import WorkerFailure, call_async
from posttrain.types import Rollout, Score, UserError, unscored


async def has_marked_answer(rollout: Rollout) -> Score:
    """1 if the last assistant message marks an answer, by a closed `\\boxed{…}` or by `####`, else 0."""
    return Score(float(final_answer(rollout.text) is not None))


async def came_to_an_end(rollout: Rollout) -> Score:
    """1 if the attempt ended by itself, 0 if a budget ran out, nan if the machinery failed."""
    if rollout.outcome == "error":
        return unscored(f"the attempt failed: {rollout.error}")
    return Score(float(rollout.outcome == "terminated"))


def matches(pattern: str, timeout_s: float = 1.0) -> Reward:
    """The reward that is 1 if the whole last assistant message, stripped, matches the regular expression, else 0.

    A dot matches line ends too. The matching runs in a worker, since a text can be found on which a pattern takes
    years; after `timeout_s` seconds the score is nan. Raises `UserError` if `pattern` is no regular expression.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"the format {pattern!r} is no regular expression: {error}") from error

    async def reward(rollout: Rollout) -> Score:
        text = rollout.text.strip()
        try:
            matched = await call_async("posttrain.rewards.format:fully_matches", pattern, text, timeout_s=timeout_s)
        except WorkerFailure as failure:
            return unscored(f"matching {pattern!r} gave no result: {failure}")
        return Score(float(matched))

    return reward


def fully_matches(pattern: str, text: str) -> bool:
    """Whether all of `text` matches; runs in a worker."""
    return re.fullmatch(pattern, text, re.DOTALL) is not None
