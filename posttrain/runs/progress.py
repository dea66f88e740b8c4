"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass
class Bar:
    """Counts to `total`; use as a context manager. Writes to stderr, so that results can be piped."""

    title: str
    total: int
    done: int = 0
    every: int = 1
    """Where there is no terminal, a line each so many steps (and one at the end)."""
    _progress: Progress | None = field(default=None, repr=False)
    _started: float = 0.0
    _start: int = 0

    def __enter__(self) -> Bar:
        self._started, self._start = time.monotonic(), self.done
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
            self._progress = Progress(*columns, console=console)
            self._progress.start()
            self._task = self._progress.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def advance(self, note: str = "", by: int = 1) -> None:
        """`by` more are done; `note` says how it goes."""
        self.done += by
        if self._progress:
            self._progress.update(self._task, completed=self.done, note=note)
        elif self.done % self.every == 0 or self.done == self.total:
            print(f"{self.title} {self.done}/{self.total}  {note}  {self._eta()}".rstrip(), file=sys.stderr, flush=True)

    def _eta(self) -> str:
        done = self.done - self._start
        left = (time.monotonic() - self._started) / max(1, done) * (self.total - self.done)
        return f"{left:.0f} s left" if self.done < self.total else ""

    def __exit__(self, *exception) -> None:
        if self._progress:
            self._progress.stop()
