"""Questions with one mathematical answer each, read from rows: what GSM8K and MATH-500 share."""

from __future__ import annotations

from dataclasses import dataclass

from posttrain.rewards.exact import last_number
from posttrain.rewards.math_equal import TIMEOUT_S, math_equal
from posttrain.rewards.math_equal import final_answer as marked_answer
from posttrain.tasks.row_files import RowFile
from posttrain.types import Problem, Rollout, Score, UserError


@dataclass(frozen=True)
class MathFile(RowFile):
    """A task whose judge compares mathematics."""

    timeout_s: float = TIMEOUT_S
    """Wall clock of one judgement, in seconds, after which the attempt is unscored."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout_s <= 0:
            raise UserError(f"{self.name}: timeout_s must be above 0, not {self.timeout_s}")

    async def score(self, rollout: Rollout) -> Score:
        """`math_equal` of the last message and the gold answer: 1, 0, or nan where the judge came to no verdict."""
        return await math_equal(rollout.text, rollout.problem.answer, self.timeout_s)

    def solution(self, problem: Problem) -> str:
        return str(problem.data["solution"])

    def final_answer(self, text: str) -> str | None:
        """What is boxed or stands after `####`; without either the last number."""
        return marked_answer(text) or last_number(text)
