"""Held-out text: what it is, how it is cut, and what its likelihood means."""

from __future__ import annotations

import math

import pytest

from posttrain.evals import heldout
from posttrain.evals.scorer import Unigram
from posttrain.types import UserError


def to_bytes(text: str) -> list[int]:
    return list(text.encode())


def test_the_text_is_the_novella_without_the_publishers_notes() -> None:
    text = heldout.verne()
    assert text.startswith("Little though they seem to think of it")
    assert text.endswith("the terrestrial year.")
    assert "Gutenberg" not in text and "Redactor" not in text
    assert 30_000 < len(text) < 34_000


def test_documents_are_whole_paragraphs_of_at_least_the_asked_length_in_their_order() -> None:
    texts = heldout.documents(str.split, n_tokens=100)  # type: ignore[arg-type]
    assert heldout.verne().startswith("\n\n".join(texts))
    assert min(len(text.split()) for text in texts) >= 100
    assert len(texts) > 30


def test_a_document_ends_as_soon_as_it_is_long_enough_and_a_short_rest_is_dropped() -> None:
    assert heldout.documents(to_bytes, n_tokens=4, text="ab\n\ncd\n\nefgh\n\nij") == ("ab\n\ncd", "efgh")


def test_a_text_too_short_for_one_document_is_refused() -> None:
    with pytest.raises(UserError, match="shorter than one document of 9 tokens"):
        heldout.documents(to_bytes, n_tokens=9, text="ab")


def test_likelihood_is_per_token_and_per_byte_over_all_documents() -> None:
    probabilities = [0.0] * 256
    probabilities[ord("a")], probabilities[ord("b")] = 0.25, 0.75
    found = heldout.log_likelihood(["aa", "bbbb"], to_bytes, Unigram(tuple(probabilities)))
    total = 2 * math.log(0.25) + 4 * math.log(0.75)
    assert sum(found.logprobs) == pytest.approx(total)
    assert found.per_token().measurement.value == pytest.approx(total / 6)
    assert (found.per_token().measurement.n, found.per_token().measurement.unit) == (2, "nats")


def test_bytes_are_those_of_utf8_however_the_text_is_tokenized() -> None:
    found = heldout.log_likelihood(["é" * 3, "e" * 6], lambda text: [ord(c) % 256 for c in text], Unigram((1 / 256,) * 256))
    assert (found.n_tokens, found.n_bytes) == ((3, 6), (6, 6))
    assert found.per_byte().measurement.value == pytest.approx(9 * -math.log(256) / 12)


def test_every_document_is_read_behind_a_paragraph_break() -> None:
    prompts: list[list[int]] = []

    class Listening(Unigram):
        def score_tokens(self, pairs):  # type: ignore[no-untyped-def]
            prompts.extend(prompt for prompt, _ in pairs)
            return super().score_tokens(pairs)

    heldout.log_likelihood(["a", "b"], to_bytes, Listening((1 / 256,) * 256))
    assert prompts == [to_bytes("\n\n")] * 2
