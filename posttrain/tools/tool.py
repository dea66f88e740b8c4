"""A tool: a typed async function, with the schema that the model reads."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from posttrain.tools.schema import check, parameters
from posttrain.types import UserError


@dataclass(frozen=True)
class Tool:
    """One thing that a model may call. `ToolError` is told to the model; whatever else the function raises ends the attempt."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """A JSON schema of its arguments."""
    function: Callable[..., Awaitable[Any]]
    """Takes the arguments by name; its result is told as text (anything but a text as JSON)."""
    rebuilds: bool = False
    """What its calls leave lies in a process that may end: they are made again when an attempt is taken up."""

    @property
    def schema(self) -> dict[str, Any]:
        """What the model reads, in the shape that chat templates take (OpenAI's)."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}}

    async def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call it. Raises ToolError for arguments that do not fit its schema."""
        check(dict(arguments), self.parameters)
        return await self.function(**arguments)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Tool]]:
        """Itself, for an attempt: a function needs nothing of its own for each."""
        yield (self,)


class Toolbox(Protocol):
    """Tools that come together, with what they share during one attempt: a folder, a process, a connection."""

    def open(self) -> AbstractAsyncContextManager[Sequence[Tool]]:
        """The tools of one attempt; what they have started ends with the context."""
        ...


def tool(function: Callable[..., Awaitable[Any]], name: str = "", rebuilds: bool = False) -> Tool:
    """The tool that this function is: its name, its docstring, its typed parameters (`Annotated[str, "…"]` says more of one).

    Raises UserError for a function that is not async, has no docstring, or a parameter without a type that JSON can hold.
    """
    name = name or function.__name__
    description = inspect.getdoc(function)
    if not inspect.iscoroutinefunction(function):
        raise UserError(f"the tool {name} must be an async function: only then can it be stopped")
    if not description:
        raise UserError(f"the tool {name} needs a docstring: the model reads it")
    return Tool(name, description, parameters(function), function, rebuilds)
