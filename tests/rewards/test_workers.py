"""The processes that judges run in: they can be killed, they come back, and they leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from posttrain.rewards import workers
from posttrain.rewards.workers import WorkerFailure, WorkerPool, call, call_all, call_async
from posttrain.types import UserError


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(size=1)
    yield pool
    pool.close()


def _runs(pid: int) -> bool:
    """Whether the process exists; one that has ended but was never waited for exists too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_importing_starts_no_thread_and_no_process_and_loads_no_heavy_library():
    code = (
        "import sys, threading, posttrain.tasks, posttrain.rewards.format\n"
        "heavy = {'torch', 'transformers', 'sympy', 'math_verify', 'reasoning_gym', 'datasets'} & sys.modules.keys()\n"
        "import os, pathlib; children = pathlib.Path(f'/proc/self/task/{os.getpid()}/children')\n"
        "print(threading.active_count(), sorted(heavy), repr(children.read_text() if children.exists() else ''))"
    )
    output, errors = _python(code).communicate(timeout=60)
    assert output.split("\n")[0] == "1 [] ''", errors


def test_a_call_gives_what_the_function_returns():
    assert call("operator:add", [1], [2], timeout_s=5) == [1, 2]
    assert call_all("operator:mul", [(i, 2) for i in range(20)], timeout_s=5) == [2 * i for i in range(20)]


def test_text_that_is_no_unicode_arrives_as_it_was():
    assert call("operator:add", "\ud800\x00", "\n", timeout_s=5) == "\ud800\x00\n"


@pytest.mark.parametrize("hanging", [("time:sleep", 60), ("operator:pow", 9, 9**9)], ids=["asleep", "in one long multiplication"])
def test_a_hanging_call_is_killed_in_time_and_the_next_one_works(pool: WorkerPool, hanging: tuple):
    pid = pool.submit("os:getpid", timeout_s=5).result()
    began = time.monotonic()
    with pytest.raises(WorkerFailure, match=r"not finished after 0\.3 s"):
        pool.submit(*hanging, timeout_s=0.3).result()
    assert time.monotonic() - began < 2
    assert not _runs(pid)
    assert pool.submit("operator:add", 2, 3, timeout_s=5).result() == 5


def test_a_dying_process_is_a_failure_with_its_exit_code_and_is_replaced(pool: WorkerPool):
    with pytest.raises(WorkerFailure, match="exit code 7"):
        pool.submit("os:_exit", 7, timeout_s=5).result()
    assert pool.submit("operator:add", 2, 3, timeout_s=5).result() == 5


def test_a_process_that_was_killed_while_idle_costs_no_call(pool: WorkerPool):
    pid = pool.submit("os:getpid", timeout_s=5).result()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert pool.submit("operator:add", 2, 3, timeout_s=5).result() == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the address space")
def test_running_out_of_memory_is_a_failure_and_the_next_call_gets_a_fresh_process(pool: WorkerPool):
    pid = pool.submit("os:getpid", timeout_s=5).result()
    with pytest.raises(WorkerFailure, match="out of memory"):
        pool.submit("operator:mul", "a", 10**11, timeout_s=5).result()
    assert pool.submit("os:getpid", timeout_s=5).result() != pid


def test_what_the_function_raises_is_the_reason_and_a_missing_function_too(pool: WorkerPool):
    with pytest.raises(WorkerFailure, match="ZeroDivisionError: division by zero"):
        pool.submit("operator:truediv", 1, 0, timeout_s=5).result()
    with pytest.raises(WorkerFailure, match="ModuleNotFoundError"):
        pool.submit("posttrain.nowhere:nothing", timeout_s=5).result()


def test_a_user_error_comes_through_as_itself():
    with pytest.raises(UserError, match="splits train and test, not 'valid'"):
        call("posttrain.tasks.splits:check_split", "valid", timeout_s=5)


def test_waiting_for_a_free_worker_does_not_count_as_the_calls_own_time(pool: WorkerPool):
    waiting = [pool.submit("time:sleep", 0.3, timeout_s=0.8) for _ in range(4)]
    assert [future.result() for future in waiting] == [None] * 4


def test_it_works_from_a_thread():
    results: list[int] = []
    threads = [threading.Thread(target=lambda i=i: results.append(call("operator:add", i, 1, timeout_s=5))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1, 2, 3, 4]


def test_it_works_from_asyncio_with_many_at_once_and_from_one_event_loop_after_another():
    async def many() -> list[int]:
        return await asyncio.gather(*(call_async("operator:add", i, 1, timeout_s=5) for i in range(32)))

    assert asyncio.run(many()) == list(range(1, 33))
    assert asyncio.run(many()) == list(range(1, 33))


def test_a_task_that_stops_waiting_does_no_harm_to_the_next_loop(recwarn: pytest.WarningsRecorder):
    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call_async("time:sleep", 0.4, timeout_s=5), 0.05)

    asyncio.run(impatient())
    time.sleep(0.5)
    assert asyncio.run(call_async("operator:add", 2, 3, timeout_s=5)) == 5
    assert not list(recwarn)


def test_set_order_in_a_worker_is_the_same_in_every_process():
    assert call("os:getenv", "PYTHONHASHSEED", timeout_s=5) == "0"


def test_a_worker_sees_no_secret_of_the_environment(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    assert pool.submit("os:getenv", "SOME_API_KEY", timeout_s=5).result() is None


def test_after_close_no_process_is_left_and_a_busy_call_fails_at_once():
    pool = WorkerPool(size=2)
    pids = {pool.submit("os:getpid", timeout_s=5).result() for _ in range(8)}
    busy = [pool.submit("time:sleep", 60, timeout_s=60) for _ in range(3)]
    time.sleep(0.3)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    assert not any(_runs(pid) for pid in pids)
    for future in busy:
        with pytest.raises(WorkerFailure):
            future.result(timeout=0)
    assert pool.submit("operator:add", 2, 3, timeout_s=5).result() == 5
    pool.close()


def test_the_program_ends_at_once_and_takes_its_workers_with_it_even_while_they_are_busy():
    code = (
        "from posttrain.rewards import workers\n"
        "print(workers.call('os:getpid', timeout_s=5), flush=True)\n"
        "workers._pool.submit('time:sleep', 60, timeout_s=60)\n"
        "import time; time.sleep(0.3)"
    )
    began = time.monotonic()
    output, errors = _python(code).communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert not errors
    assert not _runs(int(output))


@pytest.mark.parametrize("then", ["", "workers._pool.submit('operator:pow', 9, 9**9, timeout_s=0.5)"], ids=["idle", "busy"])
def test_a_worker_dies_soon_after_a_program_that_was_killed(then: str):
    program = _python(
        "from posttrain.rewards import workers\nworkers._pool.size = 1\n"
        f"print(workers.call('os:getpid', timeout_s=5), flush=True)\n{then}\nimport time; time.sleep(60)"
    )
    pid = int(program.stdout.readline())
    time.sleep(0.2)
    program.kill()
    program.wait()
    deadline = time.monotonic() + 0.5 + workers.GRACE_S + 3
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)
    program.stdout.close()
    program.stderr.close()


def _alive(pid: int) -> bool:
    """Whether the process still works; an orphan that ended may wait for the system's first process to notice."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return _runs(pid)


def test_a_forked_child_gets_workers_of_its_own():
    code = (
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "from posttrain.rewards.workers import call\n"
        "ours = call('os:getpid', timeout_s=5)\n"
        "if (child := os.fork()) == 0:\n"
        "    theirs = call('os:getpid', timeout_s=5); assert theirs != ours; raise SystemExit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(call('operator:add', 2, 3, timeout_s=5))"
    )
    output, errors = _python(code).communicate(timeout=60)
    assert output == "5\n", errors
