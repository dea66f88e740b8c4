"""The toy task of the learning tests: say the one letter that is asked for.

The answer is one token of 258, so what a policy earns on average is not estimated but read off: the mean probability of the
right letter. The random model earns less than .02.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from posttrain.policy.hf import Policy
from posttrain.types import Message, Problem, Rollout, Score


@dataclass(frozen=True)
class SayTheLetter:
    """Right is the letter asked for."""

    letters: str = "abcd"
    name: str = "say the letter"

    def problems(self, split: str) -> list[Problem]:
        return [Problem(f"{split}-{letter}", (Message("user", f"Say {letter}."),), letter) for letter in self.letters]

    async def score(self, rollout: Rollout) -> Score:
        return Score(float(rollout.text == rollout.problem.answer))

    def solution(self, problem: Problem) -> str:
        return problem.answer


def expected_reward(policy: Policy) -> float:
    """The mean probability of the right letter."""
    task = SayTheLetter()
    letters = [(policy.renderer.prompt(p.messages), policy.renderer.encode(p.answer)) for p in task.problems("train")]
    return sum(math.exp(logprobs[0]) for logprobs, _ in policy.score_tokens(letters)) / len(letters)
