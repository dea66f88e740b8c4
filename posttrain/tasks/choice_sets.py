"""Questions of knowledge and reasoning with a few options: MMLU and its kin, from the user's own files or from the hub.

A row is read in whichever of these forms it has, so that any of the names below reads any of them:

    {"question": "…", "choices": ["…", …], "answer": 2}                       MMLU's own; the answer a number from 0, or a letter
    {"question": "…", "options": "A. …\\nB. …", "answer": "B. …"}              one text of options, each after its letter
    {"question": "…", "options": ["A)…", "B)…"], "correct": "B"}              AQuA
    {"question": "…", "options": {"A": "…", "B": "…"}, "answer_idx": "B"}     MedQA
    {"question": {"stem": "…", "choices": [{"label": "A", "text": "…"}]}, "answerKey": "A"}      CommonsenseQA, ARC, OpenBookQA
    {"question": "…", "choices": {"label": ["A", …], "text": ["…", …]}, "answerKey": "A"}        the same on the hub
    {"goal": "…", "sol1": "…", "sol2": "…", "label": 0}                       PIQA
    {"question": "…", "answer": "yes"}                                        yes, no or maybe, as in PubMedQA

`question_stem` may stand for `question`. A text under `passage` or `context` stands before the question. Rows under several
subjects (`subject` or `type`) are taken one of each in turn, so that the first few problems speak of many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from posttrain.tasks.choices import LETTERS, ChoiceFile, choice_problem, in_turn
from posttrain.tasks.row_files import HubRows
from posttrain.types import Problem

_MARK = re.compile(r"^\s*\(?([A-Z])[.):]\s*")
YES_NO_MAYBE = ("yes", "no", "maybe")


@dataclass(frozen=True)
class ChoiceSet(ChoiceFile):
    """A named set of questions."""

    called: ClassVar[str] = ""
    test: ClassVar[HubRows | None] = None
    train: ClassVar[HubRows | None] = None

    @property
    def name(self) -> str:
        return self.called

    @property
    def hub(self) -> Mapping[str, HubRows]:
        return {split: rows for split, rows in (("test", self.test), ("train", self.train)) if rows is not None}

    def asked(self, id: str, place: str, row: Mapping[str, Any]) -> Problem:
        question, options = question_of(row), options_of(row)
        subject = row.get("subject") or row.get("type")
        return choice_problem(id, question, options, [answer_of(row, options)], **({"subject": subject} if subject else {}))

    def problems(self, split: str) -> Sequence[Problem]:
        found = super().problems(split)
        return in_turn(found, [problem.data.get("subject") for problem in found])


class MMLU(ChoiceSet):
    """57 subjects of school and university (Hendrycks et al. 2020, arXiv 2009.03300)."""

    called, test, train = "mmlu", ("cais/mmlu", "all", "test"), ("cais/mmlu", "all", "auxiliary_train")


class ARC(ChoiceSet):
    """Science exams of American schools, the harder part (Clark et al. 2018, arXiv 1803.05457)."""

    called, test, train = "arc", ("allenai/ai2_arc", "ARC-Challenge", "test"), ("allenai/ai2_arc", "ARC-Challenge", "train")


class OpenBookQA(ChoiceSet):
    """Elementary science with a step of common sense (Mihaylov et al. 2018, arXiv 1809.02789)."""

    called, test, train = "openbookqa", ("allenai/openbookqa", "main", "test"), ("allenai/openbookqa", "main", "train")


class CommonsenseQA(ChoiceSet):
    """Common sense about concepts (Talmor et al. 2018, arXiv 1811.00937); its test answers are secret, so validation is the test."""

    called, test, train = "commonsenseqa", ("tau/commonsense_qa", None, "validation"), ("tau/commonsense_qa", None, "train")


class AQuA(ChoiceSet):
    """Algebra in words, with five options (Ling et al. 2017, arXiv 1705.04146)."""

    called, test, train = "aqua", ("deepmind/aqua_rat", "raw", "test"), ("deepmind/aqua_rat", "raw", "train")


class PIQA(ChoiceSet):
    """Physical common sense: which of two ways reaches a goal (Bisk et al. 2019, arXiv 1911.11641); from files only."""

    called = "piqa"


class MedQA(ChoiceSet):
    """Medical board exams (Jin et al. 2020, arXiv 2009.13081); from files only."""

    called = "medqa"


class PubMedQA(ChoiceSet):
    """Does an abstract answer its question with yes, no or maybe? (Jin et al. 2019, arXiv 1909.06146); from files only."""

    called = "pubmedqa"


CHOICE_SETS = {kind.called: kind for kind in (MMLU, ARC, OpenBookQA, CommonsenseQA, AQuA, PIQA, MedQA, PubMedQA)}


def question_of(row: Mapping[str, Any]) -> str:
    """What is asked, after the passage that it is asked about. Raises KeyError without a question."""
    held = row.get("question", row.get("question_stem", row.get("goal")))
    text = held.get("stem") if isinstance(held, Mapping) else held
    if not isinstance(text, str) or not text.strip():
        raise KeyError("question")
    passage = row.get("passage", row.get("context"))
    return f"{passage.strip()}\n\n{text.strip()}" if isinstance(passage, str) and passage.strip() else text.strip()


def options_of(row: Mapping[str, Any]) -> list[str]:
    """The options, without their letters. Raises KeyError or ValueError where they cannot be found."""
    question = row.get("question")
    held = question["choices"] if isinstance(question, Mapping) else row.get("choices", row.get("options"))
    if held is None and "sol1" in row:
        return [row["sol1"], row["sol2"]]
    if held is None and str(row.get("answer", "")).strip().lower() in YES_NO_MAYBE:
        return list(YES_NO_MAYBE)
    if held is None:
        raise KeyError("choices")
    if isinstance(held, str):
        return _from_text(held)
    if isinstance(held, Mapping):
        return list(held["text"] if "text" in held else held.values())
    return _unmarked([option["text"] if isinstance(option, Mapping) else option for option in held])


def answer_of(row: Mapping[str, Any], options: Sequence[str]) -> int:
    """Which option is right: by number, by letter, by label, or by its own words. Raises ValueError where that cannot be told."""
    key = next((row[name] for name in ("answerKey", "answer_idx", "correct", "answer", "label") if row.get(name) is not None), None)
    if isinstance(key, int):
        return key
    text = str(key).strip()
    labels = _labels(row) or LETTERS[: len(options)]
    if text in labels:
        return list(labels).index(text)
    bare = [option.strip() for option in options]
    for said in (text, _MARK.sub("", text)):
        if bare.count(said) == 1:
            return bare.index(said)
    if (marked := _MARK.match(text)) and LETTERS.index(marked[1]) < len(options):
        return LETTERS.index(marked[1])
    raise ValueError(f"none of the options is its answer {text!r}")


def _labels(row: Mapping[str, Any]) -> list[str]:
    """What the options are called, where they bear labels of their own."""
    question = row.get("question")
    held = question["choices"] if isinstance(question, Mapping) else row.get("choices", row.get("options"))
    if isinstance(held, Mapping):
        return list(held["label"] if "label" in held else held)
    return [option["label"] for option in held] if held and isinstance(held[0], Mapping) else []


def _from_text(text: str) -> list[str]:
    """The options in one text: each begins a line with the letter that is next; other lines go on with the option before."""
    found: list[str] = []
    for line in text.splitlines():
        mark = _MARK.match(line)
        if mark and len(found) < len(LETTERS) and mark[1] == LETTERS[len(found)]:
            found.append(line[mark.end() :])
        elif found:
            found[-1] += f"\n{line}"
    return found


def _unmarked(options: list[str]) -> list[str]:
    """Without letters, where every option begins with its own."""
    marks = [_MARK.match(option) for option in options]
    if all(mark and mark[1] == letter for mark, letter in zip(marks, LETTERS, strict=False)):
        return [option[mark.end() :] for option, mark in zip(options, marks, strict=True) if mark]
    return options
