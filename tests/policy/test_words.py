"""Models over words: the same text comes back, ends are learned, and a seed gives the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posttrain.policy.hf import load_policy
from posttrain.policy.words import END, WordModelConfig, word_tokenizer, write_word_model
from posttrain.types import Message, UserError

WORDS = ("S", "A", ":", "1", "10", "V")


def test_a_saved_model_reads_and_writes_whole_words(tmp_path: Path) -> None:
    renderer = load_policy(str(write_word_model(tmp_path, WORDS)), "float32").renderer
    assert renderer.vocab_size == len(WORDS) + 2
    prompt = renderer.prompt((Message("user", "S 10 :"),))
    assert renderer.pieces(prompt) == ["S", "10", ":"]
    (whole,) = renderer.documents((Message("user", "S 10 :"), Message("assistant", "A 1")))
    assert renderer.pieces(whole.token_ids) == ["S", "10", ":", "A", "1", END]
    assert whole.trained == (False, False, False, True, True, True)
    assert renderer.stop_token_ids == (whole.token_ids[-1],)
    assert renderer.parse(whole.token_ids[3:]).content == "A 1"


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    models = [load_policy(str(write_word_model(tmp_path / str(i), WORDS, WordModelConfig(seed=s))), "float32") for i, s in enumerate((1, 1, 2))]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("words", [["a b"], ["a", "a"], ["<end>"], [""]])
def test_words_that_cannot_be_told_apart_are_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="different words"):
        word_tokenizer(words)
