"""MATH-500: competition problems with an answer in LaTeX (Lightman et al. 2023, arXiv 2305.20050; from Hendrycks et al. 2021).

Rows are `{"problem": …, "answer": …}`, with a worked `"solution"` if there is one; other files of that form will do. The
500 are for testing, so all of them are test problems unless `test_frac` says otherwise or `path_train` names more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posttrain.data.jsonl import text_field
from posttrain.rewards.math_equal import final_answer
from posttrain.tasks.math_files import MathFile
from posttrain.tasks.row_files import HubRows
from posttrain.types import Message, Problem

_ASK = "Think step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Math500(MathFile):
    """Competition problems, from the hub's `HuggingFaceH4/MATH-500` unless files are named."""

    test_frac: float = 1.0
    """How much of rows that are dealt goes to the test, from 0 to 1."""

    @property
    def name(self) -> str:
        return "math500"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {"both": ("HuggingFaceH4/MATH-500", None, "test")}

    def problem(self, id: str, place: str, row: Mapping[str, object]) -> Problem:
        question, answer = text_field(place, row, "problem").strip(), text_field(place, row, "answer").strip()
        worked = str(row.get("solution") or "").strip()
        boxed = f"\\boxed{{{answer}}}"
        solution = worked if final_answer(worked) == answer else f"{worked}\n\n{boxed}".strip()
        return Problem(id, (Message("user", f"{question}\n\n{_ASK}"),), answer, {"solution": solution})
