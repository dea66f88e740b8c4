"""SFT: supervised fine-tuning on conversations, the first step from a base model to an assistant (InstructGPT, arXiv 2203.02155, step 1).

Maximum likelihood of the assistant's own tokens, its end of turn included; what the user, the system and the tools say
is read and not learned (`--trained all` learns every token, as in pretraining). Which tokens are the assistant's is
decided message by message by the renderer and never by searching the text: `posttrain show-mask` prints it.

Deviations from common practice, all on purpose:
- Conversations are packed into rows without padding, and attend to nothing but themselves; positions begin at 0 in each.
- The loss is averaged over all trained tokens of the optimizer step, not row by row (a mean of means weighs the tokens
  of short rows more); `--reduction sequence` lets every conversation count the same instead.
- A conversation that does not fit the context is dropped and counted, or refused; never cut.
- An empty thought that a chat template puts before an answer by itself is read and not learned: a model that thinks goes on
  to think. To teach it not to, write the empty thought into the answers.
- Constant learning rate after warm-up; order by seed, every conversation once in each pass.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from posttrain.batching import TokenSequence
from posttrain.data.conversations import load_conversations
from posttrain.data.loaded import split
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig
from posttrain.statistics import mean_over_problems
from posttrain.training.job import Job
from posttrain.training.likelihood import likelihood_step
from posttrain.training.loop import StepResult, Trained
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong, WhichTokens, fit, sequences
from posttrain.types import Measurement, UserError


@dataclass(frozen=True)
class Config(Settings):
    """Fine-tune a model on conversations, by the likelihood of what the assistant says."""

    data: str = ""
    """A file of conversations, .jsonl or .jsonl.gz: OpenAI's `messages`, or prompt/completion, or instruction/output."""
    out: Path = Path("runs/sft")
    """The run's folder; the same command again goes on where it stopped."""
    conversations_per_step: int = 16
    """Conversations learned from at each optimizer step."""
    trained: WhichTokens = "assistant"
    """Learn the assistant's tokens, or all."""
    reduction: Literal["token", "sequence"] = "token"
    """Every token of a step counts the same, or every conversation."""
    when_bad: Literal["error", "drop"] = "error"
    """Refuse a file with an unusable conversation (the chat template's refusal counts too), or leave such out and count them."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count conversations that do not fit the context, or refuse the file."""
    max_context: int = 0
    """Longest conversation in tokens; 0 takes the model's context."""
    heldout_frac: float = 0.05
    """Share of the conversations that is never learned from, by content: the loss on them is measured."""
    measure_every: int = 20
    """Steps between measurements on the held-out conversations; 0 measures only before and after."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-5, warmup_steps=10))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "conversations_per_step")
        self._at_least(0, "max_context", "heldout_frac", "measure_every")
        if self.heldout_frac >= 1:
            raise UserError("--heldout-frac must be below 1: something must be left to learn from")


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    conversations: list[list[TokenSequence]]
    heldout: list[list[TokenSequence]]
    config: Config


async def step(learner: Learner, number: int) -> StepResult:
    """Take conversations, descend on their negative log-likelihood, and now and then measure those held out."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    first = heldout_metrics(trained.policy, learner.heldout) if number == 1 else {}
    stream = Stream(learner.conversations, config.seed, trained.position)
    taken = [s for made in stream.take(config.conversations_per_step)[0] for s in made]
    trained.position = stream.position
    metrics = likelihood_step(trained.policy, trained.optimizer, taken, config.tokens_per_batch, config.reduction)
    metrics["data/epochs"] = stream.position / len(learner.conversations)
    metrics["policy/skipped_updates"] = trained.optimizer.n_skipped
    seconds = time.perf_counter() - started
    if number == config.steps or (config.measure_every and number % config.measure_every == 0):
        metrics |= heldout_metrics(trained.policy, learner.heldout)
    metrics |= {name.replace("heldout/", "heldout_before/"): value for name, value in first.items()}
    timings = {"time/step_s": seconds, "time/tokens_per_s": metrics["data/tokens"] / seconds}
    return StepResult(metrics, timings, note=_note(metrics, timings))


def heldout_metrics(policy: Policy, heldout: Sequence[Sequence[TokenSequence]]) -> dict[str, float]:
    """Negative log-likelihood per trained token (nats), the mean over conversations with its 95% interval."""
    measured = heldout_nll(policy, heldout)
    if measured is None:
        return {}
    return {"heldout/nll_nats": measured.value, "heldout/nll_low": measured.low, "heldout/nll_high": measured.high, "heldout/n": measured.n}


def heldout_nll(policy: Policy, conversations: Sequence[Sequence[TokenSequence]]) -> Measurement | None:
    """Each conversation's mean over its trained tokens, averaged over conversations; None where there are none."""
    if not conversations:
        return None
    flat = [s for parts in conversations for s in parts]
    pieces = iter(policy.score(flat)[0].split([s.n_predicted for s in flat]))
    sums = [[next(pieces) for _ in parts] for parts in conversations]
    means = [-sum(p.sum().item() for p in parts) / sum(len(p) for p in parts) for parts in sums]
    return mean_over_problems(means, unit="nats")


def _note(metrics: dict[str, float], timings: dict[str, float]) -> str:
    heldout = f"  held out {metrics['heldout/nll_nats']:.3f}" if "heldout/nll_nats" in metrics else ""
    return f"nll {metrics['loss/nll_nats']:.3f} nats{heldout}  {timings['time/tokens_per_s']:.0f} tok/s"


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a file that cannot be used (naming the line), a folder of another run, and where nothing is left
    to learn from.
    """
    if not config.data:
        raise UserError("SFT needs conversations: --data FILE.jsonl")
    loaded = load_conversations(config.data, config.when_bad)
    job = Job.open(config, "sft", [config.data])
    policy = job.load_policy()
    if config.max_context > policy.max_context:
        raise UserError(f"--max-context {config.max_context} is more than the {policy.max_context} tokens that '{config.model}' can read: leave it out")
    context = config.max_context or policy.max_context
    make = partial(sequences, policy.renderer, trained=config.trained)
    data = fit(loaded.items, make, lambda made: made, context, config.when_too_long, when_bad=config.when_bad)
    learned, heldout = split(list(zip(data.items, data.made, strict=True)), config.heldout_frac, lambda pair: pair[0].messages)
    learner = Learner(job.trained(policy), [made for _, made in learned], [made for _, made in heldout], config)
    job.describe(conversations=len(learned), held_out=len(heldout), left_out=loaded.dropped | data.dropped)
    return await job.run_steps(learner.trained, lambda number: step(learner, number))
