"""How long a sandbox takes to start, run a program that does nothing, and be gone again.

    python -m benchmarks.sandbox_start
    python -m benchmarks.sandbox_start --repeats 200 --markdown docs/BENCHMARKS.md

All in one process and one after the other, each side once in every round, so that a busy moment meets all of them. The goal:
less than 50 ms for `sandbox, true`.

- `process, true` and `process, python`: `subprocess.run` without any sandbox, the floor
- `bubblewrap alone`: its namespaces and mounts, without user, limits, cgroups, filter, files and clock
- `sandbox, true` and `sandbox, python`: `posttrain.sandbox.run`, every layer in force, the program's files in and out
- `judgement`: `unit_tests` of a right program with three checks: two sandboxes with a Python each
- `sandboxes at once`: as many `true` as there are rounds, asked for at once; the time of all, divided by their number
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import rows as benchmark
from benchmarks.rows import Found
from posttrain import sandbox
from posttrain.rewards.unit_tests import Tests, unit_tests
from posttrain.sandbox import Program, python
from posttrain.sandbox.interpreter import python_path
from posttrain.types import UserError

GOAL_MS = 50.0
_BARE = (
    "bwrap --unshare-all --die-with-parent --new-session --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib"
    " --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp --clearenv true"
)
_ADD = Tests(("assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"))


@dataclass(frozen=True)
class Options:
    """What to measure, and how to print it."""

    repeats: int = 50
    """Measured rounds."""
    warmup: int = 3
    """Rounds before them."""
    json: bool = False
    """Print JSON, unrounded."""
    markdown: Path | None = None
    """Also append a dated section to this file (docs/BENCHMARKS.md)."""

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warmup < 0:
            raise UserError("--repeats must be at least 1, and --warmup at least 0")


Side = Callable[[], Awaitable[object]]


async def _process(*argv: str) -> None:
    subprocess.run(argv, env={}, check=True)


async def _sandboxed(program: Program) -> None:
    ran = await sandbox.run(program)
    if not ran.ok:
        raise UserError(f"the program did not run: {ran.explanation}")


SIDES: dict[str, Side] = {
    "process, true": lambda: _process("/bin/true"),
    "process, python": lambda: _process(python_path(), "-I", "-c", ""),
    "bubblewrap alone": lambda: _process(*shlex.split(_BARE)),
    "sandbox, true": lambda: _sandboxed(Program(("true",))),
    "sandbox, python": lambda: _sandboxed(python("", keep="all")),
    "judgement": lambda: unit_tests("def add(a, b): return a + b", _ADD),
}


async def measure(options: Options) -> dict[str, list[float]]:
    """Milliseconds of each repeat of each side."""
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(options.warmup + options.repeats):
        for name, side in SIDES.items():
            begun = time.perf_counter()
            await side()
            taken[name].append(1e3 * (time.perf_counter() - begun))
    begun = time.perf_counter()
    await asyncio.gather(*(SIDES["sandbox, true"]() for _ in range(options.repeats)))
    at_once = 1e3 * (time.perf_counter() - begun) / options.repeats
    return {name: times[options.warmup :] for name, times in taken.items()} | {"sandboxes at once": [at_once]}


def rows(taken: dict[str, list[float]]) -> list[list[str]]:
    """The table's rows, its header first."""
    ours = median(taken["sandbox, true"])
    found = [["side", "median, ms", "lowest", "highest", "of the sandbox's start"]]
    for name, times in taken.items():
        found.append([name, *(f"{value:.1f}" for value in (median(times), min(times), max(times))), f"{median(times) / ours:.2f}"])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m benchmarks.sandbox_start`: exits with 2 on bad input or without a sandbox, said in one sentence."""
    benchmark.main("benchmarks.sandbox_start", "starting a sandbox", __doc__, Options, _found, argv)


def _found(options: Options) -> Found:
    taken = asyncio.run(measure(options))
    layers = ", ".join(layer.name for layer in sandbox.layers() if layer.in_force)
    verdict = "is reached" if median(taken["sandbox, true"]) < GOAL_MS else "is NOT reached"
    return Found(
        rows(taken), {"milliseconds": taken, "medians": {name: median(times) for name, times in taken.items()}},
        f"{options.repeats} rounds", f"In force: {layers}",
        [f"in force: {layers}", f"The goal, {GOAL_MS:g} ms for `sandbox, true`, {verdict}."],
    )  # fmt: skip


if __name__ == "__main__":
    main()
