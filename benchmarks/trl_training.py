"""What TRL's sides share where each repeat is a pass over the data: settings, timing, counting."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import datasets
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from benchmarks.learning import LEARNING_RATE, MAX_TOKENS, Learning
from benchmarks.memory import state_bytes
from benchmarks.work import Done, Moment, durations

ROWS = 8
"""Conversations, or pairs, of a micro-batch: the default of TRL and of transformers."""


class Seen(NamedTuple):
    """What one micro-batch held."""

    trained_tokens: int
    read_tokens: int
    nll_nats: float
    """Summed over the trained tokens."""


@dataclass
class Passes(TrainerCallback):
    """When each pass began and ended."""

    began: list[Moment] = field(default_factory=list)
    ended: list[Moment] = field(default_factory=list)

    def on_epoch_begin(self, args, state, control, **unused) -> None:
        self.began.append(Moment.now())

    def on_epoch_end(self, args, state, control, **unused) -> None:
        self.ended.append(Moment.now())


def arguments(work: Learning, folder: str, rows: int = ROWS, accumulated: int = 0, **settings: Any) -> dict[str, Any]:
    """Of a TRL config; what is not named is TRL's own default.

    A micro-batch has at most `rows` rows: as many as divide an optimizer step without remainder. `accumulated` is how many
    micro-batches an optimizer step has; 0 counts them out for rows of one conversation, or pair, each.
    """
    rows = max(n for n in range(1, rows + 1) if work.per_step % n == 0)
    fixed = {
        "output_dir": folder, "seed": work.seed, "use_cpu": True, "bf16": work.dtype == "bfloat16", "learning_rate": LEARNING_RATE,
        "num_train_epochs": work.n_repeats, "per_device_train_batch_size": rows, "max_length": MAX_TOKENS,
        "gradient_accumulation_steps": accumulated or work.per_step // rows,
        "report_to": "none", "logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    return fixed | settings


def quiet() -> None:
    """No bars and no notices of what will once be renamed: a terminal costs time too."""
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ["TQDM_DISABLE"] = "1"


def model_and_tokenizer(work: Learning, bf16_weights: bool = False) -> dict[str, Any]:
    """As a trainer takes them."""
    model = AutoModelForCausalLM.from_pretrained(work.folder, dtype="bfloat16" if bf16_weights else "float32")
    return {"model": model, "processing_class": AutoTokenizer.from_pretrained(work.folder)}


def train(work: Learning, trainer: Trainer) -> Done:
    """Train for all passes; the trainer keeps what its micro-batches held in `seen`."""
    passes = Passes()
    trainer.add_callback(passes)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if trainer.state.global_step != work.n_repeats * work.steps:
        raise ValueError(f"{trainer.state.global_step} optimizer steps, where {work.n_repeats * work.steps} were asked for")
    first = trainer.seen[: len(trainer.seen) // work.n_repeats]
    trained, read, nll = (sum(column) for column in zip(*first, strict=True))
    models = [m for m in (trainer.model, getattr(trainer, "ref_model", None)) if m is not None]
    return Done(
        *durations(passes.began[work.warmup :], passes.ended[work.warmup :]), {"trained": trained, "read": read},
        state_bytes=state_bytes(models, trainer.optimizer), nll_nats=nll / trained,
    )  # fmt: skip
