"""Cases of programs that try to get out, to take too much, or to stay; and what shows that they did not.

A program prints `GOT …` for each thing that it should not have got, and `TRIED n` at its end, so that one that broke down
before it tried anything is not taken for one that was held. What can be seen from the host is judged there: processes that
stayed, connections that arrived, a secret in what was read back.

`posttrain doctor` runs them all. They do no harm where the sandbox holds; where it does not, they would.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from posttrain.sandbox import hostile_programs as programs
from posttrain.sandbox import seccomp
from posttrain.sandbox.bubblewrap import gives_uids
from posttrain.sandbox.cgroups import find_parent
from posttrain.sandbox.interpreter import python_folders
from posttrain.sandbox.layers import ENVIRONMENT
from posttrain.sandbox.places import shared
from posttrain.sandbox.program import MIB, Limits, Ran, python

LIMITS = Limits(wall_s=20, cpu_s=5, memory_bytes=128 * MIB, processes=32, disk_bytes=16 * MIB, flood_bytes=MIB)
"""Small, so that the suite is soon over; the clock's limit is far away, except where it is what is tried."""
_SHORT = replace(LIMITS, wall_s=0.5)
_SLACK_S = 5.0
"""How much later than its limit a program may be seen to end, on a busy machine."""


@dataclass(frozen=True)
class Host:
    """What the programs go for."""

    secret: str
    """Stands in one file of the host, and in nothing else."""
    file: str
    port: int
    """Of the loopback; somebody listens."""
    abstract: str
    """A socket with a name but no file; somebody listens there too."""
    listeners: tuple[socket.socket, ...]

    def connections(self) -> int:
        """How many have arrived since the last look."""
        count = 0
        for listener in self.listeners:
            with suppress(BlockingIOError):
                while listener.accept():
                    count += 1
        return count

    def told(self, limits: Limits) -> str:
        """What a program is told about its host: all that it could wish to know."""
        return json.dumps({
            "file": self.file, "port": self.port, "abstract": self.abstract, "pid": os.getpid(), "own_uid": gives_uids(),
            "environment": sorted(ENVIRONMENT), "python": (*python_folders(), "/usr")[0],
            "processes": limits.processes, "disk": limits.disk_bytes,
            "memory": limits.memory_bytes * (1 if find_parent().folders else limits.processes),
            "forbidden": seccomp.numbers(seccomp.FORBIDDEN), "missing": seccomp.numbers(seccomp.MISSING),
            "checked": seccomp.numbers(seccomp.ARGUMENT_CHECKED), "x32": seccomp.has_x32(),
        })  # fmt: skip


@contextmanager
def a_host() -> Iterator[Host]:
    """A secret in a file, and two sockets that listen."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="posttrain-doctor-"))
        secret, file = secrets.token_hex(16), Path(folder, "secret")
        file.write_text(secret)
        abstract = f"posttrain-{secrets.token_hex(8)}"
        listeners = tuple(stack.enter_context(socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX))
        for listener, address in zip(listeners, (("127.0.0.1", 0), f"\0{abstract}"), strict=True):
            listener.bind(address)
            listener.listen()
            listener.setblocking(False)
        yield Host(secret, str(file), listeners[0].getsockname()[1], abstract, listeners)


Judgement = Callable[[Ran, Host], str]
"""What went wrong; nothing where the sandbox held."""


@dataclass(frozen=True)
class Case:
    """One attempt."""

    name: str
    tries: str
    """What it attempts, in a few words."""
    code: str
    held: Judgement
    limits: Limits = LIMITS
    keep_all: bool = False


@dataclass(frozen=True)
class Verdict:
    """What came of a case."""

    name: str
    tries: str
    held: bool
    detail: str
    """How it ended; or what it got."""
    wall_s: float | None = None
    """Of the program, where it ran alone."""


# -------------------------------------------------------------------------------------------------------------- judgements


def got_nothing(ran: Ran, host: Host) -> str:
    """It came to its end, tried what it had to try, and got none of it."""
    lines = ran.stdout.splitlines()
    got = [line for line in lines if line.startswith("GOT")]
    tried = ran.ok and any(line.startswith("TRIED") and line != "TRIED 0" for line in lines)
    return "; ".join(got) or ("" if tried else f"it did not come to its end: {ran.explanation}, {ran.stderr.strip()[-300:]}")


def ended(*outcomes: str) -> Judgement:
    """It ended in one of these ways, and soon."""

    def held(ran: Ran, host: Host) -> str:
        return "" if ran.outcome in outcomes else f"{ran.outcome}: {ran.explanation}, {ran.stderr.strip()[-300:]}"

    return held


def ended_by_the_clock(ran: Ran, host: Host) -> str:
    """It was killed when its time was over, and not much later."""
    late = ran.wall_s > _SHORT.wall_s + _SLACK_S
    return ended("timeout")(ran, host) or (f"it ended after {ran.wall_s:.1f} s" if late else "")


def no_connection(ran: Ran, host: Host) -> str:
    """Nothing arrived at the host's sockets."""
    arrived = host.connections()
    return got_nothing(ran, host) or (f"{arrived} connections arrived" if arrived else "")


def bounded_output(ran: Ran, host: Host) -> str:
    """Killed for the flood, with no more kept than was to be kept."""
    kept = len(ran.stdout) + len(ran.stderr)
    return ended("output_flood")(ran, host) or (f"{kept} characters were kept" if kept > 2 * LIMITS.output_bytes + 200 else "")


def only_plain_files(ran: Ran, host: Host) -> str:
    """The regular file was read back, and nothing through a link."""
    wrong = set(ran.files) ^ {"main.py", "plain"}
    return got_nothing(ran, host) or (f"read back, or not: {', '.join(wrong)}" if wrong else "")


CASES = (
    Case("fork bomb", "to have more and more processes", programs.FORK_BOMB, ended_by_the_clock, _SHORT),
    Case("processes", "to have one process too many", programs.PROCESSES, got_nothing),
    Case("threads", "to have one thread too many", programs.THREADS, got_nothing),
    Case("memory bomb", "to have more and more memory", programs.MEMORY_BOMB, ended("out_of_memory", "nonzero_exit")),
    Case("memory by many", "to have it in eight processes", programs.MEMORY_BY_MANY, lambda ran, host: (
        "" if ran.outcome == "out_of_memory" else got_nothing(ran, host))),
    Case("disk fill", "to fill every folder", programs.DISK_FILL, got_nothing),
    Case("file flood", "to make ten million files", programs.FILE_FLOOD, ended("out_of_memory", "nonzero_exit", "timeout"),
         replace(LIMITS, wall_s=1, memory_bytes=48 * MIB)),
    Case("network", "to reach the host and the world", programs.NETWORK, no_connection),
    Case("host files", "to read and write what is the host's", programs.HOST_FILES, got_nothing),
    Case("environment", "to read anybody's environment", programs.ENVIRONMENT, got_nothing),
    Case("signals", "to kill everybody", programs.SIGNALS, got_nothing),
    Case("/proc tricks", "to change the kernel through /proc", programs.PROC_TRICKS, got_nothing),
    Case("privileges", "to become root, to lift its limits", programs.PRIVILEGES, got_nothing),
    Case("system calls", "what the filter forbids", programs.SYSTEM_CALLS, got_nothing),
    Case("output flood", "to fill memory through stdout", programs.OUTPUT_FLOOD, bounded_output),
    Case("error flood", "to fill memory through stderr", programs.ERROR_FLOOD, bounded_output),
    Case("daemons", "to stay after its end", programs.DAEMONS, got_nothing),
    Case("links", "to have the host follow them", programs.LINKS, only_plain_files, keep_all=True),
    Case("spinning", "to take the processor", programs.SPINNING, ended("timeout"), replace(LIMITS, cpu_s=1)),
    Case("sleeping", "to wait for ever", programs.SLEEPING, ended_by_the_clock, _SHORT),
    Case("silent sleeping", "the same with its output closed", programs.SILENT_SLEEPING, ended_by_the_clock, _SHORT),
    Case("crash", "to take the sandbox down with it", programs.CRASH, ended("nonzero_exit")),
)  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- running


async def run_cases(cases: Sequence[Case] = CASES) -> list[Verdict]:
    """Run the cases, as many at once as there are places. Raises `UserError` where a required layer is missing."""
    with a_host() as host:
        return await asyncio.gather(*(_run(case, host) for case in cases))


async def _run(case: Case, host: Host) -> Verdict:
    marker = secrets.token_hex(16)
    program = python(
        programs.PRELUDE + case.code, marker, stdin=host.told(case.limits), limits=case.limits, keep="all" if case.keep_all else ()
    )  # fmt: skip
    ran = (await shared.run([program]))[0]
    wrong = judge(case, ran, host) or _left(marker)
    return Verdict(case.name, case.tries, not wrong, wrong or f"{ran.outcome}: {ran.explanation}", ran.wall_s)


def judge(case: Case, ran: Ran, host: Host) -> str:
    """What went wrong; nothing where the sandbox held. Whatever a case tries, the secret must not have come out."""
    texts = [ran.stdout, ran.stderr, *(content.decode("utf-8", "replace") for content in ran.files.values())]
    return "the secret of the host's file came out" if any(host.secret in text for text in texts) else case.held(ran, host)


def _left(marker: str) -> str:
    """Processes on the host that have the marker among their arguments."""
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if marker.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                left.append(folder.name)
    return f"processes that stayed: {' '.join(left)}" if left else ""
