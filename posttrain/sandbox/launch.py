"""Starts sandboxes, attends to them until they have ended, and says how.

One loop attends to all sandboxes that belong together. It must run in a thread that outlives them (bubblewrap's
`--die-with-parent` goes by thread), and not in an event loop: one that is kept busy would neither drain a program's output nor
keep its time, and would make a time-out out of an innocent program.

A sandbox says `ready` when it stands. Its folder is then opened from the host, the program's files are written there, and
the word to begin is given. The open folder outlives the sandbox, so what the program left is read from it when every process
is dead: nothing can change between a look and a read, and a time-out loses nothing.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from threading import Event

from posttrain.sandbox.bubblewrap import GO, READY, WORK, inner_command, kernel_uid, outer_arguments, tool
from posttrain.sandbox.cgroups import Group, make_group
from posttrain.sandbox.files import put, take
from posttrain.sandbox.output import HeadAndTail
from posttrain.sandbox.program import Outcome, Program, Ran
from posttrain.sandbox.seccomp import seccomp_filter

START_S = 30.0
"""How long a sandbox may take until it stands, on however busy a machine."""
GRACE_S = 0.5
"""How long the second of two connected programs has left when the first has ended."""
_LOOK_S = 0.05
"""How often the clock is looked at."""
_CHUNK = 1 << 16
_CPU_SIGNAL_CODE = 128 + signal.SIGXCPU


def attend(programs: Sequence[Program], first_number: int, stop: Event) -> list[Ran]:
    """Run the programs side by side, each in a sandbox of its own, until all have ended.

    Two programs are connected: each finds, as its last two arguments, the numbers of descriptors to read from and to write
    to the other; when the first has ended the second is hurried. `first_number` and those after it number the sandboxes
    within this process at this time. Where this machine gives out (no descriptors, no processes), none of them could start.
    """
    with ExitStack() as stack:
        return _attend(programs, first_number, stop, lambda: _connect(stack) if len(programs) == 2 else [_Descriptors(stack) for _ in programs])


def attend_talk(program: Program, number: int, stop: Event, line: int) -> Ran:
    """Run a program whose last argument is the number of a descriptor, `line`, over which it can be talked to; it is closed here."""
    with ExitStack() as stack:
        given = [_Descriptors(stack, line)]
        return _attend([program], number, stop, lambda: given)[0]


def _attend(programs: Sequence[Program], first_number: int, stop: Event, connect: Callable[[], list[_Descriptors]]) -> list[Ran]:
    try:
        return _attended(programs, first_number, stop, connect())
    except OSError as error:
        return [Ran("could_not_start", explanation=f"the sandbox could not be set up: {error}") for _ in programs]


def _attended(programs: Sequence[Program], first_number: int, stop: Event, channels: list[_Descriptors]) -> list[Ran]:
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        running = [Running(program, kernel_uid(first_number + i), selector) for i, program in enumerate(programs)]
        for one, channel in zip(running, channels, strict=True):
            stack.callback(one.close)
            one.start(channel.numbers)
        for channel in channels:
            channel.close()
        while not all(one.ended for one in running):
            for key, _ in selector.select(_LOOK_S):
                key.data()
            for one in running:
                one.look(stop.is_set(), hurried=running[0].ended)
        return [one.result() for one in running]


class _Descriptors:
    """Descriptors that a program is given; ours are closed once it has them, or with the stack."""

    def __init__(self, stack: ExitStack, *numbers: int) -> None:
        self.numbers = list(numbers)
        stack.callback(self.close)

    def close(self) -> None:
        while self.numbers:
            os.close(self.numbers.pop())


def _connect(stack: ExitStack) -> list[_Descriptors]:
    (read_first, write_second), (read_second, write_first) = os.pipe(), os.pipe()
    return [_Descriptors(stack, read_first, write_first), _Descriptors(stack, read_second, write_second)]


class Running:
    """One sandbox, from its start to its end."""

    def __init__(self, program: Program, uid: int | None, selector: selectors.BaseSelector) -> None:
        self.program, self.uid, self.selector = program, uid, selector
        limits = program.limits
        self.stdout, self.stderr = HeadAndTail(limits.output_bytes), HeadAndTail(limits.output_bytes)
        stdin = program.stdin.encode() if isinstance(program.stdin, str) else program.stdin
        self.stdin = memoryview(GO + stdin)
        self.greeting = b""
        self.verdict: tuple[Outcome, str] | None = None
        """Why it was ended from without."""
        self.init: int | None = None
        """A descriptor of the sandbox's process 1: with it, all of them end."""
        self.folder: int | None = None
        self.ended = False
        self.deadline: float | None = None
        """When its time is over because its partner has ended."""
        self.wall_s = 0.0
        self.group: Group | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.opened: list[int] = []
        """Descriptors to close at the end."""

    # ------------------------------------------------------------------------------------------------------------- starting

    def start(self, channel: Sequence[int]) -> None:
        """Begin to set the sandbox up. What goes wrong shows later, as its end before it was ready."""
        self.group = make_group(self.program.limits)
        filter_file = self._memory_file("seccomp", seccomp_filter())
        arguments = self._memory_file("arguments", b"".join(os.fsencode(word) + b"\0" for word in outer_arguments(self.program, filter_file)))
        self.status, status_end = os.pipe()
        self.opened += [self.status, status_end]
        inner = [*inner_command(self.program, self.uid, bool(self.group.folders)), *map(str, channel)]
        argv = [tool("bwrap"), "--json-status-fd", str(status_end), "--args", str(arguments), "--", *inner]
        self.process = subprocess.Popen(
            self.group.entering(argv), env={}, cwd="/", pass_fds=[filter_file, arguments, status_end, *channel], start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self.begun = time.monotonic()
        self._watch()

    def _memory_file(self, name: str, content: bytes) -> int:
        file = self._keep(os.memfd_create(name))
        os.write(file, content)
        os.lseek(file, 0, os.SEEK_SET)
        return file

    def _keep(self, file: int) -> int:
        self.opened.append(file)
        return file

    def _watch(self) -> None:
        self.pidfd = self._keep(os.pidfd_open(self.process.pid))
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            os.set_blocking(stream.fileno(), False)
        self._on(self.pidfd, self._finish)
        self._on(self.process.stdout.fileno(), lambda: self._read(self.process.stdout, self._hear))
        self._on(self.process.stderr.fileno(), lambda: self._read(self.process.stderr, self.stderr.write))

    def _on(self, file: int, action: Callable[[], None], events: int = selectors.EVENT_READ) -> None:
        self.selector.register(file, events, action)

    def _off(self, file: int) -> None:
        with suppress(KeyError, ValueError):
            self.selector.unregister(file)

    # -------------------------------------------------------------------------------------------------------------- running

    @property
    def stands(self) -> bool:
        return self.folder is not None

    def _hear(self, data: bytes) -> None:
        """Stdout: the sandbox's own word first, then the program's."""
        if self.stands:
            self.stdout.write(data)
            return
        self.greeting += data
        if self.greeting == READY:
            self._begin()

    def _begin(self) -> None:
        """Put the files where they belong, and give the word. Nothing but our own shell runs in the sandbox yet."""
        try:
            number = json.loads(os.read(self.status, _CHUNK).splitlines()[0])["child-pid"]
            self.init = self._keep(os.pidfd_open(number))
            folder = self._keep(os.open(f"/proc/{number}/root{WORK}", os.O_RDONLY | os.O_DIRECTORY))
            put(folder, self.program.files, self.uid)
        except OSError as error:
            self._end("could_not_start", f"its files could not be written: {error}")
            return
        self.folder, self.begun = folder, time.monotonic()
        self._on(self.process.stdin.fileno(), self._feed, selectors.EVENT_WRITE)

    def _feed(self) -> None:
        file = self.process.stdin.fileno()
        try:
            self.stdin = self.stdin[os.write(file, self.stdin[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read
            self.stdin = self.stdin[:0]
        if not self.stdin:
            self._off(file)
            self.process.stdin.close()

    def _read(self, stream, use: Callable[[bytes], None]) -> bool:
        """Take what there is; whether there may be more."""
        try:
            data = os.read(stream.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._off(stream.fileno())
            return False
        use(data)
        if self.stdout.total + self.stderr.total > self.program.limits.flood_bytes:
            self._end("output_flood", f"it wrote more than {self.program.limits.flood_bytes} bytes")
        return True

    def look(self, stop: bool, hurried: bool) -> None:
        """End it if its time is over, or if nobody waits for it any more."""
        now = time.monotonic()
        limit = self.program.limits.wall_s if self.stands else START_S
        if hurried and self.deadline is None:
            self.deadline = now + GRACE_S
        if stop:
            self._end("stopped", "nobody waits for it any more")
        elif self.deadline is not None and now > self.deadline:
            self._end("stopped", "the program that it was connected to had ended")
        elif now - self.begun > limit and self.stands:
            self._end("timeout", f"it had not ended after {limit:g} s")
        elif now - self.begun > limit:
            self._end("could_not_start", f"the sandbox did not stand after {limit:g} s")

    # --------------------------------------------------------------------------------------------------------------- ending

    def _end(self, outcome: Outcome, explanation: str) -> None:
        """Kill everything in the sandbox. The first reason counts."""
        if self.ended or self.verdict is not None:
            return
        self.verdict = (outcome, explanation)
        if self.init is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.init, signal.SIGKILL)
        else:
            self.process.kill()  # and bubblewrap's child with it

    def _finish(self) -> None:
        """bubblewrap has ended: make sure that all of the sandbox has, and take the last of its output."""
        self.wall_s = time.monotonic() - self.begun
        self.process.wait()
        if self.init is not None:
            _wait_until_readable(self.init, START_S)
        for stream, use in ((self.process.stdout, self._hear), (self.process.stderr, self.stderr.write)):
            while self._read(stream, use):
                pass
        self.ended = True
        self._off(self.pidfd)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if not stream.closed:
                self._off(stream.fileno())

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process is not None:
            self._end("stopped", "")
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                stream.close()
        while self.opened:
            os.close(self.opened.pop())
        if self.group is not None:
            self.group.remove()

    def result(self) -> Ran:
        """How it ended, with the files that were to be kept."""
        outcome, explanation = self.verdict or self._own_end()
        limits = self.program.limits
        files, left_out = ({}, {}) if self.folder is None else take(self.folder, self.program.keep, limits.disk_bytes, limits.kept_files)
        code = None if self.verdict else self._code()
        output_bytes = self.stdout.total + self.stderr.total
        return Ran(outcome, code, self.stdout.text(), self.stderr.text(), output_bytes, files, left_out, self.wall_s, explanation)

    def _code(self) -> int:
        """As a shell says it, where the kernel ended bubblewrap itself too."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def _own_end(self) -> tuple[Outcome, str]:
        """The outcome of a program that was not ended by us."""
        code, limits = self._code(), self.program.limits
        if not self.stands:
            return "could_not_start", f"the sandbox could not be set up: {self.stderr.text().strip() or f'bubblewrap ended with {code}'}"
        if code == 0:
            return "ok", "it ended with exit code 0"
        if self.group.memory_kills():
            return "out_of_memory", f"it needed more than {limits.memory_bytes} bytes of memory"
        if code == _CPU_SIGNAL_CODE:
            return "timeout", f"it used more than {limits.cpu_s:g} s of the processor"
        return "nonzero_exit", f"it ended with exit code {code}"


def _wait_until_readable(file: int, seconds: float) -> None:
    poll = select.poll()  # not `select.select`, which takes no descriptor beyond 1023
    poll.register(file, select.POLLIN)
    poll.poll(1000 * seconds)
