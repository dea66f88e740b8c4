"""GSM8K: grade-school word problems with a whole number as answer (Cobbe et al. 2021, arXiv 2110.14168).

Rows are `{"question": …, "answer": …}`, the answer a worked solution that ends in `#### N`. Its calculator notes
(`<<16-3=13>>`) are left out of `solution`. The prompt asks for a last line of that form; a box is judged too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from posttrain.data.jsonl import text_field
from posttrain.tasks.math_files import MathFile
from posttrain.tasks.row_files import HubRows
from posttrain.types import Message, Problem, UserError

_ASK = "Think step by step. End with a line that says #### and then the number, and nothing else."


@dataclass(frozen=True)
class GSM8K(MathFile):
    """Grade-school word problems, from the hub's `openai/gsm8k` unless files are named."""

    @property
    def name(self) -> str:
        return "gsm8k"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {split: ("openai/gsm8k", "main", split) for split in ("train", "test")}

    def problem(self, id: str, place: str, row: Mapping[str, object]) -> Problem:
        question, worked = text_field(place, row, "question"), text_field(place, row, "answer")
        _, marker, answer = worked.rpartition("####")
        if not marker or not answer.strip():
            raise UserError(f"{place} has an answer that does not end in '#### N'")
        solution = re.sub(r"<<[^<>]*>>", "", worked).strip()
        return Problem(id, (Message("user", f"{question.strip()}\n\n{_ASK}"),), answer.strip(), {"solution": solution})
