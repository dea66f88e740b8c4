"""Files into a sandbox's folder, and out of it, beneath an open descriptor of the folder and never through a link.

A program may leave `ln -s /etc/shadow answer.txt`, and an `open()` on the host would follow it. `openat2` (Linux 5.6) with
RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV cannot be led out of the folder; what is then no regular file is not
read. Reading begins when every process of the sandbox is dead, so nothing changes between a look and a read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

from posttrain.types import UserError

MAX_DEPTH = 16
"""How many folders deep files are looked for."""
MAX_NAMES = 4096
"""How many names of one folder are looked at: a million would fill our memory instead of its own."""
_OPENAT2 = 437
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08
"""NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH."""


def safe_name(name: str) -> str:
    """A relative name without `..`, in its plain form. Raises `UserError` for any other."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or len(path.parts) > MAX_DEPTH:
        raise UserError(f"a file in a sandbox needs a relative name without '..', at most {MAX_DEPTH} deep, not {name!r}")
    return str(path)


def put(folder: int, files: Mapping[str, bytes | str], owner: int | None) -> None:
    """Write the files beneath the folder, which is still empty, with the folders that they need; all of them `owner`'s, if given.

    Raises `UserError` for a name that leads elsewhere and OSError where there is no room.
    """
    for name, content in files.items():
        _make_parents(folder, safe_name(name), owner)
        with opened(folder, safe_name(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            _give(file, owner)
            view = memoryview(content.encode() if isinstance(content, str) else content)
            while view:
                view = view[os.write(file, view) :]


def _make_parents(folder: int, name: str, owner: int | None) -> None:
    for parent in reversed(PurePosixPath(name).parents[:-1]):
        try:
            os.mkdir(parent, dir_fd=folder)
        except FileExistsError:
            continue
        with opened(folder, str(parent), os.O_RDONLY | os.O_DIRECTORY) as made:
            _give(made, owner)


def _give(file: int, owner: int | None) -> None:
    if owner is not None:
        os.fchown(file, owner, owner)


def take(folder: int, keep: Sequence[str] | Literal["all"], max_bytes: int, max_files: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """The contents of the files to keep, by name, and why others are missing; in all at most so many bytes and files."""
    taken: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    for name in names(folder) if keep == "all" else keep:
        if len(taken) + len(left_out) >= max_files:
            left_out["…"] = f"there are more than {max_files} files"
            break
        try:
            taken[name] = _read(folder, safe_name(name), max_bytes - sum(map(len, taken.values())))
        except (OSError, UserError) as error:
            left_out[name] = _reason(error)
    return taken, left_out


def _reason(error: OSError | UserError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    return "a link, or beyond one" if code in (errno.ELOOP, errno.EXDEV) else getattr(error, "strerror", None) or str(error)


def _read(folder: int, name: str, room: int) -> bytes:
    with opened(folder, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as file:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "no regular file")
        if status.st_size > room:
            raise OSError(0, f"{status.st_size} bytes are more than is kept")
        with open(file, "rb", closefd=False) as stream:
            return stream.read(room)


def names(folder: int, under: str = "", depth: int = 0) -> Iterator[str]:
    """Every printable name of something other than a folder, in order; `MAX_DEPTH` deep, and `MAX_NAMES` in a folder, at most."""
    with os.scandir(folder) as entries:
        some = sorted(islice(entries, MAX_NAMES), key=lambda entry: entry.name)
    for entry in (entry for entry in some if entry.name.isprintable()):
        if not entry.is_dir(follow_symlinks=False):
            yield f"{under}{entry.name}"
        elif depth < MAX_DEPTH:
            with suppress(OSError), opened(folder, entry.name, os.O_RDONLY | os.O_DIRECTORY) as inner:
                yield from names(inner, f"{under}{entry.name}/", depth + 1)


class _OpenHow(ctypes.Structure):
    """The kernel's `struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(folder: int, name: str, flags: int) -> Iterator[int]:
    """A descriptor of what has this name beneath the folder. Raises OSError, with ELOOP or EXDEV where links are in the way."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0o644 if flags & os.O_CREAT else 0, _RESOLVE)
    file = _libc().syscall(_OPENAT2, folder, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))
    if file < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    try:
        yield file
    finally:
        os.close(file)
