"""Runs a side in a process of its own, so that nothing is warmed, loaded or held for it by another."""

from __future__ import annotations

import contextlib
import importlib
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context

from benchmarks.memory import peak_bytes
from benchmarks.work import Done, Work
from posttrain.types import UserError


@dataclass(frozen=True)
class Side:
    """One of those compared."""

    name: str
    module: str
    """Of `benchmarks.sides`; its `run(work, setting)` does the work."""
    setting: str = ""
    """Which of the module's settings, where it has several."""
    needs: str = ""
    """A package that the side cannot do without."""

    @property
    def is_ours(self) -> bool:
        return self.module.startswith("posttrain")


def run_apart(side: Side, work: Work) -> Done:
    """Do the work in a fresh process with `work.threads` threads.

    Raises UserError where the process was killed, which mostly means that memory ran out.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_run, side, work).result()
        except BrokenProcessPool:
            raise UserError(f"'{side.name}' was killed, probably for want of memory: give it less to do at once") from None


def _run(side: Side, work: Work) -> Done:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(work.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # a peer that prints must not spoil --json
        done = importlib.import_module(f"benchmarks.sides.{side.module}").run(work, side.setting)
    return replace(done, peak_bytes=peak_bytes())
