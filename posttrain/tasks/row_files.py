"""Problems read from files of JSON lines or from the hub: what the tasks share that are a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from posttrain.data.jsonl import Row, read_jsonl
from posttrain.seeds import fold
from posttrain.tasks.splits import check_split, read_hub
from posttrain.types import Problem, Rollout, Score, UserError

HubRows = tuple[str, str | None, str]
"""A data set on the hub, its configuration, and what the hub calls the split."""


@dataclass(frozen=True)
class RowFile(ABC):
    """A task read from rows. With no path at all they come from the hub, through the optional package `datasets`."""

    path: str = ""
    """One file for both splits: each question is dealt to train or test by a fixed hash of its text."""
    path_train: str = ""
    """A file of training problems; what also stands in `path_test` is left out."""
    path_test: str = ""
    """A file of test problems."""
    test_frac: float = 0.2
    """How much of rows that are dealt goes to the test, from 0 to 1."""
    n_train: int = 0
    """How many training problems to take, from the top; 0 takes all."""
    n_test: int = 0
    """How many test problems to take, from the top; 0 takes all."""

    def __post_init__(self) -> None:
        if self.path and (self.path_train or self.path_test):
            raise UserError(f"{self.name}: give either path, or path_train and path_test, not both")
        if not 0 <= self.test_frac <= 1:
            raise UserError(f"{self.name}: test_frac must be between 0 and 1, not {self.test_frac}")
        if min(self.n_train, self.n_test) < 0:
            raise UserError(f"{self.name}: n_train and n_test must be at least 1, or 0 for all")

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def hub(self) -> Mapping[str, HubRows]:
        """Where the hub has the splits; under `both`, rows to be dealt to the two."""

    @abstractmethod
    def problem(self, id: str, place: str, row: Mapping[str, object]) -> Problem:
        """The problem in one row. Raises `UserError`, naming the place, for a row that holds none."""

    def problems(self, split: str) -> Sequence[Problem]:
        """The different problems of `train` or `test`, in the order of their file; the two share no question.

        Raises `UserError` for another split, an unreadable file or line, and a split without problems.
        """
        check_split(split)
        problems = _problems(self, split)
        if not problems:
            named = self.path or self.path_train or self.path_test
            remedy = f"name a file of them with path_{split}, or deal path by test_frac" if named else "name a file of them, path=FILE"
            raise UserError(f"{self.name} has no {split} problems here: {remedy}")
        return problems[: (self.n_train if split == "train" else self.n_test) or None]

    @abstractmethod
    async def score(self, rollout: Rollout) -> Score: ...

    @abstractmethod
    def solution(self, problem: Problem) -> str: ...

    def is_test(self, question: str, problem: Problem) -> bool:
        """To which split a problem of `path` is dealt: by a fixed hash of what it asks."""
        return fold(0, "test", question) < self.test_frac * 2**63


@lru_cache(maxsize=8)
def _problems(task: RowFile, split: str) -> tuple[Problem, ...]:
    rows = _rows(task, "both")
    if rows is not None:
        everything = _by_question(task, "", rows)
        return tuple(p for question, p in everything.items() if task.is_test(question, p) == (split == "test"))
    found = _by_question(task, f"{split}/", _rows(task, split) or [])
    tested = _by_question(task, "test/", _rows(task, "test") or []) if split == "train" else {}
    return tuple(problem for question, problem in found.items() if question not in tested)


def _rows(task: RowFile, part: str) -> list[Row] | None:
    """The rows of `train`, of `test` or of `both` together; None if the task has no such rows."""
    paths = {"both": task.path, "train": task.path_train, "test": task.path_test}
    if any(paths.values()):
        return read_jsonl(paths[part]) if paths[part] else None
    return read_hub(*task.hub[part], option="path") if part in task.hub else None


def _by_question(task: RowFile, prefix: str, rows: Sequence[Row]) -> dict[str, Problem]:
    """The problems under what they ask, spaces aside; the first of those that ask the same."""
    found: dict[str, Problem] = {}
    for number, (place, row) in enumerate(rows, 1):
        problem = task.problem(f"{task.name}/{prefix}{number}", place, row)
        found.setdefault(" ".join(problem.messages[-1].content.split()), problem)
    return found
