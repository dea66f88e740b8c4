"""The folder of a run: its configuration, append-only logs, and checkpoints that are whole or not there at all.

    config.json       what was asked for; a run goes on only with the same
    metrics.jsonl     a line for each step, the same to the last bit when the run is repeated
    timings.jsonl     seconds and speeds of each step, which are not
    rollouts.jsonl    every attempt: tokens, log-probs, score, advantage
    checkpoints/step_000060/   a Hugging Face folder, with the trainer's state in `trainer/`

A checkpoint records how long the logs were. A run that is killed and started again goes back to its last checkpoint,
cuts the logs to those lengths and writes what follows once more: the same weights, metrics and rollouts as without the kill.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.policy.models import last_checkpoint
from posttrain.types import UserError

LOGS = ("metrics.jsonl", "timings.jsonl", "rollouts.jsonl")


class DiskFull(Exception):
    """Nothing more can be written; what had been is whole."""


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; a single process writes to it."""

    path: Path

    def open(self, config: dict[str, Any], may_change: Iterable[str] = ()) -> dict[str, Any] | None:
        """Create the folder, or go on in it: the state of the last checkpoint, or None for a fresh start.

        Raises UserError where the folder belongs to a run with another configuration (`may_change` names fields that
        may differ), holds something else, or is damaged. A run that came to no step, for its model did not exist perhaps,
        has no claim to the folder.
        """
        self._own(config, set(may_change))
        last = self.last_checkpoint()
        state = _state(last) if last else None
        for name in LOGS:
            _cut(self.path / name, state["log_bytes"][name] if state else 0)
        for leftover in (self.path / "checkpoints").glob(".*"):
            shutil.rmtree(leftover)
        return state

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint."""
        return last_checkpoint(self.path)

    def append(self, log: str, rows: Iterable[dict[str, Any]]) -> None:
        """Add lines to a log, and have them on disk when this returns."""
        text = "".join(json.dumps(_plain(row), separators=(",", ":")) + "\n" for row in rows)
        with disk_errors(self.path), (self.path / log).open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def rows(self, log: str) -> list[dict[str, Any]]:
        """A log's lines. Raises UserError for a damaged one, by its number."""
        return read_jsonl(self.path / log) if (self.path / log).exists() else []

    def checkpoint(self, step: int, save: Callable[[Path], None], state: dict[str, Any]) -> Path:
        """Write checkpoint `step` under another name and move it into place; those before it are then removed.

        `save(folder)` writes the model and whatever goes into `folder/trainer`.
        """
        folder = self.path / "checkpoints"
        work, target = folder / f".step_{step:06d}", folder / f"step_{step:06d}"
        with disk_errors(self.path):
            try:
                (work / "trainer").mkdir(parents=True)
                save(work)
                sizes = {name: (self.path / name).stat().st_size for name in LOGS if (self.path / name).exists()}
                state = {**state, "step": step, "log_bytes": {name: sizes.get(name, 0) for name in LOGS}}
                (work / "trainer" / "state.json").write_text(json.dumps(state, indent=1))
                for path in (*work.rglob("*"), work):
                    _sync(path)
                work.rename(target)
                _sync(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        for older in folder.glob("step_*"):  # more than one, where a kill came between the renaming and this
            if older != target:
                shutil.rmtree(older)
        return target

    def _own(self, config: dict[str, Any], may_change: set[str]) -> None:
        """Write config.json, or compare it with the one that is there."""
        wanted = json.loads(json.dumps(_plain(config)))
        file = self.path / "config.json"
        if not file.exists():
            if self.path.exists() and (not self.path.is_dir() or {*self.path.iterdir()} - {_partial(file)}):
                raise UserError(f"'{self.path}' exists and is no run of posttrain: give another --out")
            with disk_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(wanted, indent=1))
            return
        found = read_object(file)
        changed = sorted(k for k in {*found, *wanted} - may_change if found.get(k) != wanted.get(k))
        if changed and any((self.path / name).exists() for name in LOGS):
            listed = ", ".join(f"{k} ({found.get(k)!r} there, {wanted.get(k)!r} now)" for k in changed[:4])
            raise UserError(f"'{self.path}' belongs to a run with another configuration: {listed}; repeat its command, or give another --out")
        write_atomically(file, json.dumps(wanted, indent=1))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file. Raises UserError naming the file and the number of the first bad line."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(_mapping(json.loads(line)))
            except ValueError:
                raise UserError(f"line {number} of '{path}' is not a JSON object: mend or remove it") from None
    return rows


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content at once or not at all."""
    work = _partial(path)
    with disk_errors(path.parent):
        try:
            with work.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            work.replace(path)
        finally:
            work.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def _cut(path: Path, size: int) -> None:
    """Forget what a log holds beyond the checkpoint that the run goes on from."""
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise UserError(f"'{path}' is shorter than its checkpoint says, so lines of it were lost: give another --out")
    if found > size:
        os.truncate(path, size)


def _state(checkpoint: Path) -> dict[str, Any]:
    """What the trainer knew at a checkpoint."""
    file = checkpoint / "trainer" / "state.json"
    if not file.is_file():
        raise UserError(f"'{checkpoint}' holds no state of a training to go on from: give another --out")
    return read_object(file)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a run. Raises UserError for a damaged one."""
    try:
        return _mapping(json.loads(file.read_bytes()))
    except ValueError:
        raise UserError(f"'{file}' is damaged (not a JSON object): take another run's folder") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} instead of an object")
    return value


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """JSON has no nan, no infinity and no paths: nan becomes null, the others words."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left", whichever library met it, into `DiskFull`, and what cannot be written to into UserError."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if any(map(_is_full, _with_contexts(error))):
            raise DiskFull(f"no space left to write to '{path}': free some, then repeat the command to go on") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise UserError(f"'{path}' cannot be written to ({error.strerror}): give another --out") from error
        raise


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def _with_contexts(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those in whose handling it came up: torch, closing a file that could not be written, raises one of its own."""
    while error is not None:
        yield error
        error = error.__context__
