"""A workspace of files, and no way out of it: no name with `..`, no absolute one, and no link is followed (`sandbox/files.py`)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TypeVar

from posttrain.sandbox.files import names, opened, safe_name
from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolError, UserError

MAX_BYTES = 1 << 20
"""Of one file that is read or written."""
MAX_LISTED = 500
Result = TypeVar("Result")


@dataclass(frozen=True)
class Files:
    """The tools `list_files`, `read_file`, `write_file` and `replace_in_file` over one folder."""

    path: str = ""
    """The folder; empty gives each attempt a new one, which is gone at its end."""
    copy: bool = False
    """Give each attempt a copy of the folder, which is gone at its end."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Tool]]:
        """Raises UserError where the folder does not exist."""
        if self.path and not Path(self.path).is_dir():
            raise UserError(f"the tool files needs a folder, and '{self.path}' is none: make it first")
        with tempfile.TemporaryDirectory(prefix="workspace-") as fresh:
            folder = self.path or fresh
            if self.path and self.copy:
                await asyncio.to_thread(shutil.copytree, self.path, fresh, symlinks=True, dirs_exist_ok=True)
                folder = fresh
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                workspace = Workspace(descriptor)
                yield tuple(map(tool, (workspace.list_files, workspace.read_file, workspace.write_file, workspace.replace_in_file)))
            finally:
                os.close(descriptor)


@dataclass(frozen=True)
class Workspace:
    """An open folder."""

    folder: int

    async def list_files(self) -> str:
        """List all files of the workspace with their sizes in bytes."""
        return await _told(lambda: self._listed())

    async def read_file(self, name: str, first_line: int = 1, lines: int = 400) -> str:
        """Read a text file of the workspace: so many lines, beginning with this one."""
        text = await _told(lambda: self._read(name))
        kept = text.splitlines(keepends=True)
        if first_line < 1 or lines < 1 or len(kept) and first_line > len(kept):
            raise ToolError(f"'{name}' has {len(kept)} lines: ask for some of them")
        shown = "".join(kept[int(first_line) - 1 : int(first_line) - 1 + int(lines)])
        rest = len(kept) - (first_line - 1 + lines)
        return shown + (f"\n({rest:g} more lines)" if rest > 0 else "")

    async def write_file(self, name: str, text: str) -> str:
        """Write a text file of the workspace, in place of what it held; folders are made as needed."""
        await _told(lambda: self._write(name, text))
        return f"wrote {len(text.encode())} bytes"

    async def replace_in_file(self, name: str, old: str, new: str) -> str:
        """Replace a passage of a text file, which must stand in it exactly once."""
        text = await _told(lambda: self._read(name))
        if text.count(old) != 1 or not old:
            raise ToolError(f"the old passage stands {text.count(old) if old else 'any number of'} times in '{name}': give one that stands once")
        await _told(lambda: self._write(name, text.replace(old, new)))
        return "replaced"

    def _listed(self) -> str:
        some = islice(names(self.folder), MAX_LISTED + 1)
        found = [f"{name}  {os.stat(name, dir_fd=self.folder, follow_symlinks=False).st_size}" for name in some]
        more = f"\n(more than {MAX_LISTED})" if len(found) > MAX_LISTED else ""
        return "\n".join(found[:MAX_LISTED]) + more or "there are no files"

    def _read(self, name: str) -> str:
        with opened(self.folder, safe_name(name), os.O_RDONLY | os.O_NONBLOCK) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise ToolError(f"'{name}' is no file")
            if status.st_size > MAX_BYTES:
                raise ToolError(f"'{name}' has {status.st_size} bytes, and {MAX_BYTES} can be read")
            with open(file, "rb", closefd=False) as stream:
                data = stream.read(MAX_BYTES)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ToolError(f"'{name}' holds {len(data)} bytes that are no text") from None

    def _write(self, name: str, text: str) -> None:
        data = text.encode()
        if len(data) > MAX_BYTES:
            raise ToolError(f"{len(data)} bytes are more than the {MAX_BYTES} that a file may have")
        with ExitStack() as stack:
            *parents, last = PurePosixPath(safe_name(name)).parts
            folder = self.folder
            for parent in parents:
                folder = stack.enter_context(_made(folder, parent))
            file = stack.enter_context(opened(folder, last, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK))
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ToolError(f"'{name}' is no file")
            os.ftruncate(file, 0)
            with open(file, "wb", closefd=False) as stream:
                stream.write(data)


def _made(folder: int, name: str) -> AbstractContextManager[int]:
    """The folder of that name beneath this one, made if it is not there."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    return opened(folder, name, os.O_RDONLY | os.O_DIRECTORY)


async def _told(act: Callable[[], Result]) -> Result:
    """What the act gives, out of the event loop's way; what is wrong with it is the model's to know."""
    try:
        return await asyncio.to_thread(act)
    except UserError as error:
        raise ToolError(str(error).replace("a file in a sandbox", "a file of the workspace")) from None
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EXDEV)
        raise ToolError(f"'{error.filename}' cannot be used: {'a link leads away from the workspace' if link else error.strerror}") from None
