"""The system calls that a sandboxed program may not make, as a seccomp filter: a classic BPF program, built by hand.

A filter only makes the kernel's surface smaller: what it forbids is forbidden twice, since the program has no capability, no
host namespace and a kernel uid of its own. What is forbidden answers with an error, so that a program can go on:

- EPERM: looking into other processes, keyrings, BPF, mounts and namespaces, device nodes, kernel modules, clocks, handles
- ENOSYS: `clone3` (its flags lie in memory, where a filter cannot see them; libraries fall back to `clone`) and io_uring
- EPERM: `clone` with any flag that makes a namespace; `ioctl` TIOCSTI and TIOCLINUX, which type into a terminal
- EAFNOSUPPORT: sockets of other families than UNIX, IPv4 and IPv6

Calls of another architecture, x32 among them, kill the process. The numbers are the kernel's (`asm/unistd_64.h`, and
`asm-generic/unistd.h` for aarch64); the form of a filter is described in `Documentation/userspace-api/seccomp_filter.rst`.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping, Sequence

from posttrain.types import UserError

# name: (x86_64, aarch64); None where an architecture has no such call
FORBIDDEN: Mapping[str, tuple[int, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "perf_event_open": (298, 241), "lookup_dcookie": (212, 18),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "userfaultfd": (323, 282), "personality": (135, 92), "modify_ldt": (154, None), "uselib": (134, None),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89), "vhangup": (153, 58),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "move_pages": (279, 239), "migrate_pages": (256, 238),
}  # fmt: skip
MISSING: Mapping[str, tuple[int, int | None]] = {
    "clone3": (435, 435), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
"""Calls that the program is told this kernel does not have."""

ARGUMENT_CHECKED: Mapping[str, tuple[int, int]] = {"clone": (56, 220), "ioctl": (16, 29), "socket": (41, 198), "socketpair": (53, 199)}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""machine: (column of the tables above, the kernel's AUDIT_ARCH)."""
_X32_BIT = 0x40000000
_NAMESPACE_FLAGS = 0x7E020000 | 0x80
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME."""
_TYPING_INTO_A_TERMINAL = (0x5412, 0x541C)
_FAMILIES = (1, 2, 10)

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in the kernel's `struct seccomp_data`; an argument is 8 bytes, its low half first."""
_ALLOW, _KILL = 0x7FFF0000, 0x80000000

Instruction = tuple[int, int, int, int]
"""code, how many to skip if true, how many to skip if false, operand."""


def seccomp_filter(machine: str | None = None) -> bytes:
    """The filter for this machine's architecture, as `struct sock_filter[]`. Raises `UserError` for one without a table."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise UserError(f"the sandbox has no seccomp filter for {machine}: it runs on {' and '.join(_ARCHITECTURES)}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(machine))


def _program(machine: str) -> list[Instruction]:
    column, architecture = _ARCHITECTURES[machine]
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, architecture), _answer(_KILL), (_LOAD, 0, 0, _NUMBER)]
    if has_x32(machine):
        program += [(_IF_AT_LEAST, 0, 1, _X32_BIT), _answer(_KILL)]
    for calls, error in ((FORBIDDEN, errno.EPERM), (MISSING, errno.ENOSYS)):
        for numbers in calls.values():
            if numbers[column] is not None:
                program += [(_IF_EQUAL, 0, 1, numbers[column]), _fail(error)]
    for name, numbers in ARGUMENT_CHECKED.items():
        checks = _argument_checks(name)
        program += [(_IF_EQUAL, 0, len(checks), numbers[column]), *checks]
    return [*program, _answer(_ALLOW)]


def has_x32(machine: str | None = None) -> bool:
    """Whether the kernel takes calls of a second table, marked by a high bit, under the same architecture."""
    return (machine or platform.machine()) == "x86_64"


def numbers(calls: Mapping[str, tuple[int, int | None]]) -> dict[str, int]:
    """The numbers of these calls on this machine, without those that it does not have."""
    column = _ARCHITECTURES[platform.machine()][0]
    return {name: pair[column] for name, pair in calls.items() if pair[column] is not None}


def _argument_checks(name: str) -> list[Instruction]:
    """What follows once a call is known to be `name`; always ends in an answer."""
    if name == "clone":
        return [_argument(0), (_IF_ANY_BIT, 0, 1, _NAMESPACE_FLAGS), _fail(errno.EPERM), _answer(_ALLOW)]
    if name == "ioctl":
        return [_argument(1), *_each(_TYPING_INTO_A_TERMINAL, _fail(errno.EPERM)), _answer(_ALLOW)]
    return [_argument(0), *_each(_FAMILIES, _answer(_ALLOW)), _fail(errno.EAFNOSUPPORT)]


def _each(values: Sequence[int], answer: Instruction) -> list[Instruction]:
    return [instruction for value in values for instruction in ((_IF_EQUAL, 0, 1, value), answer)]


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _answer(verdict: int) -> Instruction:
    return (_RETURN, 0, 0, verdict)


def _fail(error: int) -> Instruction:
    return (_RETURN, 0, 0, 0x00050000 | error)
