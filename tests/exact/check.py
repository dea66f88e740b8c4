"""One row of the correctness table: a claim, what it should give, what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal


@dataclass(frozen=True)
class Check:
    """A claim in words and numbers. Yielded by a check function, whose name is the test's."""

    item: str
    """The number of the trap it is about, in the project's checklist."""
    claim: str
    expected: float
    """What theory says: worked out by hand, in closed form or by another method; or the bound of an inequality."""
    measured: float
    tolerance: float = 0.0
    """How far `measured` may be from `expected`; for an inequality 0."""
    relation: Literal["=", "<", ">"] = "="

    @property
    def holds(self) -> bool:
        """Whether the measurement bears the claim out; nan never does."""
        if self.relation == "<":
            return self.measured < self.expected
        if self.relation == ">":
            return self.measured > self.expected
        return abs(self.measured - self.expected) <= self.tolerance


GRADIENT_TOLERANCE = 1e-8
"""Of relative errors of gradients: finite differences in float64 reach 1e-10 and better."""


def gradient_check(item: str, words: str, where: str, error: float) -> Check:
    """The claim that an expected gradient is the true one, by its relative error."""
    return Check(item, f"{words}: relative gradient error, {where}", 0, error, GRADIENT_TOLERANCE)


CheckFunction = Callable[[], Iterable[Check]]


@cache
def rows(function: CheckFunction) -> tuple[Check, ...]:
    """The rows of a check function, measured once per process."""
    return tuple(function())
