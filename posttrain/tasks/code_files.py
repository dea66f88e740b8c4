"""Programs to be written, each with tests, read from rows: what HumanEval and MBPP share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from posttrain.rewards.code_answer import program_in
from posttrain.rewards.unit_tests import TIMEOUT_S, Tests, unit_tests
from posttrain.tasks.row_files import RowFile
from posttrain.types import Problem, Rollout, Score, UserError, unscored


@dataclass(frozen=True)
class CodeFile(RowFile):
    """A task whose judge runs what the model wrote, in a sandbox, against tests in another."""

    timeout_s: float = TIMEOUT_S
    """Processor seconds of one program, over all its tests, after which it has failed them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timeout_s <= 0:
            raise UserError(f"{self.name}: timeout_s must be above 0, not {self.timeout_s}")

    @abstractmethod
    def tests(self, problem: Problem) -> Tests:
        """What a program must fulfil."""

    def program(self, rollout: Rollout) -> str:
        """The program in an attempt, by the rules of `rewards/code_answer.py`."""
        data = rollout.problem.data
        return program_in(rollout.text, str(data.get("prompt", "")), str(data["entry_point"]))

    async def score(self, rollout: Rollout) -> Score:
        """`unit_tests` of the program in the last message: 1, 0, or nan where it could not be judged; 0 without a program."""
        if rollout.outcome == "error":
            return unscored(f"the attempt failed: {rollout.error}")
        program = self.program(rollout)
        if not program.strip():
            return Score(0.0, {"passed_frac": 0.0}, "there is no program in the reply")
        return await unit_tests(program, self.tests(rollout.problem), self.timeout_s)

    def solution(self, problem: Problem) -> str:
        return f"```python\n{problem.answer.rstrip()}\n```"
