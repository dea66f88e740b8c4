"""What every training is told, whatever the algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Literal

from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import AdamWConfig
from posttrain.types import UserError

MAY_CHANGE = ("out", "steps", "recompute", "checkpoint_every", "mirrors")
"""What a run may be taken up with anew."""


@dataclass(frozen=True)
class Settings:
    """The model, where the run goes, how long, and with what optimizer."""

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    out: Path = Path("runs/train")
    """The run's folder; the same command again goes on where it stopped."""
    steps: int = 100
    """Optimizer steps, or rounds of attempting and learning."""
    seed: int = 0
    """Fixes data order, samples and adapters; the same seed gives the same run."""
    optim: AdamWConfig = field(default_factory=AdamWConfig)
    lora_rank: int = 0
    """Rank of a LoRA adapter; 0 trains all weights."""
    lora_alpha: float = 32.0
    """The adapter's update is scaled by lora_alpha / lora_rank."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; auto takes bf16 where the processor has units for it. Weights are kept in fp32 either way."""
    tokens_per_batch: int = 1024
    """Tokens in one packed row: memory grows with it, results do not depend on it."""
    recompute: bool = False
    """Compute each layer again in the backward pass instead of keeping what it made: less memory for more time, the same results."""
    checkpoint_every: int = 20
    """Steps between checkpoints; the last step always leaves one."""
    mirrors: tuple[str, ...] = ()
    """Also send the metrics to wandb, trackio or tensorboard (each an extra)."""

    MAY_BE_INFINITE: ClassVar[tuple[str, ...]] = ()
    """Settings of which infinity means: no limit."""

    def __post_init__(self) -> None:
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if isinstance(value, float) and (math.isnan(value) or math.isinf(value) and name not in self.MAY_BE_INFINITE):
                raise UserError(f"{_flag(name)} must be a finite number, not {value}")
        self._at_least(1, "steps", "tokens_per_batch", "checkpoint_every")
        self._at_least(0, "lora_rank")

    @property
    def lora(self) -> LoraConfig | None:
        """The adapter asked for, if any."""
        return LoraConfig(self.lora_rank, self.lora_alpha) if self.lora_rank else None

    def _at_least(self, least: float, *names: str) -> None:
        """Refuse settings below `least`, nan among them."""
        for name in names:
            if not getattr(self, name) >= least:
                raise UserError(f"{_flag(name)} must be at least {least}")

    def _only_if(self, holds: bool, when: str, *names: str) -> None:
        """Refuse settings other than their default that nothing would read, since `holds` is false: they would be passed over in silence."""
        for field_ in fields(self):
            if not holds and field_.name in names and getattr(self, field_.name) != field_.default:
                raise UserError(f"{_flag(field_.name)} has no effect without {when}: leave it out, or add that")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
