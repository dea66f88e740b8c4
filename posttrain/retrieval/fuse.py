"""Several retrievers as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from posttrain.retrieval.passages import Passage, Retriever, check_k
from posttrain.types import UserError


@dataclass(frozen=True)
class Fused:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): a passage scores the sum of 1 / (constant + rank) over the lists.

    Ranks count from 1, and a list that lacks a passage adds nothing. Only ranks are used, so that scores of different scales mix.
    Equal scores keep the order in which the passages were first met: the first retriever's list, then the second's, and so on.
    """

    retrievers: Sequence[Retriever]
    constant: float = 60.0
    """How little the very first ranks stand out; 60 is the paper's."""
    depth: int = 100
    """How many passages each retriever is asked for; as many as the search wants if that is more."""

    def __post_init__(self) -> None:
        if not self.retrievers:
            raise UserError("there is nothing to fuse: give at least one retriever")
        if self.constant < 0 or self.depth < 1:
            raise UserError(f"fusion takes a constant of 0 or more and a depth of 1 or more, not {self.constant} and {self.depth}")

    def search(self, query: str, k: int) -> list[Passage]:
        """At most k passages, best first. Raises `UserError` for k < 1, and for lists that call different texts by one id."""
        check_k(k)
        found: dict[str, Passage] = {}
        for retriever in self.retrievers:
            for rank, passage in enumerate(retriever.search(query, max(k, self.depth)), 1):
                before = found.setdefault(passage.id, replace(passage, score=0.0))
                if before.text != passage.text:
                    raise UserError(f"two retrievers call different texts '{passage.id}': fuse retrievers of the same passages")
                found[passage.id] = replace(before, score=before.score + 1 / (self.constant + rank))
        return sorted(found.values(), key=lambda passage: -passage.score)[:k]
