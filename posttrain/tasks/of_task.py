"""What the tasks that ask another task's problems in another place have in common: in a long conversation, in an agent's loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.types import Problem, Rollout, Score, Task


@dataclass(frozen=True)
class InUse:
    """Another task's problems, judged as it judges them."""

    task: Task

    @property
    def beside(self) -> str:
        """The task whose bare problems stand beside these in a table."""
        return self.task.name

    @property
    def chance(self) -> float:
        return getattr(self.task, "chance", 0.0)

    @property
    def aspects(self) -> Sequence[Any]:
        return getattr(self.task, "aspects", ())

    @property
    def depends_on(self) -> Mapping[str, Any]:
        return getattr(self.task, "depends_on", {})

    @property
    def judged_by(self) -> Mapping[str, Any]:
        return getattr(self.task, "judged_by", {})

    @property
    def final_answer(self) -> Callable[[str], Hashable | None]:
        """Raises AttributeError where the task has none."""
        return self.task.final_answer  # type: ignore[attr-defined]

    def problems(self, split: str) -> Sequence[Problem]:
        return self.task.problems(split)

    async def score(self, rollout: Rollout) -> Score:
        return await self.task.score(rollout)

    def solution(self, problem: Problem) -> str:
        return self.task.solution(problem)
