"""What every side of a benchmark is asked to do, and what a side says it did."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from posttrain.policy.models import resolve
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.types import Problem, UserError


@dataclass(frozen=True)
class Work:
    """The same for every side. What there is to do is said by the kinds of work that extend it."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; auto takes bfloat16 where the processor has units for it."""
    threads: int = 0
    """Threads of each side; 0 takes OMP_NUM_THREADS, or else every core."""
    warmup: int = 1
    """Repeats before the measured ones."""
    repeats: int = 3
    """Measured repeats."""
    seed: int = 0
    """Of whatever is drawn."""

    def __post_init__(self) -> None:
        self._at_least(1, "repeats")
        self._at_least(0, "warmup", "threads")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least}")

    @property
    def n_repeats(self) -> int:
        """Repeats in all, warm-up included."""
        return self.warmup + self.repeats

    @property
    def asked(self) -> str:
        """What there is to do, in a few words."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Fetch and convert what the sides need, before the memory of any is measured."""


@dataclass(frozen=True)
class WithModel(Work):
    """Work on a model's files: every side loads the same ones."""

    model: str = "smollm2"
    """Anything that `posttrain --model` takes."""

    @property
    def folder(self) -> Path:
        """The model on disk."""
        return resolve(self.model)

    def prepare(self) -> None:
        resolve(self.model)


@dataclass(frozen=True)
class Attempts(WithModel):
    """Prompts to be answered, and with `grpo_step` to be learned from."""

    prompts: int = 8
    """Arithmetic questions, as chats; each repeat asks the same ones."""
    samples: int = 8
    """Completions of each prompt."""
    tokens: int = 64
    """Length of every completion: nothing stops one earlier."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "prompts", "tokens")
        if self.samples < 2:
            raise UserError("--samples must be at least 2: GRPO compares an attempt with its siblings")

    @property
    def problems(self) -> list[Problem]:
        """The problems that are asked."""
        return list(Arithmetic(n_train=self.prompts).problems("train"))

    @property
    def n_completions(self) -> int:
        return self.prompts * self.samples

    @property
    def asked(self) -> str:
        return f"{self.model} in {self.dtype}, {self.prompts} prompts × {self.samples} samples × {self.tokens} tokens"


@dataclass(frozen=True)
class Done:
    """What one side did, in one process."""

    seconds: tuple[float, ...]
    """Of each measured repeat, by the clock."""
    cpu_seconds: tuple[float, ...]
    """Of each measured repeat, summed over the threads: seconds × threads on an idle machine, less beside other programs."""
    tokens: dict[str, int]
    """How many tokens of each kind a repeat dealt with, as the side itself counted; speed is counted in those named last."""
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds of each measured repeat, by what they were spent on."""
    peak_bytes: int = 0
    """The largest memory that the process has held, loading included."""
    state_bytes: int = 0
    """What of it weights, gradients, the optimizer's state and a reference take, where the side says: tokens do not add to it."""
    nll_nats: float | None = None
    """Mean negative log-likelihood of the trained tokens before they were trained on, where the side says: a check that all
    sides read the same tokens in the same context."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the last kind per second, at the median repeat."""
        return list(self.tokens.values())[-1] / median(self.seconds)

    def __str__(self) -> str:
        return f"{median(self.seconds):.3g} s, {self.tokens_per_s:.3g} tokens/s, {self.peak_bytes / 1e9:.3g} GB"


class Moment(NamedTuple):
    """A reading of both clocks, in seconds."""

    wall: float
    cpu: float
    """Of all threads of this process."""

    @classmethod
    def now(cls) -> Moment:
        return cls(time.perf_counter(), time.process_time())


def durations(starts: Sequence[Moment], stops: Sequence[Moment]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds by the clock and of the processor, between each start and its stop."""
    pairs = list(zip(starts, stops, strict=True))
    return tuple(b.wall - a.wall for a, b in pairs), tuple(b.cpu - a.cpu for a, b in pairs)


def brevity(text: str) -> float:
    """The reward of a training step: from 1 for no text towards 0. Judging costs nothing, and siblings seldom do equally well."""
    return 1 / (1 + len(text))


def default_threads() -> int:
    """`OMP_NUM_THREADS`, or else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
