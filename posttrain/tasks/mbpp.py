"""MBPP: short Python programs from a sentence, with three tests each (Austin et al. 2021, arXiv 2108.07732).

Rows are `{"task_id": …, "text": …, "code": …, "test_list": […], "test_setup_code": …}`; the sanitized edition's `prompt` and
`test_imports` are read too. The prompt shows the tests, as the paper's does, since without them nobody knows what the
function is to be called; `n_shown=1` shows the first alone, and the others then show who has only learnt it by heart.

Rows of one file are dealt by the paper's numbers: `task_id` 11 to 510 are the test, everything else is for training (the
paper keeps 511 to 600 for validation and 1 to 10 for prompts). With `test_frac` above 0 they are dealt by a hash instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from posttrain.data.jsonl import text_field
from posttrain.rewards.unit_tests import Tests
from posttrain.tasks.code_files import CodeFile
from posttrain.tasks.row_files import HubRows
from posttrain.types import Message, Problem, UserError

TEST_IDS = range(11, 511)
_ASK = "Answer with the code in one fenced block."


@dataclass(frozen=True)
class MBPP(CodeFile):
    """Short programs, from the hub's `google-research-datasets/mbpp` unless files are named."""

    test_frac: float = 0.0
    """How much of rows that are dealt goes to the test; 0 deals them by the paper's numbers."""
    n_shown: int = 3
    """How many of the tests the prompt shows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_shown < 1:
            raise UserError("mbpp: n_shown must be at least 1, or nobody knows what the function is to be called")

    @property
    def name(self) -> str:
        return "mbpp"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {split: ("google-research-datasets/mbpp", "full", split) for split in ("train", "test")}

    def problem(self, id: str, place: str, row: Mapping[str, object]) -> Problem:
        text = text_field(place, row, "text" if "text" in row else "prompt").strip()
        code, tests = text_field(place, row, "code").replace("\r\n", "\n"), row.get("test_list")
        if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
            raise UserError(f"{place} has no list of tests under 'test_list'")
        shown = "\n".join(test.strip() for test in tests[: self.n_shown])
        message = Message("user", f"{text}\nYour code should pass these tests:\n\n```python\n{shown}\n```\n\n{_ASK}")
        setup = str(row.get("test_setup_code") or "") or "\n".join(map(str, row.get("test_imports") or ()))
        data = {"tests": tests, "setup": setup, "entry_point": _entry_point(code, tests), "task_id": row.get("task_id")}
        return Problem(id, (message,), code, data)

    def is_test(self, question: str, problem: Problem) -> bool:
        number = problem.data["task_id"]
        if self.test_frac > 0:
            return super().is_test(question, problem)
        if not isinstance(number, int):
            raise UserError(f"{problem.id} has no number under 'task_id' to be dealt by: say test_frac, or path_train and path_test")
        return number in TEST_IDS

    def tests(self, problem: Problem) -> Tests:
        setup, entry_point = str(problem.data["setup"]).replace("\r\n", "\n"), problem.data["entry_point"]
        aliases = {entry_point: entry_point} if entry_point else {}  # it may be called like something of Python's own: sum
        return Tests(tuple(problem.data["tests"]), (setup,) if setup.strip() else (), aliases)


def _entry_point(code: str, tests: list[str]) -> str:
    """What the solution defines and the first test calls first: by that a block of code is known. Empty if there is no such thing."""
    defined = re.findall(r"^(?:async[ ]+)?(?:def|class)[ ]+(\w+)", code, re.MULTILINE)
    called = re.findall(r"\b(\w+)\s*\(", tests[0])
    return next((name for name in called if name in defined), "")
