"""Which Python a sandboxed program gets, and where it lies."""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"


@cache
def python_path() -> str:
    """This program's own interpreter without its virtual environment, or the system's where the sandbox cannot be given ours.

    An ordinary user's own interpreter is his to show; an administrator's home folder is not readable to him.
    """
    own = os.path.realpath(sys.executable)
    return own if os.access(own, os.X_OK) or not os.path.exists(SYSTEM_PYTHON) else SYSTEM_PYTHON


def python_folders() -> list[str]:
    """The folders outside /usr that the interpreter needs, which stand in the sandbox under their own names.

    Under another name it would silently load another version's library.
    """
    own, prefix = python_path(), os.path.realpath(sys.base_prefix)
    if own.startswith("/usr/") or not own.startswith(f"{prefix}/"):
        return [] if own.startswith("/usr/") else [os.path.dirname(own)]
    return [prefix]


def hidden_folders() -> list[str]:
    """Where the interpreter outside /usr has packages of its own: they stand empty, or each start would read them first."""
    base = os.path.realpath(sys.base_prefix)
    paths = dict.fromkeys(sysconfig.get_path(name, vars={"base": base, "platbase": base}) for name in ("purelib", "platlib"))
    return [path for path in paths if Path(path).is_dir() and any(path.startswith(f"{folder}/") for folder in python_folders())]


def package_folders() -> list[str]:
    """Where this program's packages are installed; nowhere, for an interpreter that is not this program's."""
    if python_path() != os.path.realpath(sys.executable):
        return []
    found = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    return [path for path in found if Path(path).is_dir()]
