"""TruthfulQA: questions that people answer falsely, by choice among true and false answers (Lin et al. 2021, arXiv 2109.07958).

Rows are `{"Question": …, "Best Answer": …, "Correct Answers": "a; b", "Incorrect Answers": "c; d"}`, the columns of the published
table; or the hub's, `{"question": …, "mc1_targets": {"choices": […], "labels": [1, 0, …]}, "mc2_targets": {…}}`.

`kind=mc1`: the best answer against all false ones; right is the likeliest. `kind=mc2`: all true ones against all false ones; asked by
likelihood, the score is the probability of the true ones together, of all options given (of the sums of log-probs, as in the
paper, where the text is asked, and so per byte too); written, a letter of any true one is right. Deviations: the order of the options is shuffled by a
fixed hash of the question, since letters would otherwise give the answer away; and the question is asked in the model's own chat
format, without the paper's six examples before it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posttrain.data.jsonl import text_field
from posttrain.seeds import fold
from posttrain.tasks.choices import LETTERS, ChoiceFile, choice_problem, in_turn
from posttrain.tasks.row_files import HubRows
from posttrain.types import Problem, Rollout, Score, UserError


@dataclass(frozen=True)
class TruthfulQA(ChoiceFile):
    """Questions with true answers and popular false ones, from the hub's `truthfulqa/truthful_qa` unless a file is named."""

    kind: str = "mc1"
    """mc1: the best answer against the false ones; mc2: all true ones against all false ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("mc1", "mc2"):
            raise UserError(f"truthfulqa: kind must be mc1 or mc2, not {self.kind!r}")

    @property
    def name(self) -> str:
        return f"truthfulqa {self.kind}"

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {"test": ("truthfulqa/truthful_qa", "multiple_choice", "validation")}

    def asked(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        true, false = _targets(row, self.kind) if "mc1_targets" in row else _table(place, row, self.kind)
        question = text_field(place, row, "question" if "question" in row else "Question").strip()
        marked = [(text, True) for text in true] + [(text, False) for text in false]
        random.Random(fold(0, "order", question)).shuffle(marked)
        right = [i for i, (_, is_true) in enumerate(marked) if is_true]
        return choice_problem(id, question, [text for text, _ in marked], right, category=str(row.get("Category", "")))

    def problems(self, split: str) -> Sequence[Problem]:
        """One of each category in turn."""
        found = super().problems(split)
        return in_turn(found, [problem.data["category"] for problem in found])

    async def score(self, rollout: Rollout) -> Score:
        """1 for a true answer, else 0; for mc2 by likelihood, the share of probability that the true ones have."""
        score = await super().score(rollout)
        if self.kind == "mc1" or not rollout.readings or score.is_unscored:
            return score
        sums = np.array([sum(reading.logprobs) for reading in rollout.readings])
        chances = np.exp(sums - sums.max())
        mass = float(chances[list(self.choice(rollout.problem).right)].sum() / chances.sum())
        return replace(score, value=min(mass, 1.0), explanation=f"the true answers have {mass:.2f} of the probability of all")


def _table(place: str, row: Mapping[str, Any], kind: str) -> tuple[list[str], list[str]]:
    """True and false answers of the published table, where answers are parted by semicolons."""
    best = text_field(place, row, "Best Answer").strip()
    true, false = (_parts(text_field(place, row, key)) for key in ("Correct Answers", "Incorrect Answers"))
    every = [best] if kind == "mc1" else list(dict.fromkeys([best, *true]))
    known = {text.casefold() for text in every}
    return every[: len(LETTERS) - 1], [text for text in false if text.casefold() not in known][: len(LETTERS) - len(every[: len(LETTERS) - 1])]


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _targets(row: Mapping[str, Any], kind: str) -> tuple[list[str], list[str]]:
    held = row[f"{kind}_targets"]
    pairs = list(zip(held["choices"], held["labels"], strict=True))
    return [text for text, label in pairs if label], [text for text, label in pairs if not label]
