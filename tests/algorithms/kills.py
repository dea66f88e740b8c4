"""Training runs in processes of their own, to be killed; and what they have left behind, to be compared bit by bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch

from posttrain import cli
from posttrain.policy.models import last_checkpoint

STEPS = 7
BASE = {
    "--model": "tiny", "--task": "arithmetic:levels=1,n_train=10", "--steps": STEPS, "--problems-per-step": 3, "--group-size": 6,
    "--max-tokens": 10, "--checkpoint-every": 3, "--seed": 5, "--learning-rate": "1e-2", "--dtype": "float32", "--kl-coef": "0.01",
}  # fmt: skip
"""Two passes through ten problems, and one problem more; an answer of the random model is right now and then."""

VARIANTS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "adapter": {"--lora-rank": 4},
    "bf16": {"--dtype": "bfloat16"},
    "dealt and refilled": {"--updates": 2, "--epochs": 2, "--extra-rounds": 1, "--loss": "cispo"},
}


def command(out: Path, changes: dict[str, Any]) -> list[str]:
    return ["train", "grpo", "--out", str(out), *(str(word) for flag in ({**BASE, **changes}).items() for word in flag)]


def left_by(run: Path) -> dict[str, bytes]:
    """What a run has left on disk, its timings aside."""
    last = last_checkpoint(run)
    assert last is not None
    files = [*last.glob("*.safetensors"), run / "metrics.jsonl", run / "rollouts.jsonl"]
    optimizer = torch.load(last / "trainer" / "optimizer.pt", weights_only=True)
    return {file.name: file.read_bytes() for file in files} | {"optimizer": _bytes(optimizer)}


def differing_bytes(some: dict[str, bytes], others: dict[str, bytes]) -> int:
    """How many bytes are not the same in both, in place and in number."""
    pairs = [(some.get(name, b""), others.get(name, b"")) for name in {*some, *others}]
    return sum(abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False)) for a, b in pairs)


def _bytes(value: Any) -> bytes:
    """Equal for states that are equal to the last bit."""
    if isinstance(value, torch.Tensor):
        return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return b"".join(str(key).encode() + _bytes(inner) for key, inner in value.items())
    return b"".join(map(_bytes, value)) if isinstance(value, list | tuple) else repr(value).encode()


# ------------------------------------------------------------------------------------------------------ real processes

os.environ.setdefault("OMP_NUM_THREADS", "1")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["posttrain.algorithms.grpo", "transformers.models.llama.modeling_llama", "peft", "tyro"])
"""Children begin with everything imported, which else would take most of each one's time."""


def begin(argv: list[str]) -> Any:
    process = SERVER.Process(target=_main, args=(argv,))
    process.start()
    return process


def _main(argv: list[str]) -> None:
    with redirect_stdout(sys.stderr):
        cli.main(argv)


def finish(argv: list[str]) -> None:
    process = begin(argv)
    process.join(60)
    assert process.exitcode == 0


def kill_when(argv: list[str], moment: Callable[[], bool]) -> None:
    """Start a run and kill it, with no chance to clean up, as soon as the moment has come."""
    process = begin(argv)
    deadline = time.monotonic() + 60
    while process.is_alive() and not moment():
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before its moment came"


def n_steps(run: Path) -> int:
    log = run / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def writing(run: Path) -> bool:
    """Whether a checkpoint is half written."""
    return any(run.glob("checkpoints/.step_*/*"))
