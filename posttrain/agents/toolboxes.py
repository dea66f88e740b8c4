"""Tools by name: `calculator,python,files:path=work,web:hosts=a+b,search:index=FOLDER,mcp:config=FILE`, and `task` for a task's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from posttrain.tasks import TASKS, split_specs
from posttrain.tasks import load as load_task
from posttrain.tasks.options import parse_options, typed_options, unknown
from posttrain.tools.calculator import calculator
from posttrain.tools.calling import Calling
from posttrain.tools.tool import Toolbox, tool
from posttrain.types import Task, UserError, World

OWN = "task"
"""The tools that a task's problems are attempted with."""


def load_world(specs: str, task: str = "", call_s: float = 30.0) -> World:
    """The world of the tools that `load_tools` knows; for `task`, the one that the task's problems are attempted in.

    Raises UserError as `load_tools` does, and where the task has no world of its own.
    """
    if specs != OWN:
        return Calling(load_tools(specs), call_s)
    return own_world(load_task(task) if task.partition(":")[0] in TASKS else None)


def own_world(task: Task | None) -> World:
    """The world that the task's problems are attempted in. Raises UserError where it has none."""
    world = getattr(task, "world", None)
    if world is None:
        raise UserError(f"--tools {OWN} takes the tools that a task comes with, and this one comes with none: try --task ledger or files")
    return world


def load_tools(specs: str) -> list[Toolbox]:
    """The tools that `NAME[:key=value,…][,NAME…]` describes, none for an empty text.

    Raises UserError for a tool or an option that does not exist, and for one whose package is not installed.
    """
    return [_load(spec) for spec in split_specs(specs)] if specs else []


def _load(spec: str) -> Toolbox:
    name, _, options = spec.partition(":")
    if name not in TOOLS:
        raise UserError(unknown("tool", name, TOOLS))
    kind = TOOLS[name]
    return kind.make(**{**kind.options, **typed_options(f"the tool {name}", parse_options(options), kind.options)})


@dataclass(frozen=True)
class _Kind:
    make: Callable[..., Toolbox]
    options: Mapping[str, Any] = field(default_factory=dict)
    """With their defaults."""


def _python(call_s: float, packages: bool) -> Toolbox:
    from posttrain.tools.python import Python

    return Python(call_s, packages=packages)


def _files(path: str, copy: bool) -> Toolbox:
    from posttrain.tools.files import Files

    return Files(path, copy)


def _search(index: str, k: int) -> Toolbox:
    from posttrain.retrieval.index import open_index
    from posttrain.tools.search import search_tool

    if not index:
        raise UserError("the tool search needs an index: search:index=FOLDER, as posttrain rag index makes it")
    opened = open_index(index)
    return search_tool(opened.retriever(), k, opened.manifest.sha256)


def _web(hosts: tuple[str, ...], call_s: float) -> Toolbox:
    from posttrain.tools.web import Web

    return Web(tuple(filter(None, hosts)), call_s)


def _mcp(config: str) -> Toolbox:
    from posttrain.tools.mcp import MCP

    if not config:
        raise UserError("the tool mcp needs a file of servers: mcp:config=FILE.json, with an object mcpServers")
    return MCP.from_file(config)


TOOLS: Mapping[str, _Kind] = {
    "calculator": _Kind(lambda: tool(calculator)),
    "python": _Kind(_python, {"call_s": 10.0, "packages": True}),
    "files": _Kind(_files, {"path": "", "copy": False}),
    "search": _Kind(_search, {"index": "", "k": 5}),
    "web": _Kind(_web, {"hosts": ("",), "call_s": 20.0}),
    "mcp": _Kind(_mcp, {"config": ""}),
}
