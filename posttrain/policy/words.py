"""Small models over words, random at first: what synthetic worlds are learned with, where a question is about learning and not about English.

A word is whatever stands between blanks. A conversation is its messages one behind the other, and the assistant's end with
`<end>`; nothing marks who speaks, for in these worlds the text itself says whose turn it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posttrain.types import UserError

END, UNKNOWN = "<end>", "<unk>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{{ ' <end> ' if m['role'] == 'assistant' else ' ' }}{% endfor %}"


@dataclass(frozen=True)
class WordModelConfig:
    """The size of a model: a Llama (rotary positions) with tied embeddings."""

    hidden: int = 64
    """Width of the residual stream."""
    layers: int = 2
    heads: int = 2
    context: int = 128
    """Longest text, in words."""
    seed: int = 0
    """Of the first weights."""


def word_tokenizer(words: Sequence[str]):
    """One token for each word, `<end>`, and `<unk>` for every other word. Raises UserError for a word with a blank, and for one given twice."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if any(word.split() != [word] for word in words) or len({UNKNOWN, END, *words}) != len(words) + 2:
        raise UserError(f"a vocabulary is made of different words without blanks, other than {END} and {UNKNOWN}")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([UNKNOWN, END, *words])}, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(END, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END, unk_token=UNKNOWN, chat_template=TEMPLATE)


def write_word_model(folder: Path, words: Sequence[str], config: WordModelConfig = WordModelConfig()) -> Path:
    """A model's folder over these words, with random weights that are the same for the same seed; returns the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = word_tokenizer(words)
    settings = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=config.hidden, intermediate_size=4 * config.hidden, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.heads, max_position_embeddings=config.context,
        tie_word_embeddings=True, initializer_range=0.08, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        LlamaForCausalLM(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
