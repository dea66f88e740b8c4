"""Which layers of the sandbox are in force, as seen from within, and the refusal to run where a required one is missing.

Nothing here is assumed because it was asked for: a probe runs in a sandbox, and what it reads of itself is compared with what
this process reads of itself.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from posttrain.sandbox.bubblewrap import TOOLS, gives_uids, kernel_uid, tool
from posttrain.sandbox.cgroups import find_parent
from posttrain.sandbox.launch import attend
from posttrain.sandbox.program import Program, Ran
from posttrain.sandbox.seccomp import seccomp_filter
from posttrain.types import UserError

NAMESPACES = ("pid", "net", "ipc", "uts", "mnt", "cgroup")
ENVIRONMENT = {"PATH", "HOME", "LANG", "PWD"}
"""What a program finds in its environment; PYTHONPATH besides, with packages."""

_PROBE = """
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
for name in pid net ipc uts mnt cgroup user; do echo "$name: $(readlink /proc/self/ns/$name)"; done
echo "sys: $(grep ' /proc/sys ' /proc/self/mounts)"
echo "environment: $(env | cut -d= -f1 | tr '\\n' ' ')"
echo "init: $(tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1 | tr '\\n' ' ')"
"""
_RESERVED = 30
"""The number of the probe's sandbox: beyond those of any thread."""


@dataclass(frozen=True)
class Layer:
    """One of the things that keep a program in."""

    name: str
    in_force: bool
    detail: str
    """What was found."""
    remedy: str = ""
    """How to get it, where it is missing."""
    required: bool = True
    """Whether nothing is run without it."""


def layers() -> tuple[Layer, ...]:
    """Every layer, in force or not, by a probe of about 30 ms. Where the tools are missing there is no probe, and only they are listed."""
    found = tuple(_prerequisites())
    if not all(layer.in_force for layer in found):
        return found
    ran = attend([Program((tool("sh"), "-c", _PROBE))], _RESERVED, threading.Event())[0]
    return (*found, *(_seen_from_within(ran) if ran.ok else [_not_started(ran)]), _bounds(), _clock())


def require() -> None:
    """Raises `UserError`, with what to install or change, unless every required layer is in force. Looks once; a refusal is not kept."""
    global _held
    with _lock:
        if _held:
            return
        for layer in layers():
            if layer.required and not layer.in_force:
                raise UserError(f"untrusted code is not run: {layer.name} is missing ({layer.detail}): {layer.remedy or 'see posttrain doctor'}")
        _held = True


_lock = threading.Lock()
_held = False


# ------------------------------------------------------------------------------------------------------------- what is asked


def _prerequisites() -> Iterator[Layer]:
    yield Layer("Linux", sys.platform == "linux", platform.platform(), "the sandbox is made of Linux's namespaces: run posttrain on Linux")
    for name, package in TOOLS.items():
        path = tool(name)
        yield Layer(name, os.path.isabs(path), path if os.path.isabs(path) else "not installed", f"apt-get install {package}")
    try:
        seccomp_filter()
        yield Layer("architecture", True, platform.machine())
    except UserError as error:
        yield Layer("architecture", False, platform.machine(), str(error))


def _not_started(ran: Ran) -> Layer:
    remedy = (
        "bubblewrap 0.8 or newer needs user namespaces (kernel.unprivileged_userns_clone=1; on Ubuntu 24.04"
        " kernel.apparmor_restrict_unprivileged_userns=0), or root with CAP_SYS_ADMIN"
    )
    return Layer("sandbox", False, " ".join((ran.explanation + " " + ran.stderr).split()), remedy)


def _seen_from_within(ran: Ran) -> Iterator[Layer]:
    rows = [line.partition(":") for line in ran.stdout.splitlines()]
    within = {name: value.strip() for name, _, value in rows}
    shared = [name for name in NAMESPACES if within.get(name) in ("", None, os.readlink(f"/proc/self/ns/{name}"))]
    yield Layer("namespaces", not shared, f"of its own: {', '.join(name for name in NAMESPACES if name not in shared)}")
    yield _user(within)
    capable = [name for name in ("CapEff", "CapBnd") if int(within.get(name, "1"), 16)]
    kept = "none, and no bounding set" if gives_uids() else "none"
    yield Layer("no capabilities", not capable, f"{', '.join(capable)} not empty" if capable else kept)
    yield Layer("no new privileges", within.get("NoNewPrivs") == "1", "setuid programs give nothing")
    yield Layer("seccomp", within.get("Seccomp") == "2", f"a filter of {len(seccomp_filter()) // 8} instructions")
    yield Layer("/proc/sys", " ro," in within.get("sys", ""), within.get("sys") or "writable", "")
    yield _environment(within)


def _user(within: Mapping[str, str]) -> Layer:
    uids = set(within.get("Uid", "0").split())
    if gives_uids():
        return Layer("kernel uid", uids == {str(kernel_uid(_RESERVED))}, f"its own: {' '.join(uids)}")
    apart = within.get("user") not in ("", None, os.readlink("/proc/self/ns/user"))
    return Layer("user namespace", apart and "0" not in uids, f"its own; its kernel uid is yours, {os.geteuid()}")


def _environment(within: Mapping[str, str]) -> Layer:
    names = {name for row in ("environment", "init") for name in within.get(row, "?").split()}
    return Layer("environment", names <= ENVIRONMENT, f"{' '.join(sorted(names))}{' and nothing else' if names <= ENVIRONMENT else ''}")


def _bounds() -> Layer:
    """Where cgroups cannot be had, rlimits bound each process: weaker, so it is said, but it is not refused."""
    parent = find_parent()
    detail = " and ".join(map(str, parent.folders)) or "each process is bounded by itself: processes × memory_bytes in all"
    return Layer(f"bounds: {parent.kind}", bool(parent.folders), detail, "run as root, or in a cgroup that is delegated to you", required=False)


def _clock() -> Layer:
    return Layer("wall clock", hasattr(os, "pidfd_open"), "kept by a thread of this process")
