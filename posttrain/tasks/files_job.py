"""Files to put in order: moved, renamed, edited and collected, by tools, with every file compared at the end.

| operation | in words                                                  | what it takes                   |
|-----------|-----------------------------------------------------------|---------------------------------|
| move      | Move inbox/oak.txt into the folder done.                  | one call                        |
| rename    | Rename inbox/oak.txt to inbox/elm-2.txt.                  | one call                        |
| edit      | In inbox/oak.txt, put blue in place of red.               | one call                        |
| collect   | Add the text of inbox/oak.txt to the end of all.txt.      | its text, and one call          |

Each operation has a file of its own, so that an error does not make a later one impossible. The files are held in memory: no
sandbox is needed, and nothing on the disk is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from posttrain.tasks.jobs import Jobs, Opening, Operation, State
from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolCall, ToolError, UserError

KINDS = ("move", "rename", "edit", "collect")
TREES = ("oak", "elm", "ash", "fir", "yew", "bay", "fig", "box", "birch", "cedar", "maple", "pine")
COLOURS = ("red", "blue", "green", "white", "black", "grey", "pink", "brown")
INBOX, FOLDERS, COLLECTION, SPARE = "inbox", ("done", "later", "sent"), "all.txt", 2
"""And how many files there are that nobody asks for."""


@dataclass(frozen=True)
class FilesJob(Jobs):
    """A folder of small text files; `horizon` operations on them."""

    operations: tuple[str, ...] = KINDS
    """What is to be done: move, rename, edit, collect."""

    def __post_init__(self) -> None:
        if not self.operations or set(self.operations) - set(KINDS):
            raise UserError(f"files knows the operations {', '.join(KINDS)}, not {list(self.operations)}: say operations=move+edit, for instance")
        super().__post_init__()

    @property
    def craft(self) -> Filing:
        return Filing(self.operations)


@dataclass(frozen=True)
class Filing:
    """The `Craft`: a state is a text for each path."""

    kinds: tuple[str, ...] = KINDS
    name = "files"
    writes = ("move_file", "write_file", "append_file", "edit_file", "delete_file")

    def draw(self, random: Random, horizon: int) -> Opening:
        names = [f"{tree}{'' if i < len(TREES) else f'-{i // len(TREES)}'}" for i in range(horizon + SPARE) for tree in [TREES[i % len(TREES)]]]
        random.shuffle(names)
        state = {f"{INBOX}/{name}.txt": " ".join(random.sample(COLOURS, 3)) for name in sorted(names)}
        operations = tuple(self._drawn(f"{INBOX}/{name}.txt", state, random) for name in names[:horizon])
        asked = random.choice([o.arguments["folder"] for o in operations if o.kind == "move"] or [INBOX])
        described = "\n".join(f"- {path}: {text}" for path, text in state.items())
        return Opening(state, f"A workspace with these files:\n{described}", operations, asked, f"Say how many files {asked} holds then, as a number.")

    def _drawn(self, path: str, state: State, random: Random) -> Operation:
        kind = random.choice(self.kinds)
        if kind == "move":
            folder = random.choice(FOLDERS)
            return Operation(kind, f"Move {path} into the folder {folder}.", {"path": path, "folder": folder})
        if kind == "rename":
            to = f"{path.removesuffix('.txt')}-{random.randint(2, 9)}{random.choice('abcd')}.txt"
            return Operation(kind, f"Rename {path} to {to}.", {"path": path, "to": to})
        if kind == "edit":
            old, new = random.choice(state[path].split()), random.choice([c for c in COLOURS if c not in state[path].split()])
            return Operation(kind, f"In {path}, put {new} in place of {old}.", {"path": path, "old": old, "new": new})
        return Operation(kind, f"Add the text of {path} to the end of {COLLECTION}.", {"path": path})

    def tools(self, state: State) -> Sequence[Tool]:
        def check(path: str) -> str:
            if path not in state:
                raise ToolError(f"there is no file '{path}'")
            return path

        async def list_files() -> list[str]:
            """The paths of all files."""
            return sorted(state)

        async def read_file(path: str) -> str:
            """The text of a file."""
            return state[check(path)]

        async def write_file(path: str, text: str) -> None:
            """Writes a file, in place of one that may be there."""
            state[path] = text

        async def append_file(path: str, text: str) -> None:
            """Adds a line to the end of a file, which is made if there is none."""
            state[path] = f"{state[path]}\n{text}" if path in state else text

        async def edit_file(path: str, old: str, new: str) -> str:
            """Puts a new piece of text in place of an old one, which must occur once."""
            if (n := state[check(path)].count(old)) != 1 or not old:
                raise ToolError(f"'{old}' occurs {n} times in {path}, and not once")
            state[path] = state[path].replace(old, new)
            return state[path]

        async def move_file(path: str, to: str) -> None:
            """Moves or renames a file: `to` is its new path, the file's name included."""
            if to in state or not to.strip("/") or to.endswith("/"):
                raise ToolError(f"'{to}' is {'taken' if to in state else 'no path of a file'}")
            state[to] = state.pop(check(path))

        async def delete_file(path: str) -> None:
            """Deletes a file."""
            del state[check(path)]

        return tuple(map(tool, (list_files, read_file, write_file, append_file, edit_file, move_file, delete_file)))

    def done(self, state: State, operation: Operation) -> State | None:
        said, path = operation.arguments, operation.arguments["path"]
        if path not in state:
            return None
        if operation.kind == "collect":
            before = [state[COLLECTION]] if COLLECTION in state else []
            return {**state, COLLECTION: "\n".join([*before, state[path]])}
        if operation.kind == "edit":
            return {**state, path: state[path].replace(said["old"], said["new"])} if state[path].count(said["old"]) == 1 else None
        to = _target(operation)
        return None if to in state else {**{p: text for p, text in state.items() if p != path}, to: state[path]}

    def calls(self, state: State, operation: Operation) -> tuple[ToolCall, ...]:
        said, path = operation.arguments, operation.arguments["path"]
        if operation.kind == "collect":
            return ToolCall("read_file", {"path": path}), ToolCall("append_file", {"path": COLLECTION, "text": state[path]})
        if operation.kind == "edit":
            return (ToolCall("edit_file", dict(said)),)
        return (ToolCall("move_file", {"path": path, "to": _target(operation)}),)

    def slip(self, state: State, operation: Operation, random: Random) -> ToolCall:
        right = self.calls(state, operation)[-1]
        said = dict(right.arguments)
        if operation.kind == "edit":
            said["new"] = random.choice([colour for colour in COLOURS if colour not in (said["new"], said["old"])])
        elif operation.kind == "collect":
            said["text"] = f"{said['text']} {random.choice(COLOURS)}"
        else:
            said["to"] = f"{random.choice(FOLDERS)}/{random.choice(TREES)}-{random.randrange(10**6):06d}.txt"
        return ToolCall(right.name, said)

    def count(self, state: State, asked: str) -> int:
        return sum(path.startswith(f"{asked}/") for path in state)


def _target(operation: Operation) -> str:
    """Where a file is moved, or what it is renamed to."""
    said = operation.arguments
    return said["to"] if operation.kind == "rename" else f"{said['folder']}/{said['path'].rpartition('/')[2]}"
