"""What is run in a sandbox, within which limits, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from posttrain.sandbox.files import safe_name
from posttrain.sandbox.interpreter import python_path
from posttrain.types import UserError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one sandbox may use. Raises `UserError` for a limit that limits nothing."""

    wall_s: float = 15.0
    """Seconds by the clock, from the program's start; waiting for a place does not count."""
    cpu_s: int = 5
    """Processor seconds of each process."""
    memory_bytes: int = 512 * MIB
    """Of all processes together, and of the files that they write; with rlimits alone, the address space of each process."""
    processes: int = 64
    """Processes and threads at one time."""
    disk_bytes: int = 64 * MIB
    """Of each of /work, /tmp and /dev/shm, which are memory; nothing else can be written to."""
    output_bytes: int = 64 * 1024
    """How much of each of stdout and stderr is kept: half of it from the beginning, half from the end."""
    flood_bytes: int = 8 * MIB
    """A program that writes more than this to stdout and stderr together is killed."""
    kept_files: int = 256
    """How many files are read back at most."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 1 << 50:
                raise UserError(f"a sandbox's {name} must be above 0 and finite, not {value}")


@dataclass(frozen=True)
class Program:
    """One thing to run. It starts in /work with nothing but its own files, and with no environment but PATH, HOME and LANG."""

    argv: tuple[str, ...]
    """The program and its arguments; the host's /usr is there, and the interpreter at `python_path()`."""
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    """What lies in /work at the start, by relative name."""
    stdin: bytes | str = b""
    limits: Limits = Limits()
    keep: tuple[str, ...] | Literal["all"] = ()
    """Which files of /work to read back at the end, by relative name; regular files only, and never through a link."""
    packages: bool = False
    """Whether `import` finds the packages that are installed here, numpy for instance, and not the standard library alone."""

    def __post_init__(self) -> None:
        if not self.argv or any("\0" in word for word in self.argv):
            raise UserError("a sandboxed program needs a name, and words without zero bytes")
        for name in self.files:
            safe_name(name)


def python(code: str, *args: str, files: Mapping[str, bytes | str] | None = None, **more: object) -> Program:
    """The program that runs Python `code` as /work/main.py; `more` are the other fields of `Program`."""
    return Program((python_path(), "-B", "main.py", *args), {**(files or {}), "main.py": code}, **more)


Outcome = Literal["ok", "nonzero_exit", "timeout", "out_of_memory", "output_flood", "could_not_start", "stopped"]
"""`could_not_start` speaks of the sandbox, never of the program; `stopped`: whoever waited for it, or was connected to it, is gone."""


@dataclass(frozen=True)
class Ran:
    """How a program ended, and what it left. All that it left is its own word: data, never a verdict."""

    outcome: Outcome
    exit_code: int | None = None
    """Of the program, or 128 + the signal that ended it; None where the sandbox ended it."""
    stdout: str = ""
    """Head and tail; what is no UTF-8 is replaced."""
    stderr: str = ""
    output_bytes: int = 0
    """How much was written to both, kept or not."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What was to be kept and could be read."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What was to be kept and was not, with the reason."""
    wall_s: float = 0.0
    """From the program's start to its end."""
    explanation: str = ""
    """The outcome in a sentence, for a person or a model to read."""

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"
