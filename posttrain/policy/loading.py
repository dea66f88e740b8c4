"""Model and tokenizer from a folder, with the head that is asked for, ready for our attention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from posttrain.policy import attention
from posttrain.policy.lean import make_lean
from posttrain.policy.lora import LoraConfig, add_lora
from posttrain.policy.models import resolve
from posttrain.policy.numerics import has_fast_bf16, prepare
from posttrain.renderer import Renderer
from posttrain.types import UserError

Kind = Literal["causal", "scalar"]
"""A distribution over the next token, or one number for each token."""


def load_model(model: str, dtype: str, kind: Kind, lora: LoraConfig | None = None) -> tuple[nn.Module, Renderer]:
    """The model, in evaluation mode for good, and its renderer. Raises UserError for what is no model of this kind."""
    prepare()
    folder = resolve(model)
    inner, tokenizer = _load(folder, _dtype(dtype), model, kind)
    has_adapter = hasattr(inner, "get_base_model")
    base = inner.get_base_model() if has_adapter else inner
    base.set_attn_implementation(attention.NAME)
    base.get_input_embeddings().padding_idx = None
    make_lean(base)
    if lora is not None:
        if has_adapter:
            raise UserError(f"'{model}' already is an adapter; train it on without --lora-rank, or start from its base model")
        inner = add_lora(base, lora, kind)
    return inner.eval(), Renderer(tokenizer)


def load_renderer(model: str) -> Renderer:
    """The renderer alone, without the model's weights. Raises UserError where there is no tokenizer."""
    import transformers

    folder = resolve(model)
    try:
        with _quiet():
            return Renderer(transformers.AutoTokenizer.from_pretrained(folder))
    except Exception as error:
        raise UserError(f"the tokenizer of '{model}' cannot be loaded ({_reason(error)}); its files are damaged or missing") from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _dtype(name: str) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if has_fast_bf16() else torch.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"unknown dtype '{name}': give auto, float32 or bfloat16")
    return getattr(torch, name)


def _load(folder: Path, dtype: torch.dtype, name: str, kind: Kind):
    import peft
    import transformers

    suffix = "CausalLM" if kind == "causal" else "SequenceClassification"
    options: dict[str, Any] = {"dtype": dtype} | ({"num_labels": 1} if kind == "scalar" else {})
    missing: list[str] = []
    is_adapter = (folder / "adapter_config.json").is_file()
    try:
        if kind == "causal" and is_scalar_folder(folder):
            raise UserError(f"'{name}' is a reward model, which gives scores and writes no text: give a language model")
        with _quiet():
            if is_adapter:
                model = getattr(peft, f"AutoPeftModelFor{suffix}").from_pretrained(folder, is_trainable=True, **options)
            else:
                model, info = getattr(transformers, f"AutoModelFor{suffix}").from_pretrained(folder, output_loading_info=True, **options)
                missing = sorted(info["missing_keys"])
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the model '{name}' cannot be loaded ({_reason(error)}); its files are damaged or of an unknown kind") from error
    if kind == "scalar":
        _prepare_scalar(model, tokenizer, "score.weight" in missing)
        missing = [key for key in missing if key != "score.weight"]
    if missing:  # transformers would go on with random numbers in their place
        raise UserError(f"the model '{name}' lacks {len(missing)} of its weights ({missing[0]}, …): the checkpoint is incomplete, take another one")
    return model, tokenizer


def is_scalar_folder(folder: Path) -> bool:
    """Whether the folder's own files call it a classifier."""
    is_adapter = (folder / "adapter_config.json").is_file()
    settings = json.loads((folder / ("adapter_config.json" if is_adapter else "config.json")).read_text())
    names = [settings.get("task_type") or ""] if is_adapter else settings.get("architectures") or []
    return any(name == "SEQ_CLS" or name.endswith("ForSequenceClassification") for name in names)


def _prepare_scalar(model: nn.Module, tokenizer, fresh: bool) -> None:
    """The head computes in fp32, and where it is new it starts small: N(0, 1 / (D + 1)), as in Stiennon et al. (2009.01325)."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "score"):
        raise UserError(f"the architecture {type(base).__name__} keeps its scalar head in an unknown place; it is not supported")
    base.score.float()
    if fresh:
        weight = base.score.weight
        nn.init.normal_(weight, std=(weight.shape[1] + 1) ** -0.5)
    if base.config.pad_token_id is None:  # transformers' own forward looks for the last token by it
        base.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars, and without its remark that a head which it has not found is new."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
