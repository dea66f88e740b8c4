"""What honest programs get, and how each end of a program is told from the others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain import sandbox
from posttrain.sandbox import Limits, Program, Ran, python
from posttrain.sandbox.places import Places
from posttrain.types import UserError
from tests.sandboxed import as_root, needs_sandbox

pytestmark = needs_sandbox
SMALL = Limits(wall_s=20, memory_bytes=128 << 20, disk_bytes=4 << 20, flood_bytes=1 << 20)


def ran(program: Program) -> Ran:
    return asyncio.run(sandbox.run(program))


# ---------------------------------------------------------------------------------------------------------------- the ends


def test_a_program_reads_and_writes_and_ends():
    found = ran(python("import sys; print(sys.stdin.read().upper(), sys.argv[1:])", "a b", "$c", stdin="héllo"))
    assert (found.outcome, found.exit_code, found.stdout, found.stderr) == ("ok", 0, "HÉLLO ['a b', '$c']\n", "")
    assert found.output_bytes == len(found.stdout.encode())


@pytest.mark.parametrize(
    ("code", "limits", "outcome", "exit_code", "explanation"),
    [
        ("import sys; sys.exit(7)", SMALL, "nonzero_exit", 7, "exit code 7"),
        ("import os; os.kill(os.getpid(), 6)", SMALL, "nonzero_exit", 134, "exit code 134"),
        ("import time; time.sleep(60)", replace(SMALL, wall_s=0.3), "timeout", None, "not ended after 0.3 s"),
        ("while True: pass", replace(SMALL, cpu_s=1), "timeout", 152, "more than 1 s of the processor"),
        ("while True: print('x' * 10**5)", SMALL, "output_flood", None, "more than 1048576 bytes"),
    ],
)
def test_each_end_is_told_apart(code: str, limits: Limits, outcome: str, exit_code: int | None, explanation: str):
    found = ran(python(code, limits=limits))
    assert (found.outcome, found.exit_code) == (outcome, exit_code)
    assert explanation in found.explanation


def test_want_of_memory_is_told_apart_where_something_counts_it():
    found = ran(python("held = [bytearray(1 << 20) for _ in range(10**4)]", limits=SMALL))
    counted = any(layer.name.startswith("bounds: cgroup") for layer in sandbox.layers())
    assert found.outcome == ("out_of_memory" if counted else "nonzero_exit")


def test_a_program_that_is_not_there_is_its_callers_mistake_and_a_sandbox_that_cannot_be_made_is_not_the_programs():
    missing = ran(Program(("no-such-program",)))
    assert (missing.outcome, missing.exit_code) == ("nonzero_exit", 127)
    too_large = ran(Program(("true",), files={"large": bytes(5 << 20)}, limits=SMALL))
    assert too_large.outcome == "could_not_start"
    assert "No space left" in too_large.explanation


def test_output_that_is_no_text_is_replaced_and_the_middle_of_long_output_left_out():
    found = ran(python("import os; os.write(1, b'\\xff' + b'a' * 1000 + b'z')", limits=replace(SMALL, output_bytes=20)))
    assert found.stdout == "\N{REPLACEMENT CHARACTER}aaaaaaaaa\n… 982 bytes left out …\naaaaaaaaaz"


def test_a_program_that_does_not_read_its_input_is_none_the_worse():
    assert ran(Program(("true",), stdin=bytes(1 << 20))).ok


# --------------------------------------------------------------------------------------------------------------- its files


def test_files_go_in_and_come_out():
    program = Program(
        ("sh", "-c", "cat in/a.txt > out.txt; rm in/a.txt; echo new > in/b.txt"), files={"in/a.txt": "hello"}, keep="all"
    )  # fmt: skip
    assert ran(program).files == {"out.txt": b"hello", "in/b.txt": b"new\n"}
    assert ran(replace(program, keep=("out.txt", "other"))).left_out == {"other": "No such file or directory"}
    assert ran(replace(program, keep=())).files == {}


def test_what_was_written_before_a_time_out_is_not_lost():
    program = Program(("sh", "-c", "echo early > a; sleep 60"), limits=replace(SMALL, wall_s=0.5), keep="all")
    found = ran(program)
    assert (found.outcome, found.files) == ("timeout", {"a": b"early\n"})


def test_nothing_of_one_program_is_there_for_the_next():
    touch = Program(("sh", "-c", "ls /box /tmp /dev/shm; touch /box/a /tmp/a /dev/shm/a"))
    assert ran(touch).stdout == ran(touch).stdout == "/box:\n\n/dev/shm:\n\n/tmp:\n"


# ---------------------------------------------------------------------------------------------------------- honest programs

HONEST = {
    "sqlite3": "import sqlite3; print(sqlite3.connect('a.db').execute('select 6 * 7').fetchone()[0])",
    "ssl and hashes": "import hashlib, ssl; ssl.create_default_context(); print(hashlib.sha256(b'').hexdigest()[:2] == 'e3' and 42)",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 42\nprint(asyncio.run(f()))",
    "a pool of processes": "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: print(sum(p.map(abs, [-21, -21])))",
    "a subprocess": "import subprocess; print(subprocess.check_output(['echo', '42'], text=True).strip())",
    "its own loopback": (
        "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n"
        "threading.Thread(target=lambda: s.accept()[0].sendall(b'42')).start()\n"
        "print(socket.create_connection(s.getsockname()).recv(2).decode())"
    ),
    "temporary files": "import tempfile\nwith tempfile.TemporaryFile('w+') as f: f.write('42'); f.seek(0); print(f.read())",
    "a module of its own": "import own; print(own.value)",
}


def test_what_honest_programs_need_is_there():
    async def run_all() -> list[Ran]:
        return await asyncio.gather(*(sandbox.run(python(code, files={"own.py": "value = 42"})) for code in HONEST.values()))

    found = dict(zip(HONEST, asyncio.run(run_all()), strict=True))
    assert {name: one.stdout + one.stderr for name, one in found.items()} == dict.fromkeys(HONEST, "42\n")


def test_installed_packages_are_there_only_when_asked_for():
    program = python("import numpy; print(numpy.arange(7).sum())", packages=True)
    assert ran(program).stdout == "21\n"
    assert "No module named 'numpy'" in ran(replace(program, packages=False)).stderr


# ---------------------------------------------------------------------------------------------------------- many, and waiting


def test_no_more_run_at_once_than_there_are_places_and_each_has_a_user_of_its_own():
    code = "import json, os, time; start = time.monotonic(); time.sleep(.3); print(json.dumps([os.getuid(), start, time.monotonic()]))"

    async def run_all() -> list[list[float]]:
        places = Places(jobs=3)
        found = await asyncio.gather(*(places.run([python(code)]) for _ in range(7)))
        return [json.loads(one.stdout) for (one,) in found]

    spans = asyncio.run(run_all())
    at_once = [[other for other in spans if other[1] <= start < other[2]] for _, start, _ in spans]
    assert 1 < max(map(len, at_once)) <= 3
    if os.geteuid() == 0:
        assert all(len({uid for uid, _, _ in together}) == len(together) for together in at_once)
        assert min(uid for uid, _, _ in spans) > 1 << 30


@pytest.mark.parametrize("jobs", [0, -1, 17])
def test_more_places_than_there_are_numbers_for_are_refused(jobs: int):
    with pytest.raises(UserError, match="from 1 to 16 sandboxed jobs"):
        Places(jobs)


def test_a_busy_event_loop_makes_no_time_out():
    async def busy() -> Ran:
        waiting = asyncio.ensure_future(sandbox.run(python("print('x' * 300_000)", limits=replace(SMALL, wall_s=1.5))))
        await asyncio.sleep(0.01)
        time.sleep(2.0)
        return await waiting

    assert asyncio.run(busy()).outcome == "ok"


def test_a_program_whose_caller_is_cancelled_is_killed():
    async def cancelled() -> None:
        waiting = asyncio.ensure_future(sandbox.run(python("import time; time.sleep(60)", "a-mark-of-its-own")))
        while not marked():
            await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    def marked() -> bool:
        commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        return any(b"main.py\0a-mark-of-its-own\0" in command for command in commands)

    asyncio.run(cancelled())
    deadline = time.monotonic() + 10
    while marked() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not marked()


ECHO = """
import os, sys
reads, writes = int(sys.argv[-2]), int(sys.argv[-1])
"""


def test_two_programs_speak_with_each_other_and_the_second_is_stopped_after_the_first():
    asking = python(ECHO + "os.write(writes, b'21'); print(os.read(reads, 9).decode())")
    answering = python(ECHO + "import time; os.write(writes, str(2 * int(os.read(reads, 9))).encode()); time.sleep(60)")
    first, second = asyncio.run(sandbox.run_connected(asking, answering))
    assert first.stdout == "42\n"
    assert second.outcome == "stopped"
    assert second.wall_s < 20


def test_when_the_second_ends_first_the_first_reads_to_the_end():
    first, second = asyncio.run(sandbox.run_connected(python(ECHO + "print(os.read(reads, 9))"), Program(("true",))))
    assert (first.stdout, second.outcome) == ("b''\n", "ok")


# ------------------------------------------------------------------------------------------------------------- the refusal


@as_root
def test_without_bubblewrap_nothing_is_run_and_the_remedy_is_named():
    """In a mount namespace in which bubblewrap is no program: nothing of ours is replaced."""
    code = (
        "import asyncio; from posttrain import sandbox; from posttrain.types import UserError\n"
        "try: print(asyncio.run(sandbox.run(sandbox.python('print(1)'))))\n"
        "except UserError as error: print(error)\n"
        "print([layer.name for layer in sandbox.layers() if not layer.in_force])"
    )
    hidden = 'mount --bind /dev/null "$(command -v bwrap)" && exec "$0" -c "$1"'
    ended = subprocess.run(["unshare", "--mount", "sh", "-c", hidden, sys.executable, code], capture_output=True, text=True)
    assert ended.stdout == (
        "untrusted code is not run: bwrap is missing (not installed): apt-get install bubblewrap\n['bwrap']\n"
    ), ended.stderr


def test_every_required_layer_is_in_force_here():
    layers = sandbox.layers()
    assert [layer.name for layer in layers if layer.required and not layer.in_force] == []
    assert {"namespaces", "seccomp", "environment", "/proc/sys", "no capabilities"} <= {layer.name for layer in layers}


def test_words_with_zero_bytes_are_refused():
    with pytest.raises(UserError, match="without zero bytes"):
        Program(("echo", "a\0b"))
