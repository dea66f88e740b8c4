"""One random transformer in several vocabularies: what a training step holds then differs by the vocabulary alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.work import Work
from posttrain.batching import TokenSequence
from posttrain.types import UserError

LEARNING_RATE = 1e-6


@dataclass(frozen=True)
class Vocabularies(Work):
    """A step on the same tokens for each vocabulary."""

    sizes: tuple[int, ...] = (8192, 32768, 131072, 262144)
    """Vocabularies, in tokens."""
    tokens: int = 1024
    """Tokens of a step, in one row: all but the first are predicted, and trained."""
    width: int = 256
    """Of the hidden states, and so of the embedding."""
    layers: int = 2
    """Of the transformer."""
    tied: bool = True
    """The embedding is the head too; with --no-tied they are two."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(2, "tokens")
        self._at_least(1, "layers")
        if self.width < 64 or self.width % 64:
            raise UserError("--width must be a multiple of 64: that is the width of a head")
        if not self.sizes or min(self.sizes) < 256:
            raise UserError("--sizes must be at least 256 each")

    @property
    def asked(self) -> str:
        head = "a tied head" if self.tied else "a head of its own"
        return f"random Llama in {self.dtype}, {self.layers} layers of width {self.width}, {head}, one step on a row of {self.tokens} tokens"

    @property
    def sequence(self) -> TokenSequence:
        """The row: tokens that all vocabularies have."""
        import numpy as np

        drawn = np.random.default_rng(self.seed).integers(min(self.sizes), size=self.tokens).tolist()
        return TokenSequence(tuple(drawn[:1]), tuple(drawn[1:]))

    @contextmanager
    def model(self, vocabulary: int) -> Iterator[Path]:
        """A folder with the model and a tokenizer of as many words."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            self._write_model(folder, vocabulary)
            _write_tokenizer(folder, vocabulary)
            yield folder

    def _write_model(self, folder: Path, vocabulary: int) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(self.seed)
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=self.width, intermediate_size=3 * self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.width // 64, num_key_value_heads=self.width // 64, max_position_embeddings=max(512, self.tokens),
            tie_word_embeddings=self.tied, bos_token_id=0, eos_token_id=0, pad_token_id=None,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="w0").save_pretrained(folder)
