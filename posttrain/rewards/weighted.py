"""Several rewards as one, with the parts kept."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from posttrain.types import Rollout, Score

Reward = Callable[[Rollout], Awaitable[Score]]
"""Judges one rollout. A value of nan means that it could not."""


def weighted(**parts: tuple[Reward, float]) -> Reward:
    """The weighted sum of named rewards: `weighted(exact=(exact_number, 1.0), form=(has_marked_answer, 0.1))`.

    The sum is not divided by the weights. The score's `parts` hold each reward's own value, not yet weighted. Where a
    part could not be judged the sum is nan, unless that part's weight is 0: such parts are only watched. Judges run
    concurrently. Raises `ValueError` without parts, and for a weight that is not finite.
    """
    if not parts:
        raise ValueError("weighted() needs at least one reward")
    for name, (_, weight) in parts.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {name!r} must be finite, not {weight}")

    async def reward(rollout: Rollout) -> Score:
        judged = await asyncio.gather(*(judge(rollout) for judge, _ in parts.values()))
        scores = dict(zip(parts, judged, strict=True))
        values = {name: score.value for name, score in scores.items()}
        explanation = "; ".join(f"{name}: {score.explanation}" for name, score in scores.items() if score.explanation)
        counted = [weight * values[name] for name, (_, weight) in parts.items() if weight]
        return Score(math.fsum(counted), values, explanation)

    return reward
