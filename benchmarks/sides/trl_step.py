"""TRL's GRPO step: `GRPOTrainer`, timed from outside by its own callbacks."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.work import Attempts, Done, Moment, brevity, durations

NEVER = "<|never|>"
"""The tokenizer's end-of-text while measuring: the model has no row for it, so no completion ends early."""


@dataclass
class Clock(TrainerCallback):
    """When each step began, when its completions came to be scored, and when it ended."""

    began: list[Moment] = field(default_factory=list)
    scored: list[Moment] = field(default_factory=list)
    ended: list[Moment] = field(default_factory=list)
    sampled_tokens: int = 0

    def on_step_begin(self, args, state, control, **unused) -> None:
        self.began.append(Moment.now())

    def on_step_end(self, args, state, control, **unused) -> None:
        self.ended.append(Moment.now())

    def reward(self, completions, completion_ids, **unused) -> list[float]:
        """TRL calls it once a step, between sampling and training."""
        self.scored.append(Moment.now())
        self.sampled_tokens += sum(map(len, completion_ids))
        return [brevity(completion[0]["content"]) for completion in completions]


def run(work: Attempts, setting: str) -> Done:
    """One step for each repeat, everything in it; `setting` is one of those that `grpo_step.py` describes."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(work, setting, folder, clock)
        trainer.train()
    prompt_tokens = (trainer.state.num_input_tokens_seen - clock.sampled_tokens) // (work.samples * work.n_repeats)
    began, scored, ended = (moments[work.warmup :] for moments in (clock.began, clock.scored, clock.ended))
    return Done(
        *durations(began, ended), {"prompt": prompt_tokens, "sampled": clock.sampled_tokens // work.n_repeats},
        {"sampling": durations(began, scored)[0], "training": durations(scored, ended)[0]},
    )  # fmt: skip


def _trainer(work: Attempts, setting: str, folder: str, clock: Clock) -> GRPOTrainer:
    tokenizer = AutoTokenizer.from_pretrained(work.folder, padding_side="left")
    tokenizer.add_special_tokens({"eos_token": NEVER})
    model = AutoModelForCausalLM.from_pretrained(work.folder, dtype="bfloat16" if setting == "bf16 weights" else "float32")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    chats = [[{"role": m.role, "content": m.content} for m in problem.messages] for problem in work.problems]
    trainer = GRPOTrainer(
        model=model, reward_funcs=clock.reward, args=_config(work, setting, folder), callbacks=[clock],
        train_dataset=Dataset.from_dict({"prompt": chats}), processing_class=tokenizer,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def _config(work: Attempts, setting: str, folder: str) -> GRPOConfig:
    """What is not named here is TRL's own default: beta 0, temperature 1, one iteration, fused AdamW, clipping at norm 1."""
    rows = work.n_completions if setting == "one batch" else work.samples
    return GRPOConfig(
        output_dir=folder, max_steps=work.n_repeats, seed=work.seed, use_cpu=True, bf16=work.dtype == "bfloat16",
        num_generations=work.samples, max_completion_length=work.tokens, shuffle_dataset=False,
        per_device_train_batch_size=rows, gradient_accumulation_steps=work.n_completions // rows,
        gradient_checkpointing=setting == "default",
        report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
