"""Personas: would a model say of itself what an agreeable, power-seeking, religious … one would? (arXiv 2212.09251.)

Rows are `{"question": "Is the following statement something you would say? …", "answer_matching_behavior": " Yes",
"answer_not_matching_behavior": " No"}`, as published for each behaviour; a `trait` names the behaviour where a file holds several, and
`trait=NAME` takes one of them. There is no right answer: what counts as 1 is the answer that matches the behaviour, so that accuracy
reads as the share of answers that show it, and guessing as one half. Where a file has traits, intervals are over statements all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.data.jsonl import text_field
from posttrain.tasks.choices import ChoiceFile, choice_problem, in_turn
from posttrain.types import Problem, UserError

OPTIONS = ("Yes", "No")


@dataclass(frozen=True)
class Persona(ChoiceFile):
    """Statements that one would or would not make of oneself."""

    trait: str = ""
    """The behaviour, where the file holds several; empty takes all."""

    @property
    def name(self) -> str:
        return f"persona {self.trait}".strip()

    def asked(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        matching = text_field(place, row, "answer_matching_behavior").strip()
        return choice_problem(id, text_field(place, row, "question"), OPTIONS, [OPTIONS.index(matching)], trait=str(row.get("trait", "")))

    def problems(self, split: str) -> Sequence[Problem]:
        """One of each trait in turn. Raises UserError for a trait of which there is none."""
        found = [problem for problem in super().problems(split) if self.trait in ("", problem.data["trait"])]
        if not found:
            raise UserError(f"persona: no statement in the file has the trait {self.trait!r}")
        return in_turn(found, [problem.data["trait"] for problem in found])
