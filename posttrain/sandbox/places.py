"""How many sandboxes run at a time, and from which threads.

Each job has a thread of its own, which lives on between jobs; jobs beyond the number of threads wait for one, and that does
not count towards their time. A job of two connected programs takes one thread: either could otherwise hold a place that the
other one waits for.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from posttrain.sandbox.bubblewrap import SANDBOXES_AT_ONCE
from posttrain.sandbox.launch import attend
from posttrain.sandbox.layers import require
from posttrain.sandbox.program import Program, Ran
from posttrain.types import UserError

PER_JOB = 2
"""The most sandboxes of one job."""
MOST_JOBS = SANDBOXES_AT_ONCE // 2 // PER_JOB
"""The other half of the numbers is for sandboxes that are talked to."""


def default_jobs() -> int:
    """One per processor: more would only take each other's time."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors, MOST_JOBS)


class Places:
    """Threads that run jobs, in the order in which they came. Raises `UserError` for more than there are numbers for."""

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = default_jobs() if jobs is None else jobs
        if not 1 <= self.jobs <= MOST_JOBS:
            raise UserError(f"from 1 to {MOST_JOBS} sandboxed jobs can run at a time, not {jobs}")
        self._forget()

    def _forget(self) -> None:
        """Own nothing: at the start, and in a forked child, where the threads are gone."""
        self._local = threading.local()
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    async def run(self, programs: Sequence[Program]) -> list[Ran]:
        """Run the programs of one job side by side. If the awaiting task is cancelled they are killed.

        Raises `UserError` where a required layer of the sandbox is missing.
        """
        stop = threading.Event()
        future = self._threads().submit(self._job, programs, stop)
        try:
            return await asyncio.wrap_future(future)
        finally:
            stop.set()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                numbers = itertools.count()
                self._executor = ThreadPoolExecutor(self.jobs, "sandbox", initializer=lambda: setattr(self._local, "number", next(numbers)))
            return self._executor

    def _job(self, programs: Sequence[Program], stop: threading.Event) -> list[Ran]:
        if stop.is_set():
            return [Ran("stopped", explanation="nobody waits for it any more") for _ in programs]
        require()
        return attend(programs, self._local.number * PER_JOB, stop)


shared = Places()
os.register_at_fork(after_in_child=shared._forget)
