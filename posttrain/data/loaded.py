"""Items read from a file, with an account of those that could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from posttrain.data.jsonl import read_jsonl
from posttrain.types import UserError

Item = TypeVar("Item")

WhenBad = Literal["error", "drop"]
"""Refuse a file at its first unusable row, or leave such rows out and count them by reason."""


class Unusable(UserError):
    """A row that cannot be used; the text says why in a few words, without saying where."""


@dataclass(frozen=True)
class Loaded(Generic[Item]):
    """What a file gave."""

    items: list[Item]
    dropped: dict[str, int] = field(default_factory=dict)
    """How many rows were left out, by reason."""

    def __str__(self) -> str:
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.dropped.items())
        return f"{len(self.items)} used" + (f", left out: {reasons}" if reasons else "")


def load_rows(
    path: str | Path, make: Callable[[str, dict[str, Any]], Item], when_bad: WhenBad = "error", way_out: str = "leave such rows out with --when-bad drop"
) -> Loaded[Item]:
    """`make(name, row)` of every row of a .jsonl or .jsonl.gz file, the name saying file and line, and not the folder: it becomes the
    item's id, and samples must not depend on where a file lies.

    `make` raises `Unusable` for a row that it cannot use. Raises UserError for a file that cannot be read, at the first
    unusable row with `when_bad` "error", and where no row is left.
    """
    items, dropped = [], Counter[str]()
    file = Path(path).name
    for place, row in read_jsonl(path):
        try:
            items.append(make(place.replace(str(path), file, 1), row))
        except Unusable as reason:
            if when_bad == "error":
                raise UserError(f"{place}: {reason}; mend it, or {way_out}") from None
            dropped[str(reason)] += 1
    if not items:
        left_out = f" ({', '.join(f'{n} {reason}' for reason, n in dropped.items())})" if dropped else ""
        raise UserError(f"'{path}' holds nothing that can be used{left_out}")
    return Loaded(items, dict(dropped))


def split(items: Sequence[Item], heldout_frac: float, key: Callable[[Item], Any] = repr) -> tuple[list[Item], list[Item]]:
    """The items to learn from, and those held out: by the hash of `key`, so that equal items never stand on both sides.

    Held out is whatever hashes below `heldout_frac`, so that prompts and the pairs made of them fall on the same sides, and as much
    more as it takes to hold out that share of these items: pairs made of prompts that were split before have none of those
    left. With `heldout_frac` above 0 neither side is empty; raises UserError where all items are the same, so that one would have
    to be.
    """
    places = [int.from_bytes(sha256(repr(key(item)).encode()).digest()[:8]) / 2**64 for item in items]
    bound = heldout_frac
    if heldout_frac > 0 and places:
        different = sorted(set(places))
        if len(different) == 1:
            n = len(items)
            raise UserError(f"holding out would leave nothing to learn from, since all {n} share one prompt: give others too, or --heldout-frac 0")
        share = different[min(max(1, round(heldout_frac * len(different))), len(different) - 1)]
        bound = min(max(bound, share), different[-1])
    learned = [item for item, place in zip(items, places, strict=True) if place >= bound]
    return learned, [item for item, place in zip(items, places, strict=True) if place < bound]
