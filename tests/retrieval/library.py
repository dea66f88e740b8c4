"""A few passages, and an encoder that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posttrain.retrieval.passages import Passage


def passages_of(*texts: str) -> list[Passage]:
    """Whole documents called p0, p1, and so on."""
    return [Passage(f"p{i}", text, 0.0, f"p{i}", 0, len(text)) for i, text in enumerate(texts)]


def ids(passages: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in passages]


def write_cross_encoder(folder: Path):
    """A tiny cross-encoder of random weights in a folder, that knows `red`, `cat` and `dog`; the model and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "cat", "dog"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=32
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=32, num_labels=1,
        initializer_range=1.0,
    )
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


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
