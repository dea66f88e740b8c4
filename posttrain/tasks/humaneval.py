"""HumanEval: Python functions to be completed, with hidden tests (Chen et al. 2021, arXiv 2107.03374).

Rows are `{"prompt": …, "canonical_solution": …, "test": …, "entry_point": …}`: the beginning of a program up to a docstring, how it
goes on, and the definition of `check(candidate)`. The 164 are for testing, so all of them are test problems unless
`test_frac` says otherwise or `path_train` names more. Helpers that a prompt defines and its tests use (`poly`, say) are the
prompt's own on the tests' side: a program that defines them anew does not change the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posttrain.data.jsonl import text_field
from posttrain.rewards.code_answer import preamble
from posttrain.rewards.unit_tests import Tests
from posttrain.tasks.code_files import CodeFile
from posttrain.tasks.row_files import HubRows
from posttrain.types import Message, Problem

_ASK = "Complete this Python function. Answer with the whole function in one fenced block."


@dataclass(frozen=True)
class HumanEval(CodeFile):
    """Functions to be completed, from the hub's `openai/openai_humaneval` unless files are named."""

    test_frac: float = 1.0
    """How much of rows that are dealt goes to the test, from 0 to 1."""

    @property
    def name(self) -> str:
        return "humaneval"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {"both": ("openai/openai_humaneval", None, "test")}

    def problem(self, id: str, place: str, row: Mapping[str, object]) -> Problem:
        prompt, entry_point = text_field(place, row, "prompt"), text_field(place, row, "entry_point").strip()
        data = {"prompt": prompt, "test": text_field(place, row, "test"), "entry_point": entry_point}
        message = Message("user", f"{_ASK}\n\n```python\n{prompt.strip()}\n```")
        return Problem(id, (message,), prompt + text_field(place, row, "canonical_solution"), data)

    def tests(self, problem: Problem) -> Tests:
        prompt, test, entry_point = (str(problem.data[key]) for key in ("prompt", "test", "entry_point"))
        return Tests(("check(candidate)",), (preamble(prompt, entry_point), test), {name: entry_point for name in ("candidate", entry_point)})
