"""What every side of a benchmark is asked to do, and what a side says it did."""

from __future__ import annotations

import os
import sys
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
    """The same for every side."""

    model: str = "smollm2"
    """Anything that `posttrain --model` takes."""
    prompts: int = 8
    """Arithmetic questions, as chats; each repeat asks the same ones."""
    samples: int = 8
    """Completions of each prompt."""
    tokens: int = 64
    """Length of every completion: nothing stops one earlier."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; auto takes bfloat16 where the processor has units for it."""
    threads: int = 0
    """Threads of each side; 0 takes OMP_NUM_THREADS, or else every core."""
    warmup: int = 1
    """Repeats before the measured ones."""
    repeats: int = 3
    """Measured repeats."""
    seed: int = 0
    """Of what is sampled."""

    def __post_init__(self) -> None:
        for name in ("prompts", "tokens", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1")
        if self.samples < 2:
            raise UserError("--samples must be at least 2: GRPO compares an attempt with its siblings")
        if min(self.warmup, self.threads) < 0:
            raise UserError("--warmup and --threads must be at least 0")

    @property
    def problems(self) -> list[Problem]:
        """The problems that are asked."""
        return list(Arithmetic(n_train=self.prompts).problems("train"))

    @property
    def folder(self) -> Path:
        """The model on disk: every side loads the same files."""
        return resolve(self.model)

    @property
    def n_completions(self) -> int:
        return self.prompts * self.samples

    @property
    def n_repeats(self) -> int:
        """Repeats in all, warm-up included."""
        return self.warmup + self.repeats


@dataclass(frozen=True)
class Done:
    """What one side did, in one process."""

    seconds: tuple[float, ...]
    """Of each measured repeat, by the clock."""
    cpu_seconds: tuple[float, ...]
    """Of each measured repeat, summed over the threads: seconds × threads on an idle machine, less beside other programs."""
    prompt_tokens: int
    """Tokens in the prompts of a repeat, each prompt counted once."""
    sampled_tokens: int
    """Tokens sampled in a repeat."""
    parts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds of each measured repeat, by what they were spent on."""
    peak_bytes: int = 0
    """The largest memory that the process has held, loading included."""

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens per second, at the median repeat."""
        return self.sampled_tokens / median(self.seconds)


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


def peak_bytes() -> int:
    """The largest resident memory of this process so far, in bytes.

    `ru_maxrss` is only the second choice: on Linux it carries over what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def default_threads() -> int:
    """`OMP_NUM_THREADS`, or else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
