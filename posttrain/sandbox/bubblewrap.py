"""The command line of a sandbox: what bubblewrap shuts out, and what then becomes the program.

bubblewrap makes the namespaces and mounts; `setpriv` drops to another user, `prlimit` sets the limits, `env` empties the
environment, and a shell waits for the word to begin before it becomes the program. Two modes:

- As root: no user namespace, since kernel uid 0 in one may still write most of /proc/sys. The program gets a kernel uid of its
  own, which no user of the host has and no other sandbox: limits by user then count it alone, and process 1 of its
  namespace, which stays root's without capabilities, cannot be looked into.
- As an ordinary user: a user namespace, in which no further one can be made. The kernel uid stays the user's, so the
  namespaces alone keep sandboxes apart, and process 1 is bubblewrap under the same uid, with nothing to look for in it.

/proc/sys is mounted read-only in both. bubblewrap would do so only where the folder's permission bits allow writing, which
they never do, and its files can be writable all the same (bubblewrap issues 287 and 313 on running it as root).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from posttrain.sandbox.interpreter import hidden_folders, package_folders, python_folders
from posttrain.sandbox.program import Limits, Program

WORK = "/box"
READY = b"ready\n"
"""What the sandbox says on the program's stdout when it stands and the program has not begun."""
GO = b"go\n"
"""What it waits for on the program's stdin."""
TOOLS = {"bwrap": "bubblewrap", "setpriv": "util-linux", "prlimit": "util-linux", "env": "coreutils", "sh": "dash"}
"""What must be installed, and Debian's name for it."""
SANDBOXES_AT_ONCE = 64
"""Of one process, each with a kernel uid of its own."""

_GATE = 'echo ready; read -r go && [ "$go" = go ] && unset go && exec "$@"'
_UIDS, _LAST_UID = 0x7000_0000, 0x7FFF_FFFF
"""Uids that no distribution and no container manager gives out: 64 for each process id, of which there are at most 2^22."""
_USER = 1000
_PACKAGES = "/packages"


def gives_uids() -> bool:
    """Whether sandboxes get kernel uids of their own: for root, if such uids exist here, as in some containers they do not."""
    return os.geteuid() == 0 and any(first <= _UIDS and first + count > _LAST_UID for first, _, count in _uid_map())


def _uid_map() -> list[list[int]]:
    """Rows of (first uid here, first uid outside, how many)."""
    return [list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]


def kernel_uid(number: int) -> int | None:
    """The uid of this process's sandbox of that number, or None where it stays the user's own."""
    return _UIDS + os.getpid() * SANDBOXES_AT_ONCE + number if gives_uids() else None


def tool(name: str) -> str:
    """Where a tool lies; looked for in the usual folders, whatever PATH says."""
    return shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin") or name


def outer_arguments(program: Program, seccomp: int) -> list[str]:
    """What bubblewrap is told; `seccomp` is a descriptor of the filter."""
    apart = [f"--unshare-{name}" for name in ("pid", "net", "ipc", "uts", "cgroup")]
    return [*apart, "--hostname", "sandbox", "--new-session", "--die-with-parent", *_user(), *_mounts(program), "--seccomp", str(seccomp)]


def _user() -> list[str]:
    if not gives_uids():
        return ["--unshare-user", "--disable-userns", "--uid", str(_USER), "--gid", str(_USER), "--cap-drop", "ALL"]
    dropping = [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    return ["--cap-drop", "ALL", *dropping]


def _mounts(program: Program) -> list[str]:
    """In order: what is mounted later may lie within what was mounted before, as an interpreter in /tmp does."""
    size = str(program.limits.disk_bytes)
    return [
        "--ro-bind", "/usr", "/usr", *_system_links(),
        *(word for path in ("/etc/alternatives", "/etc/ld.so.cache") for word in ("--ro-bind-try", path, path)),
        "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys",
        "--dev", "/dev", "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
        "--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--perms", "0777", "--size", size, "--tmpfs", WORK,
        *(word for folder in python_folders() for word in (*_parents(folder), "--ro-bind", folder, folder)),
        *(word for folder in hidden_folders() for word in ("--tmpfs", folder, "--remount-ro", folder)), *_packages(program),
        "--remount-ro", "/",
    ]  # fmt: skip


def _system_links() -> list[str]:
    """/bin, /lib and their like: links into /usr on most systems, folders on others."""
    words = []
    for path in (Path("/", name) for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32")):
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return words


def _parents(folder: str) -> list[str]:
    """Folders that anybody may pass, where on the host perhaps only one user may."""
    return [word for parent in reversed(Path(folder).parents[:-1]) for word in ("--perms", "0755", "--dir", str(parent))]


def _packages(program: Program) -> list[str]:
    folders = package_folders() if program.packages else []
    return [word for i, folder in enumerate(folders) for word in ("--ro-bind", folder, f"{_PACKAGES}{i}")]


def inner_command(program: Program, uid: int | None, counted_together: bool) -> list[str]:
    """What runs inside, up to the program and its arguments. Without a group that counts them, memory is each process's own."""
    privileges = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"] if uid else []
    return [
        tool("setpriv"), *privileges, "--no-new-privs", tool("prlimit"), *_rlimits(program.limits, counted_together), "--",
        tool("env"), "-i", "-C", WORK, *_environment(program), tool("sh"), "-c", _GATE, "sh", *program.argv,
    ]  # fmt: skip


def _rlimits(limits: Limits, counted_together: bool) -> Sequence[str]:
    cpu = max(1, round(limits.cpu_s))
    values = {
        "cpu": f"{cpu}:{cpu + 1}", "fsize": limits.disk_bytes, "nproc": limits.processes, "nofile": 256, "core": 0,
        "stack": 8 << 20, "memlock": 64 << 10, **({} if counted_together else {"as": limits.memory_bytes}),
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in values.items()]


def _environment(program: Program) -> Sequence[str]:
    folders = [f"{_PACKAGES}{i}" for i in range(len(package_folders()))] if program.packages else []
    return ["PATH=/usr/local/bin:/usr/bin:/bin", f"HOME={WORK}", "LANG=C.UTF-8", *([f"PYTHONPATH={':'.join(folders)}"] if folders else [])]
