"""Reward models: a scalar head on a language model, learned from preferences (Bradley–Terry) or from labels of single steps.

*Outcome* (`--data` of pairs): −log σ(r(chosen) − r(rejected) − margin), as in Stiennon et al. (2009.01325) and Ouyang et al.
(2203.02155); the margin as in Llama 2 (2307.09288, eq. 2); centering (r_c + r_r)² as in 2312.09244. The score of a text is
the head at its last token, the end of the assistant's turn.

*Process* (`--data` of rows with `prompt`, `completions` (the steps) and `labels`): a logit at the last token of every step,
binary cross-entropy, as in Uesato et al. (2211.14275) and Lightman et al. (2305.20050; theirs is a language model's token,
ours a scalar head). Steps are joined by `--step-separator`, which the model keeps: as a reward (`process:FOLDER`) it cuts
answers there.

Measured on pairs held out: accuracy with its interval, and whether σ(Δ) is calibrated: of the pairs that it calls 80% sure,
are 80% ranked right? The expected calibration error comes with its interval and with what chance alone would give at this n.

Deviations: both answers share their prompt's computation; the head is computed in fp32 and starts small; one epoch is the
usual choice, since these models overfit (`--steps` says how many, `data/epochs` how far).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from posttrain.batching import TokenSequence, pack
from posttrain.calibration_intervals import Predictions, calibrate
from posttrain.data.loaded import split
from posttrain.data.pairs import load_pairs
from posttrain.data.steps import Steps, load_steps
from posttrain.losses.preference import bradley_terry
from posttrain.policy.optim import AdamWConfig
from posttrain.policy.scalar import ScalarModel
from posttrain.renderer import Renderer
from posttrain.statistics import mean_over_problems, rate_over_problems
from posttrain.training.job import Job
from posttrain.training.likelihood import prompt_tokens
from posttrain.training.loop import StepResult, Trained
from posttrain.training.pairs import PairTokens
from posttrain.training.process import steps_sequence
from posttrain.training.rewards import last_token
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong, fit
from posttrain.types import UserError


@dataclass(frozen=True)
class Config(Settings):
    """Learn to score answers from preferences, or to score each step from labels."""

    data: str = ""
    """A file, .jsonl or .jsonl.gz: pairs (prompt, chosen, rejected), or with --kind process prompt, completions and labels."""
    out: Path = Path("runs/reward-model")
    """The run's folder; the same command again goes on where it stopped."""
    kind: Literal["outcome", "process"] = "outcome"
    """One score for a whole answer, or one for each of its steps."""
    pairs_per_step: int = 16
    """Pairs, or answers with labelled steps, learned from at each optimizer step."""
    centering: float = 0.0
    """Weight of (r_chosen + r_rejected)², which keeps rewards near 0; .01 is usual."""
    use_margins: bool = True
    """Ask for as much more reward as a pair's own `margin` says."""
    step_separator: str = "\n"
    """What stands between the steps of an answer."""
    when_bad: Literal["error", "drop"] = "error"
    """Refuse a file with an unusable row, or leave such out and count them."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count rows that do not fit the context, or refuse the file."""
    heldout_frac: float = 0.1
    """Share of the rows that is never learned from, by content: accuracy and calibration are measured on them."""
    measure_every: int = 20
    """Steps between measurements; 0 measures only before and after."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=1e-5, warmup_steps=10))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "pairs_per_step")
        self._at_least(0, "centering", "heldout_frac", "measure_every")
        if self.heldout_frac >= 1:
            raise UserError("--heldout-frac must be below 1: something must be left to learn from")
        self._only_if(self.kind == "outcome", "--kind outcome", "centering", "use_margins")
        self._only_if(self.kind == "process", "--kind process", "step_separator")


@dataclass(frozen=True)
class Read:
    """What is read of one row: sequences with the tokens marked at which the head is read."""

    sequences: tuple[TokenSequence, ...]
    margin: float = 0.0
    labels: tuple[float, ...] = ()
    """Of a process: 1 for a right step, 0 for a wrong one."""

    @classmethod
    def pair(cls, renderer: Renderer, pair: Any) -> Read:
        both = PairTokens.of(renderer, pair)
        return cls(tuple(last_token(s.prompt, s.tokens) for s in both.sequences), pair.margin)

    @classmethod
    def steps(cls, renderer: Renderer, separator: str, row: Steps) -> Read:
        """The answer step by step, read at the end of each."""
        return cls((steps_sequence(renderer, row.prompt, row.steps, separator),), labels=row.labels)


# --------------------------------------------------------------------------------------------------------------- the step


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    data: list[Read]
    heldout: list[Read]
    config: Config

    @property
    def model(self) -> ScalarModel:
        return self.trained.policy


async def step(learner: Learner, number: int) -> StepResult:
    """Take rows, descend on their loss, and now and then measure those held out."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    metrics = {name.replace("heldout", "heldout_before"): x for name, x in heldout_metrics(learner).items()} if number == 1 else {}
    stream = Stream(learner.data, config.seed, trained.position)
    rows, _ = stream.take(config.pairs_per_step)
    trained.position = stream.position
    metrics |= descend(learner, rows)
    metrics["data/epochs"] = stream.position / len(learner.data)
    seconds = time.perf_counter() - started
    if number == config.steps or (config.measure_every and number % config.measure_every == 0):
        metrics |= heldout_metrics(learner)
    timings = {"time/step_s": seconds, "time/tokens_per_s": metrics["data/tokens"] / seconds}
    return StepResult(metrics, timings, note=f"loss {metrics['loss/mean']:.3f}  right {metrics['train/accuracy']:.0%}  {timings['time/tokens_per_s']:.0f} tok/s")


def descend(learner: Learner, rows: Sequence[Read]) -> dict[str, float]:
    """One optimizer step; the mean over pairs, or over steps, is that of the whole optimizer step."""
    config, model = learner.config, learner.model
    sequences = [s for row in rows for s in row.sequences]
    targets = torch.tensor([row.margin if config.use_margins else 0.0 for row in rows] if config.kind == "outcome" else [x for r in rows for x in r.labels])
    n = len(targets)
    values, total = torch.zeros(sum(s.n_predicted for s in sequences)), 0.0
    for batch in pack(sequences, config.tokens_per_batch, together=2 if config.kind == "outcome" else 1):
        read = model.read(batch, batch.places)
        order = batch.index.argsort()
        read, at = read[order], batch.index[order]
        if config.kind == "outcome":
            loss = bradley_terry(read[0::2], read[1::2], targets[at[0::2] // 2], config.centering).sum() / n
        else:
            loss = binary_cross_entropy_with_logits(read, targets[at], reduction="sum") / n
        loss.backward()
        values[at] = read.detach()
        total += loss.item()
    norm = learner.trained.optimizer.step()
    model.version += 1
    return {
        "loss/mean": total, "policy/grad_norm": norm, "policy/learning_rate": learner.trained.optimizer.learning_rate,
        "policy/skipped_updates": learner.trained.optimizer.n_skipped, "train/accuracy": sum(_right(values, rows, config)) / n,
        "reward/mean": values.mean().item(), "reward/std": values.std().item(), "data/tokens": sum(len(s.tokens) for s in sequences) + prompt_tokens(sequences),
    }  # fmt: skip


def _right(values: Tensor, rows: Sequence[Read], config: Config) -> list[float]:
    """1 for each pair ranked right (½ at a tie), or for each step judged right."""
    if config.kind == "outcome":
        gaps = (values[0::2] - values[1::2]).tolist()
        return [0.5 if gap == 0 else float(gap > 0) for gap in gaps]
    labels = [x for row in rows for x in row.labels]
    return [float((value > 0) == (label > 0.5)) for value, label in zip(values.tolist(), labels, strict=True)]


def heldout_metrics(learner: Learner) -> dict[str, float]:
    """Accuracy over rows with its 95% interval, the gap between the sides, and the calibration of σ(Δ) (or σ(logit))."""
    rows, config = learner.heldout, learner.config
    if not rows:
        return {}
    values = learner.model.score([s for row in rows for s in row.sequences])
    right = _right(values, rows, config)
    if config.kind == "outcome":
        per_row, gaps = right, values[0::2] - values[1::2]
        clusters, confidences, margin = list(range(len(rows))), gaps.abs().sigmoid().tolist(), mean_over_problems(gaps.tolist())
        extra = {"heldout/margin": margin.value, "heldout/margin_low": margin.low, "heldout/margin_high": margin.high}
    else:
        sizes = [len(row.labels) for row in rows]
        per_row = [part.mean().item() for part in torch.tensor(right).split(sizes)]
        clusters, confidences = [i for i, size in enumerate(sizes) for _ in range(size)], values.abs().sigmoid().tolist()
        extra = {}
    accuracy = rate_over_problems(per_row)
    found = {"heldout/accuracy": accuracy.value, "heldout/accuracy_low": accuracy.low, "heldout/accuracy_high": accuracy.high, "heldout/n": accuracy.n}
    return found | extra | calibration_metrics(confidences, right, clusters)


def calibration_metrics(confidences: Sequence[float], outcomes: Sequence[float], clusters: Sequence[int]) -> dict[str, float]:
    """How far stated confidence is from the share that is right, with its 95% interval over `clusters` (the rows), beside what a perfectly
    calibrated model would show at this n, and stay below in 95 of 100 samples."""
    names = tuple(str(i) for i in range(len(confidences)))
    found = calibrate(Predictions(tuple(confidences), tuple(outcomes), tuple(map(str, clusters)), names)).ece
    return {
        "heldout/ece": found.error.value, "heldout/ece_low": found.error.low, "heldout/ece_high": found.error.high,
        "heldout/ece_by_chance": found.by_chance, "heldout/ece_by_chance_high": found.by_chance_high,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a file that cannot be used (naming the line), a folder of another run, and where nothing is left
    to learn from.
    """
    if not config.data:
        raise UserError("a reward model needs preferences: --data FILE.jsonl (posttrain prefer makes some)")
    job = Job.open(config, "reward-model", [config.data])
    model = job.load_scalar()
    model.step_separator = config.step_separator if config.kind == "process" else None
    if config.kind == "outcome":
        loaded, make = load_pairs(config.data, config.when_bad), partial(Read.pair, model.renderer)
    else:
        loaded, make = load_steps(config.data, config.when_bad), partial(Read.steps, model.renderer, config.step_separator)
    data = fit(loaded.items, make, lambda read: read.sequences, model.max_context, config.when_too_long, when_bad=config.when_bad)
    learned, heldout = split(list(zip(data.items, data.made, strict=True)), config.heldout_frac, lambda both: both[0].prompt)
    job.describe(rows=len(learned), held_out=len(heldout), left_out=loaded.dropped | data.dropped)
    learner = Learner(job.trained(model), [made for _, made in learned], [made for _, made in heldout], config)
    return await job.run_steps(learner.trained, lambda number: step(learner, number))
