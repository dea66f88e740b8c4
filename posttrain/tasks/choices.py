"""Multiple choice: how options are listed, which one an answer means, and what the tasks share that are a data set of it.

A problem lists its options by letter and asks for the letter only; its `data` holds the bare `question`, the `options`, and
under `right` the numbers of those that count. The same task can thus be written to, trained on, and answered by likelihood
(`evals/choices.py`).
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from posttrain.rewards.exact import normalise
from posttrain.tasks.row_files import RowFile
from posttrain.types import Choice, Message, Problem, Rollout, Score, UserError, unscored

LETTERS = string.ascii_uppercase
ASK = "Answer with the letter only."

# A letter that stands alone at the beginning: "B", "(B)", "**B.** Rome", "B) Rome", and never "A good answer".
_FIRST = re.compile(r"[\s*_(\[\"'`]*([A-Z])(?=$|[\s*_\"'`]*$|[\s*_\"'`]*[.):,\]]|[*_\"'`]*\n)")
_STATED = re.compile(r"\b(?i:answer|option|choice)\b(?:\s+(?i:is))?\s*:?\s*[*_(\[\"'`]*([A-Z])(?![A-Za-z'])")


def listed(question: str, options: Sequence[str], ask: str = ASK) -> str:
    """The question with its options by letter, and what to answer with."""
    rows = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question}\n{rows}\n{ask}"


def choice_problem(id: str, question: str, options: Sequence[str], right: Sequence[int], **data: Any) -> Problem:
    """A problem that lists the options; the first right one's letter is the gold answer. Raises ValueError for what is no choice."""
    options = tuple(option.strip() for option in options)
    if not 2 <= len(options) <= len(LETTERS) or not all(options) or not right or not all(0 <= i < len(options) for i in right):
        raise ValueError(f"a choice needs 2 to {len(LETTERS)} options that say something, and a right one among them")
    held = {"question": question, "options": list(options), "right": list(right), **data}
    return Problem(id, (Message("user", listed(question, options)),), LETTERS[right[0]], held)


def choice_of(problem: Problem) -> Choice:
    """What such a problem offers."""
    data = problem.data
    return Choice((Message("user", data["question"]),), tuple(data["options"]), tuple(data["right"]))


def chosen(text: str, options: Sequence[str]) -> int | None:
    """Which option an answer means, or None.

    The letter after the last "answer is", "answer:", "option" or "choice"; else a letter that stands alone at the beginning;
    else the option whose very words the answer is. Anything else, such as two letters, means none.
    """
    stated = _STATED.findall(text)
    first = _FIRST.match(text)
    letter = stated[-1] if stated else first[1] if first else ""
    if letter:
        return LETTERS.index(letter) if LETTERS.index(letter) < len(options) else None
    said = normalise(text)
    same = [i for i, option in enumerate(options) if normalise(option) == said]
    return same[0] if len(same) == 1 else None


def score_choice(rollout: Rollout) -> Score:
    """1 for a right option, 0 for another or none; the part `parsed` says whether one was found. nan for an attempt that failed."""
    if rollout.outcome == "error":
        return unscored(f"the attempt failed: {rollout.error}")
    choice = choice_of(rollout.problem)
    found = chosen(rollout.text, choice.options)
    said = "no option" if found is None else LETTERS[found]
    expected = " or ".join(LETTERS[i] for i in choice.right)
    return Score(float(found in choice.right), {"parsed": float(found is not None)}, f"chose {said}, expected {expected}")


def in_turn(problems: Sequence[Problem], kind: Sequence[Hashable]) -> list[Problem]:
    """The first of every kind, then the second of every kind, and so on: so that the first few are of many kinds."""
    kinds: dict[Hashable, list[Problem]] = {}
    for problem, key in zip(problems, kind, strict=True):
        kinds.setdefault(key, []).append(problem)
    return [problem for problem in chain.from_iterable(zip_longest(*kinds.values())) if problem is not None]


class Choosing:
    """What a task makes of problems that `choice_problem` made."""

    def choice(self, problem: Problem) -> Choice:
        return choice_of(problem)

    async def score(self, rollout: Rollout) -> Score:
        """1 for a right option, 0 for another or none."""
        return score_choice(rollout)

    def solution(self, problem: Problem) -> str:
        return problem.answer


@dataclass(frozen=True)
class ChoiceFile(Choosing, RowFile):
    """A choice task read from rows. One file alone is all test, unless `test_frac` deals part of it to training."""

    test_frac: float = 1.0
    """How much of rows that are dealt goes to the test, from 0 to 1."""

    @property
    def hub(self) -> Mapping[str, Any]:
        return {}

    @abstractmethod
    def asked(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        """The problem in one row. Raises `UserError`, naming the place, or ValueError, for a row that holds none."""

    def problem(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        try:
            return self.asked(id, place, row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{place} is no row that {self.name} can read ({_why(error)}); its keys are {', '.join(map(repr, row))}") from error


def _why(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
