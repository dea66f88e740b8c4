"""The order in which data come: fixed by seed and position alone, so that a resumed run reads on as if it had not stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from posttrain.seeds import fold

T = TypeVar("T")


@dataclass
class Stream(Generic[T]):
    """An endless stream: every item once in each pass, in a new order."""

    items: Sequence[T]
    seed: int
    position: int = 0
    """How many items have been taken."""

    def take(self, n: int) -> tuple[list[T], list[int]]:
        """The next n items, and a seed for whatever is drawn for each (an item that comes again gets another)."""
        size = len(self.items)
        places = range(self.position, self.position + n)
        self.position += n
        order = {e: np.random.default_rng(fold(self.seed, "order", e)).permutation(size) for e in {p // size for p in places}}
        items = [self.items[order[p // size][p % size]] for p in places]
        return items, [fold(self.seed, "attempt", p) for p in places]
