"""LoRA (arXiv 2106.09685) through peft: the base stays frozen, and with the adapter off it is the reference, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LoraConfig:
    """A low-rank adapter on every linear layer of the transformer's blocks. Dropout is 0: ratios must start at 1."""

    rank: int = 16
    """Rank of the update; 0 trains all weights instead."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    rslora: bool = False
    """Scale by alpha / √rank instead (arXiv 2312.03732)."""


def add_lora(model: nn.Module, config: LoraConfig, kind: str = "causal") -> nn.Module:
    """peft's wrapper of the model, with B = 0: it starts exactly equal to the model. Adapter weights are fp32. With `kind`
    "scalar" the head is trained whole, and saved with the adapter."""
    import peft

    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, use_rslora=config.rslora,
        target_modules="all-linear", task_type="CAUSAL_LM" if kind == "causal" else "SEQ_CLS",
    )  # fmt: skip
    return peft.get_peft_model(model, settings)
