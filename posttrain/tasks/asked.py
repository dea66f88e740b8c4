"""Your own questions about your own documents: an index (posttrain rag index), and a file that says what is asked and where it stands.

A row is `{"question": …, "answers": [one that will do, another], "documents": [names of all documents that the answer takes]}`; `answer` may
hold a single one. Without an answer nothing in the index answers it, and the right thing is to decline. `id` and `kind` are as you like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from posttrain.data.jsonl import read_jsonl, text_field
from posttrain.retrieval.index import open_index
from posttrain.retrieval.passages import Passage
from posttrain.rewards.abstention import ABSTAINED, abstains
from posttrain.tasks.splits import check_split
from posttrain.types import Message, Problem, Rollout, Score, UserError


@dataclass(frozen=True)
class Asked:
    """Questions of a file, about the documents of an index."""

    questions: str = ""
    """A jsonl file of questions."""
    index: str = ""
    """The index's folder."""

    def __post_init__(self) -> None:
        if not self.questions or not self.index:
            raise UserError("asked needs both: asked:questions=FILE.jsonl,index=FOLDER")

    @property
    def name(self) -> str:
        return "asked"

    def problems(self, split: str) -> Sequence[Problem]:
        """The questions, all for testing. Raises `UserError` for another split, a row that is no question, and a document that is not there."""
        check_split(split)
        if split != "test":
            raise UserError("questions that were asked are for testing: say --split test")
        return _asked(self)[0]

    def passages(self, split: str) -> list[Passage]:
        """The index's passages, as they were cut."""
        check_split(split)
        return list(_asked(self)[1])

    async def score(self, rollout: Rollout) -> Score:
        """1 if the reply has one of the answers word for word, whatever stands around it; where nothing answers, 1 if it declines.

        Case and punctuation do not count. Only the last message does. Parts: `abstained`, `copied` (it is wrong, and has an answer to
        another question, from other documents), `parsed` (there is an answer to some question, or it declines).
        """
        own, said = rollout.problem.data["answers"], _words(rollout.text)
        found = any(_holds(said, answer) for answer in own)
        elsewhere = not found and any(_holds(said, answer) for answer in _others(self, rollout.problem))
        abstained = not found and abstains(rollout.text)
        parts = {"abstained": float(abstained), "copied": float(elsewhere), "parsed": float(found or elsewhere or abstained)}
        return Score(float(found if own else abstained), parts, f"expected {' or '.join(own) or 'an abstention'}")

    def solution(self, problem: Problem) -> str:
        return problem.answer or ABSTAINED


@lru_cache(maxsize=8)
def _asked(task: Asked) -> tuple[tuple[Problem, ...], tuple[Passage, ...]]:
    passages = tuple(open_index(task.index).store.passages())
    known = {passage.source for passage in passages}
    problems = tuple(_problem(number, place, row, known) for number, (place, row) in enumerate(read_jsonl(task.questions)))
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        raise UserError(f"'{task.questions}' has two questions of one id: give each an id of its own, or none an id")
    return problems, passages


def _problem(number: int, place: str, row: Mapping[str, Any], known: set[str]) -> Problem:
    answers = row.get("answers", row.get("answer"))
    answers = [] if answers is None else [answers] if isinstance(answers, str | int | float) else answers
    documents = row.get("documents") or []
    if not isinstance(answers, list) or not isinstance(documents, list) or not all(isinstance(name, str) for name in documents):
        raise UserError(f"{place} is no question: 'answers' and 'documents' must be lists of texts")
    answers = [str(answer) for answer in answers if _words(str(answer))]
    if bool(answers) != bool(documents):
        raise UserError(f"{place} must have both answers and the documents they stand in, or neither where nothing answers")
    strangers = [name for name in documents if name not in known]
    if strangers:
        raise UserError(f"{place} names the document '{strangers[0]}', which the index has no passage of: name it as the index does")
    data = {"answers": answers, "gold": documents, "kind": str(row.get("kind") or "")}
    return Problem(f"asked/{row.get('id', number)}", (Message("user", text_field(place, row, "question")),), answers[0] if answers else "", data)


def _others(task: Asked, problem: Problem) -> list[str]:
    """Answers to other questions that take other documents, and are not words of this question or answers to it."""
    own, asked = {" ".join(_words(answer)) for answer in problem.data["answers"]}, _words(problem.messages[-1].content)
    gold = set(problem.data["gold"])
    others = [a for other in _asked(task)[0] if not gold & set(other.data["gold"]) for a in other.data["answers"]]
    return [answer for answer in others if " ".join(_words(answer)) not in own and not _holds(asked, answer)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _holds(words: Sequence[str], answer: str) -> bool:
    """Whether the answer's words stand in the words, one behind the other."""
    return f" {' '.join(_words(answer))} " in f" {' '.join(words)} "
