"""TRL's DPO: `DPOTrainer` on the tokens that ours has, timed from outside by its own callbacks."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from benchmarks.learning import Pairs
from benchmarks.trl_training import Seen, arguments, model_and_tokenizer, quiet, train
from benchmarks.work import Done, Moment

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "kept activations": {"gradient_checkpointing": False},
    "one by one": {"rows": 1, "gradient_checkpointing": False},
    "one by one, recomputed": {"rows": 1},
    "reference first": {"rows": 1, "gradient_checkpointing": False, "precompute_ref_log_probs": True},
    "reference first, recomputed": {"rows": 1, "precompute_ref_log_probs": True},
    "bf16 weights": {"gradient_checkpointing": False},
}


class Counting(DPOTrainer):
    """Takes pairs that are tokens already, and keeps count of what it is given."""

    def __init__(self, **settings: Any) -> None:
        self.seen: list[Seen] = []
        self.before = (0.0, 0.0)  # seconds by the clock and of the processor
        super().__init__(**settings)

    def _prepare_dataset(self, dataset, *unused):
        return dataset

    def _precompute_ref_logps(self, *args):
        began = Moment.now()
        dataset = super()._precompute_ref_logps(*args)
        self.before = tuple(now - then for now, then in zip(Moment.now(), began, strict=True))
        return dataset

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        answers, n_pairs = inputs["completion_mask"].sum(), len(inputs["input_ids"]) // 2
        prompts = (inputs["attention_mask"] - inputs["completion_mask"])[:n_pairs].sum()
        seen = self._metrics["train"]
        logprobs = (seen["logps/chosen"][-1] + seen["logps/rejected"][-1]) * n_pairs
        self.seen.append(Seen(answers.item(), (prompts + answers).item(), -logprobs))
        return loss


def run(work: Pairs, setting: str) -> Done:
    """All steps of each pass; `setting` is one of those that `benchmarks/dpo.py` describes."""
    quiet()
    rows = [{"prompt_ids": p.chosen.prompt, "chosen_ids": p.chosen.tokens, "rejected_ids": p.rejected.tokens} for p in work.items()]
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(**arguments(work, folder, **SETTINGS[setting]))
        common = model_and_tokenizer(work, setting == "bf16 weights")
        trainer = Counting(**common, args=config, train_dataset=Dataset.from_list(rows))
        done = train(work, trainer)
    # What is computed once before the first pass counts in each: a training may well have no second.
    seconds, cpu_seconds = trainer.before
    return replace(done, seconds=tuple(s + seconds for s in done.seconds), cpu_seconds=tuple(s + cpu_seconds for s in done.cpu_seconds))
