"""Runs untrusted code, and is the only room that does.

    ran = await sandbox.run(sandbox.python("print(6 * 7)"))                # Ran(outcome="ok", stdout="42\\n", …)
    ran = await sandbox.run(Program(("sort", "a.txt"), files={"a.txt": "b\\na\\n"}, limits=Limits(wall_s=2)))

A program runs in namespaces of its own, without network, under a kernel uid of its own where we are root, with an empty
environment, without capabilities, behind a seccomp filter, in folders that are memory, bounded by a cgroup or by rlimits,
and by the clock. As many run at once as there are processors; the others wait. Reads top to bottom:

- `program`      what is run, within which limits, and how it ended
- `interpreter`  which Python it gets
- `bubblewrap`   the namespaces, mounts and user: one command line
- `seccomp`      the system calls that it may not make
- `cgroups`      how much memory and how many processes
- `files`        files into its folder, and out of it without following links
- `output`       the beginning and the end of what it writes
- `launch`       from its start to its end
- `places`       how many at a time
- `talk`         a program that is talked to while it runs
- `layers`       what is in force here, seen from within; `run` refuses where something required is missing
- `hostile`      programs that try to get out, and what shows that they did not

Kernel bugs and timing side channels are out of reach of all this: for those, put posttrain into a virtual machine.
"""

from __future__ import annotations

from posttrain.sandbox.layers import Layer, layers, require
from posttrain.sandbox.places import shared
from posttrain.sandbox.program import Limits, Outcome, Program, Ran, python

__all__ = ["Layer", "Limits", "Outcome", "Program", "Ran", "layers", "python", "require", "run", "run_connected"]


async def run(program: Program) -> Ran:
    """Run one program in a sandbox of its own; killed if the awaiting task is cancelled.

    Raises `UserError` where the sandbox cannot be had, with what to install. What the program does is never an exception.
    """
    return (await shared.run([program]))[0]


async def run_connected(first: Program, second: Program) -> tuple[Ran, Ran]:
    """Run two programs, each in a sandbox of its own, with a pipe each way between them.

    Each finds the numbers of two descriptors as its last two arguments: to read from and to write to the other. When one has
    ended the other reads to the end of its pipe; when it is the first that has ended, the second is stopped half a second
    later. Raises `UserError` like `run`.
    """
    ran = await shared.run([first, second])
    return ran[0], ran[1]
