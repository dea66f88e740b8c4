"""A few passages, and an encoder that needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posttrain.retrieval.passages import Passage


def passages_of(*texts: str) -> list[Passage]:
    """Whole documents called p0, p1, and so on."""
    return [Passage(f"p{i}", text, 0.0, f"p{i}", 0, len(text)) for i, text in enumerate(texts)]


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in passages]


class CountingEncoder:
    """Counts letters: texts of the same letters have the same vector. Remembers which passages it was given."""

    name = "letters"

    def __init__(self, model: str = "", alphabet: str = "abcdefghijklmnopqrstuvwxyz") -> None:
        self.alphabet = alphabet
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.lower().count(letter) for letter in self.alphabet] for text in texts], dtype=np.float32)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return self.encode_queries(texts)

    def count_cut(self, texts: Sequence[str]) -> int:
        return sum(len(text) > 30 for text in texts)
