"""The chat formats as published, over tokenizers that are made here: bytes and each format's special tokens, with or without merges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from posttrain.renderer import Rendered, Renderer

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Format:
    """Which special tokens a format has, and what they are for."""

    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    pad: str | None = None
    opens: bool = False
    """The tokenizer itself puts `bos` before a text, besides the template."""
    plain: tuple[str, ...] = ()
    """Tokens of their own that are not special: tags."""


FORMATS = {
    "smollm2": Format(("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_start|>", "<|im_end|>"),
    "qwen2_5": Format(("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None, "<|endoftext|>", plain=("<tool_call>", "</tool_call>")),
    "qwen3": Format(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", None, "<|endoftext|>",
        plain=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
    ),
    "llama3_2": Format(
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
        "<|eot_id|>", "<|begin_of_text|>", opens=True,
    ),
    "gemma2": Format(("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>", "<pad>", opens=True),
    "gemma3": Format(("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>", "<pad>", opens=True),
}  # fmt: skip


def renderer(name: str, texts: Sequence[str] = ()) -> Renderer:
    """The format over bytes; with `texts`, over a few hundred merges learned from them, and words split as GPT-2 splits them."""
    return _renderer(name, tuple(texts))


@cache
def _renderer(name: str, texts: tuple[str, ...]) -> Renderer:
    form = FORMATS[name]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(texts))
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + 300 * bool(texts), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in form.special])
    backend.add_tokens([AddedToken(token, special=False) for token in form.plain])
    if form.opens:
        backend.post_processor = processors.TemplateProcessing(f"{form.bos} $A", special_tokens=[(form.bos, backend.token_to_id(form.bos))])
    return Renderer(
        PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token=form.eos, bos_token=form.bos, pad_token=form.pad,
            chat_template=(TEMPLATES / f"{name}.jinja").read_text(),
        )
    )  # fmt: skip


def runs(marked: str) -> list[tuple[str, bool]]:
    """`read⟦trained⟧read` as pieces of text with their mark."""
    return [(piece.strip("⟦⟧"), piece.startswith("⟦")) for piece in re.split("(⟦.*?⟧)", marked, flags=re.DOTALL) if piece]


def tokens(renderer: Renderer, marked: str) -> list[tuple[int, bool]]:
    """The same as tokens, each with its mark."""
    return [(token, trained) for piece, trained in runs(marked) for token in renderer.encode(piece)]


def shown(renderer: Renderer, rendered: Rendered) -> str:
    """A rendered text in that notation."""
    text, before = "", False
    start = 0
    for end in range(1, len(rendered.trained) + 1):
        if end == len(rendered.trained) or rendered.trained[end] != rendered.trained[start]:
            piece = renderer.decode(rendered.token_ids[start:end])
            text += f"⟦{piece}⟧" if rendered.trained[start] else piece
            start = end
    return text
