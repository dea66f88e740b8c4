"""TRL's SFT: `SFTTrainer` on the tokens and marks that ours has, timed from outside by its own callbacks."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer, pack_dataset

from benchmarks.learning import MAX_TOKENS, Conversations
from benchmarks.trl_training import Seen, arguments, model_and_tokenizer, quiet, train
from benchmarks.work import Done
from posttrain.batching import TokenSequence
from posttrain.types import UserError

IGNORED = -100
"""The label of a token that is not trained."""

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "kept activations": {"gradient_checkpointing": False},
    "one by one": {"rows": 1, "gradient_checkpointing": False},
    "one by one, recomputed": {"rows": 1},
    "packed": {"rows": 1, "packing": True, "gradient_checkpointing": False},
    "packed, recomputed": {"rows": 1, "packing": True},
    "bf16 weights": {"gradient_checkpointing": False},
}


class Counting(SFTTrainer):
    """Keeps count of what it is given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.seen: list[Seen] = []

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        read = inputs["attention_mask"].sum().item() if "attention_mask" in inputs else inputs["input_ids"].numel()
        trained = (inputs["labels"][:, 1:] != IGNORED).sum().item()
        self.seen.append(Seen(trained, read, loss.item() * int(num_items_in_batch)))
        return loss


def run(work: Conversations, setting: str) -> Done:
    """All steps of each pass; `setting` is one of those that `benchmarks/sft.py` describes."""
    quiet()
    data = Dataset.from_list([_row(sequence) for sequence in work.items()])
    settings = dict(SETTINGS[setting])
    if settings.get("packing"):
        settings["max_length"], settings["accumulated"] = _packed_evenly(data, work.steps)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(**arguments(work, folder, **settings))
        return train(work, Counting(**model_and_tokenizer(work, setting == "bf16 weights"), args=config, train_dataset=data))


def _row(sequence: TokenSequence) -> dict[str, list[int]]:
    marks = sequence.predicted or (True,) * len(sequence.tokens)
    labels = [token if mark else IGNORED for token, mark in zip(sequence.tokens, marks, strict=True)]
    return {"input_ids": [*sequence.prompt, *sequence.tokens], "labels": [IGNORED] * len(sequence.prompt) + labels}


def _packed_evenly(data: Dataset, steps: int) -> tuple[int, int]:
    """The row length closest to TRL's default for which its packing fills as many rows for each step, and how many they are."""
    longest = max(map(len, data["input_ids"]))
    for length in sorted(range(longest, 2 * MAX_TOKENS, 16), key=lambda n: abs(n - MAX_TOKENS)):
        n_rows = len(pack_dataset(data, length))
        if n_rows % steps == 0:
            return length, n_rows // steps
    raise UserError(f"no length of rows packs these conversations into {steps} equal steps: raise --per-step, or lower --steps")
