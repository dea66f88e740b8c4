"""Runs functions that may hang, crash or eat the memory, in processes that can be killed for it.

A judge reads what a model wrote, and a model in training finds every input that breaks it. Signals cannot stop such a
judge (they need the main thread, and do not interrupt one long multiplication), so it runs in a process of its own,
and the wall clock decides. A worker is a fresh interpreter, never a fork, so it inherits no threads, no torch and no
locks; it gets no environment beyond what Python needs, a bound on its memory, and `PYTHONHASHSEED=0`, so that what is
computed there does not depend on the order of a set.

    value = await workers.call_async("package.module:function", argument, timeout_s=5.0)

Arguments and results are JSON. Workers start at the first call, one per processor up to four, and end with the
program: an idle one when its pipe closes, a busy one by its own alarm, even if this program was killed. POSIX only.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import Empty, SimpleQueue
from typing import Any

from posttrain.types import UserError

START_TIMEOUT_S = 120.0
"""How long a worker may take to import the judge's module; not part of the judge's own time."""
MEMORY_BYTES = 4 << 30
"""The most address space of one worker, where the operating system can bound it."""
GRACE_S = 2.0
"""How much later than the caller's clock a worker's own alarm goes off."""

_BOOT = "import sys; from posttrain.rewards.workers import serve; serve(int(sys.argv[1]))"
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


class WorkerFailure(Exception):
    """The call has no result: it ran out of time, its process died, or it raised. The text says which."""


# -------------------------------------------------------------------------------------------------- in the worker's process


def serve(file_descriptor: int) -> None:
    """The worker's loop: read a call, say when its module is imported, answer it; until the other side goes away."""
    connection = Connection(file_descriptor)
    _bound_memory()
    with suppress(EOFError, BrokenPipeError):
        while True:
            reply = _answer(json.loads(connection.recv_bytes()), lambda: connection.send_bytes(b'{"ready": true}'))
            connection.send_bytes(reply.encode())


def _answer(call: dict[str, Any], ready: Callable[[], None]) -> str:
    try:
        _alarm(START_TIMEOUT_S + GRACE_S)
        function = _resolve(call["target"])
        ready()
        _alarm(call["timeout_s"] + GRACE_S)
        return json.dumps({"value": function(*call["args"])})
    except UserError as error:
        return json.dumps({"user_error": str(error)})
    except MemoryError:  # what filled the memory may stay: the next call deserves a fresh process
        return json.dumps({"error": "it ran out of memory", "unfit": True})
    except Exception as error:  # whatever a judge raises over a model's text is a reason, not a crash
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:500]})
    finally:
        _alarm(0.0)


def _resolve(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _alarm(seconds: float) -> None:
    """Have the operating system end this process then, whatever it is doing; 0 calls that off."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _bound_memory() -> None:
    with suppress(ValueError, OSError):  # not every system has this bound
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ------------------------------------------------------------------------------------------------------- in the program


@dataclass(frozen=True)
class _Call:
    target: str
    args: tuple[Any, ...]
    timeout_s: float
    future: Future[Any]


class _Worker:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # an interrupt from the keyboard is ours to handle, not the judges'
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def run(self, call: _Call) -> Any:
        message = json.dumps({"target": call.target, "args": call.args, "timeout_s": call.timeout_s})
        try:
            self.connection.send_bytes(message.encode())
            reply = self._receive(START_TIMEOUT_S, "it was still importing")
            if "ready" in reply:
                reply = self._receive(call.timeout_s, "it had not finished")
            if "unfit" in reply:
                self.end()
        except (EOFError, OSError) as error:
            self.end()
            raise WorkerFailure(f"its process died (exit code {self.process.returncode})") from error
        return _unpack(reply)

    def _receive(self, timeout_s: float, what: str) -> dict[str, Any]:
        if not self.connection.poll(timeout_s):
            self.end()
            raise WorkerFailure(f"{what} after {timeout_s:g} s")
        return json.loads(self.connection.recv_bytes())

    def kill(self) -> None:
        """End the process and whatever it started, without waiting. A number already given back is not ours to kill."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the process, and wait until it is gone."""
        self.kill()
        self.process.wait()
        self.connection.close()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    return kept | threads | {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}


def _unpack(reply: dict[str, Any]) -> Any:
    if "user_error" in reply:
        raise UserError(reply["user_error"])
    if "error" in reply:
        raise WorkerFailure(reply["error"])
    return reply["value"]


class WorkerPool:
    """`size` threads, each with a process of its own, that take calls in the order in which they came.

    A thread per process, because then a call can be awaited from any event loop, from any thread or from none. Waiting
    for a free worker does not count towards a call's time. After `close` the next call starts everything anew.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(4, _processors())
        self._forget()

    def _forget(self) -> None:
        """Own nothing: at the start, and in a forked child, where the threads are gone and the processes another's."""
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: dict[int, _Worker] = {}

    def submit(self, target: str, *args: Any, timeout_s: float) -> Future[Any]:
        """Queue one call of `module:function`. Its future raises `WorkerFailure` where there is no result."""
        call = _Call(target, args, timeout_s, Future())
        with self._lock:
            if not self._threads:
                self._start_threads()
            self._queue.put(call)
        return call.future

    def _start_threads(self) -> None:
        for index in range(self.size):
            thread = threading.Thread(target=self._work, args=(index, self._queue), daemon=True, name=f"judge-{index}")
            thread.start()
            self._threads.append(thread)

    def _work(self, index: int, queue: SimpleQueue[_Call | None]) -> None:
        while (call := queue.get()) is not None:
            if not call.future.set_running_or_notify_cancel():
                continue
            try:
                call.future.set_result(self._worker(index, queue).run(call))
            except Exception as error:  # the caller's to see; this thread serves on
                call.future.set_exception(error)

    def _worker(self, index: int, queue: SimpleQueue[_Call | None]) -> _Worker:
        if queue is not self._queue:
            raise WorkerFailure("the workers were closed")
        worker = self._workers.get(index)
        if worker is None or not worker.alive:
            if worker is not None:
                worker.end()
            worker = self._workers[index] = _Worker()
        return worker

    def close(self) -> None:
        """End all processes and threads, and wait for them. Calls that have no result yet fail with `WorkerFailure`."""
        with self._lock:
            threads, self._threads = self._threads, []
            queue, self._queue = self._queue, SimpleQueue()
        _fail_waiting(queue)
        for _ in threads:
            queue.put(None)
        for worker in list(self._workers.values()):
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()


def _fail_waiting(queue: SimpleQueue[_Call | None]) -> None:
    with suppress(Empty):
        while (call := queue.get_nowait()) is not None:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(WorkerFailure("the workers were closed"))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_pool = WorkerPool()
atexit.register(_pool.close)
os.register_at_fork(after_in_child=_pool._forget)


def call(target: str, *args: Any, timeout_s: float) -> Any:
    """The result of one call, waited for. Raises `WorkerFailure`, or the `UserError` that the function raised."""
    return _pool.submit(target, *args, timeout_s=timeout_s).result()


def call_all(target: str, argument_lists: Iterable[Sequence[Any]], timeout_s: float) -> list[Any]:
    """The results of many calls of one function, in order. The first failure calls off those that have not begun."""
    futures = [_pool.submit(target, *args, timeout_s=timeout_s) for args in argument_lists]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


async def call_async(target: str, *args: Any, timeout_s: float) -> Any:
    """The result of one call, awaited: from any event loop, and from as many tasks as you like."""
    return await asyncio.wrap_future(_pool.submit(target, *args, timeout_s=timeout_s))


def close() -> None:
    """End the workers now. They start again with the next call."""
    _pool.close()
