"""Bounds on the memory and the number of processes of a whole sandbox: cgroups v2, else v1, else rlimits alone.

A cgroup counts all processes of a sandbox together, and the files that they write to memory. An rlimit counts each process
by itself. Which of the three holds depends on what this user may do here, so it is found out by making a group and entering it.

A group is made for each sandbox and removed after it. One that outlived its program (killed, say) is removed by the next.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from posttrain.sandbox.program import Limits

ROOT = Path("/sys/fs/cgroup")
OWN_PROCESSES = 8
"""Ours in each sandbox, which do not count as the program's: bubblewrap twice, and what starts the program."""
_REMOVAL_S = 2.0
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"'
_numbers = itertools.count()


@dataclass(frozen=True)
class Group:
    """A group of processes, under v1 one for each of two controllers; none at all where only rlimits bound a sandbox."""

    kind: Literal["cgroup v2", "cgroup v1", "rlimits"]
    memory: Path | None = None
    pids: Path | None = None

    @property
    def folders(self) -> list[Path]:
        return list(dict.fromkeys(path for path in (self.memory, self.pids) if path is not None))

    def child(self, name: str) -> Group:
        """The group of this name within this one; makes nothing."""
        return Group(self.kind, *(folder and folder / name for folder in (self.memory, self.pids)))

    def entering(self, argv: list[str]) -> list[str]:
        """The command that enters the group, with all that it starts later, and becomes `argv`."""
        return ["/bin/sh", "-c", _ENTER, "sh", *(f"{folder}/cgroup.procs" for folder in self.folders), "--", *argv]

    def memory_kills(self) -> int:
        """How many processes were ended for want of memory; 0 where nothing counts them."""
        if self.memory is None:
            return 0
        counts = self.memory / ("memory.events" if self.kind == "cgroup v2" else "memory.oom_control")
        words = [line.split() for line in counts.read_text().splitlines()]
        return sum(int(count) for name, count in words if name == "oom_kill")

    def remove(self) -> None:
        """Remove the group once the kernel has seen the last of its processes off."""
        for folder in self.folders:
            _remove(folder, time.monotonic() + _REMOVAL_S)


def _remove(folder: Path, deadline: float) -> None:
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:  # busy: processes that are dead are still being taken apart
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)


def make_group(limits: Limits, parent: Group | None = None) -> Group:
    """A new group with these limits, beneath `parent` or where `find_parent` says. Raises OSError where it cannot be made."""
    group = (parent or find_parent()).child(f"posttrain-{os.getpid()}-{next(_numbers)}")
    try:
        for folder in group.folders:
            folder.mkdir()
        _bound(group, limits)
    except OSError:
        group.remove()
        raise
    return group


def _bound(group: Group, limits: Limits) -> None:
    if group.memory is None or group.pids is None:
        return
    (group.pids / "pids.max").write_text(str(limits.processes + OWN_PROCESSES))
    memory = str(limits.memory_bytes)
    if group.kind == "cgroup v2":
        _write(group.memory, {"memory.max": memory}, optional={"memory.swap.max": "0", "memory.oom.group": "1"})
    else:
        _write(group.memory, {"memory.limit_in_bytes": memory}, optional={"memory.memsw.limit_in_bytes": memory})


def _write(folder: Path, needed: Mapping[str, str], optional: Mapping[str, str]) -> None:
    for name, value in needed.items():
        (folder / name).write_text(value)
    for name, value in optional.items():  # a kernel that counts no swap has no such file
        with suppress(FileNotFoundError, PermissionError):
            (folder / name).write_text(value)


# ---------------------------------------------------------------------------------------------------- where it can be done


@cache
def find_parent() -> Group:
    """Under what groups can be made: the first place at which one can be made, bounded and entered; v2 before v1."""
    for place in (*_v2_places(ROOT), *_v1_places(ROOT)):
        with suppress(OSError, subprocess.SubprocessError):
            _try(place)
            _remove_orphans(place)
            return place
    return Group("rlimits")


def _try(place: Group) -> None:
    group = make_group(Limits(), place)
    try:
        subprocess.run(group.entering(["/bin/true"]), env={}, check=True, timeout=10, stderr=subprocess.DEVNULL)
    finally:
        group.remove()


def _v2_places(root: Path) -> Iterator[Group]:
    for mount in (root, root / "unified"):
        if (mount / "cgroup.controllers").exists():
            yield from (Group("cgroup v2", folder, folder) for folder in _from_own(mount, ""))


def _v1_places(root: Path) -> Iterator[Group]:
    if (root / "memory").is_dir() and (root / "pids").is_dir():
        pids = list(_from_own(root / "pids", "pids"))
        yield from (Group("cgroup v1", memory, pid) for memory in _from_own(root / "memory", "memory") for pid in pids)


def _from_own(mount: Path, controller: str) -> Iterator[Path]:
    """Our own group first, so that what bounds us bounds the sandboxes; then those around it, since v2 often allows only these."""
    here = mount / _own_groups().get(controller, "/").lstrip("/")
    folders = [here, *here.parents] if here.is_dir() else [mount]
    yield from (folder for folder in folders if folder.is_relative_to(mount))


def _own_groups() -> dict[str, str]:
    """The group of this process under each of v1's controllers; under the empty name, v2's."""
    file = Path("/proc/self/cgroup")
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}


def _remove_orphans(parent: Group) -> None:
    for folder in (path for folder in parent.folders for path in folder.glob("posttrain-*-*")):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with suppress(OSError):
                folder.rmdir()
