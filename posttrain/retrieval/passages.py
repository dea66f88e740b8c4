"""The two nouns of retrieval, and what every retriever does alike: check the question, rank, give the best."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from posttrain.types import UserError

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""The letters of Chinese and Japanese, for a regular expression's brackets: written without blanks, so that each is taken as a word."""


@dataclass(frozen=True)
class Passage:
    """A stretch of a source, with its place in it: `text == source_text[start:end]`."""

    id: str
    text: str
    score: float
    """How well it fits the query, larger is better, on the retriever's own scale; 0 until something has ranked it."""
    source: str
    """The name of the document it stands in."""
    start: int
    """Where it begins in the document's text, in characters."""
    end: int
    """Where it ends, in characters."""


class Retriever(Protocol):
    """Whatever can be asked for passages."""

    def search(self, query: str, k: int) -> list[Passage]:
        """At most k passages for the query, best first; fewer where fewer fit."""
        ...


def check_k(k: int) -> None:
    """Raises `UserError` unless at least one passage is asked for."""
    if k < 1:
        raise UserError(f"a search gives at least 1 passage, not {k}: ask for k of 1 or more")


def check_ids(passages: Sequence[Passage]) -> None:
    """Raises `UserError` if two passages have one id, as nothing could then tell them apart."""
    seen: set[str] = set()
    for passage in passages:
        if passage.id in seen:
            raise UserError(f"two passages have the id '{passage.id}': give every passage an id of its own")
        seen.add(passage.id)


def best(passages: Sequence[Passage], scores: np.ndarray, k: int) -> list[Passage]:
    """The k passages of the highest score, best first; equal scores keep the passages' order. Raises ValueError for a nan."""
    places, kept = _first(scores, k) if scores.size else ([], [])
    return [_scored(passages[i], score) for i, score in zip(places, kept, strict=True)]


def _scored(passage: Passage, score: float) -> Passage:
    """As `dataclasses.replace`, which takes 3 µs and `Passage` itself .6, as a frozen class sets each field by a call; this .2. A search may take 70."""
    made = object.__new__(Passage)
    fields = made.__dict__
    fields |= passage.__dict__
    fields["score"] = score
    return made


def _first(scores: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """The places and the scores of the k highest, highest first; of equal ones the first. Sorts no more than it must."""
    k = min(k, scores.size)
    top = np.partition(scores, -k)[-k:]
    if math.isnan(top.dot(top)):  # nan is sorted behind all numbers, so that it is among these if there is one; a sum of squares is nan only then
        raise ValueError("a score is nan: it cannot be ranked")
    (kept,) = (scores >= top[0]).nonzero()  # k, and those that are equal to the last of them
    found = scores[kept]
    order = (-found).argsort(kind="stable")[:k]
    return kept[order].tolist(), found[order].tolist()


def best_above_zero(passages: Sequence[Passage], scores: np.ndarray, k: int) -> list[Passage]:
    """As `best`, without those that score 0: they share no word with the query, and their order would say nothing."""
    return [passage for passage in best(passages, scores, k) if passage.score > 0]


def optional(module: str, use: str) -> ModuleType:
    """The module of the extra `rag`. Raises `UserError`, naming what it is for, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise UserError(f"{use} needs '{module.split('.')[0]}': pip install 'posttrain[rag]'") from error
