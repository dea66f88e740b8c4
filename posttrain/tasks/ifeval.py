"""IFEval: prompts with instructions that a program can check (Zhou et al. 2023, arXiv 2311.07911).

Rows are `{"key": …, "prompt": …, "instruction_id_list": […], "kwargs": [{…}, …]}`, as published. The score is 1 if the reply follows
every instruction of its prompt strictly, else 0; beside this prompt-level accuracy stand the loose one, and the share of instructions
followed, strictly and loosely (`rewards/instructions.py` says what each checks, and how). Where an instruction cannot be checked, for
which `pip install 'posttrain[ifeval]'` helps, a reply that follows all others is unscored, and one that breaks another is 0.

The file has no gold answers. `solution` composes a text that follows the instructions (`tasks/ifeval_solutions.py`), so that the check
before every measurement still means what it says: that the checkers of this very prompt can all be satisfied, and are. A prompt for
which no such text is found has `no_gold` in its data; it is asked and judged like the others, and left out of that check alone. Of the
541 published ones these are five, whose instructions contradict each other: to repeat a prompt with commas in it and to use none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.data.jsonl import text_field
from posttrain.rewards.instructions import Instruction, can_tell_languages, instructions_of
from posttrain.tasks.ifeval_solutions import composed
from posttrain.tasks.row_files import HubRows, RowFile
from posttrain.types import Aspect, Message, Problem, Rollout, Score, UserError, unscored

ASPECTS = (
    Aspect("prompt_loose", "prompts followed, loosely", "higher"),
    Aspect("followed", "instructions followed", "higher", per="checked"),
    Aspect("followed_loose", "instructions followed, loosely", "higher", per="checked_loose"),
)
LANGUAGES = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")
"""What `langdetect` is for."""


@dataclass(frozen=True)
class IFEval(RowFile):
    """Instructions that can be checked, from the hub's `google/IFEval` unless files are named; all test, unless `test_frac` deals them."""

    test_frac: float = 1.0
    """How much of rows that are dealt goes to the test, from 0 to 1."""

    @property
    def name(self) -> str:
        return "ifeval"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {"both": ("google/IFEval", None, "train")}

    @property
    def aspects(self) -> Sequence[Aspect]:
        return ASPECTS

    def problem(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        prompt = text_field(place, row, "prompt")
        try:
            instructions = instructions_of(row["instruction_id_list"], row["kwargs"])
            [each.followed("a") for each in instructions]  # arguments that do not fit are found before any model is asked
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{place} has an instruction that cannot be read ({error}): mend or remove the line") from error
        held = [{"id": each.id, "arguments": dict(each.arguments)} for each in instructions]
        text = composed(instructions)
        gold = {"no_gold": True} if any(each.followed(text) is False for each in instructions) else {}
        return Problem(id, (Message("user", prompt),), "", {"instructions": held, **gold})

    async def score(self, rollout: Rollout) -> Score:
        """1 for a reply that strictly follows every instruction, 0 for one that breaks any, nan where that cannot be told."""
        if rollout.outcome == "error":
            return unscored(f"the attempt failed: {rollout.error}")
        instructions = _instructions(rollout.problem)
        strict = [each.followed(rollout.text) for each in instructions]
        loose = [each.loosely_followed(rollout.text) for each in instructions]
        broken = [each.id for each, verdict in zip(instructions, strict, strict=True) if verdict is False]
        untold = [each.id for each, verdict in zip(instructions, strict, strict=True) if verdict is None]
        if untold and not broken:
            missing = not can_tell_languages() and set(untold) <= set(LANGUAGES)
            remedy = "; pip install 'posttrain[ifeval]'" if missing else ""
            return Score(math.nan, {"unavailable": float(missing)}, f"cannot tell {', '.join(untold)}{remedy}")
        parts = {
            "followed": float(strict.count(True)), "checked": float(len(strict) - strict.count(None)),
            "followed_loose": float(loose.count(True)), "checked_loose": float(len(loose) - loose.count(None)),
        }  # fmt: skip
        if not (None in loose and False not in loose):
            parts["prompt_loose"] = float(all(verdict is True for verdict in loose))
        return Score(float(not broken), parts, f"broke {', '.join(broken)}" if broken else "followed all instructions")

    def solution(self, problem: Problem) -> str:
        """A text composed to follow the instructions."""
        return composed(_instructions(problem))


def _instructions(problem: Problem) -> list[Instruction]:
    return [Instruction(each["id"], each["arguments"]) for each in problem.data["instructions"]]
