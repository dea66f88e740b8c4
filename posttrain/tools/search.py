"""Search as a tool: over a retriever, or any function that finds texts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from posttrain.retrieval.passages import Passage, Retriever
from posttrain.tools.tool import Tool, tool
from posttrain.types import ToolError

MAX_K = 20
SearchFunction = Callable[[str, int], Sequence[Passage] | Awaitable[Sequence[Passage]]]


def search_tool(source: Retriever | SearchFunction, k: int = 5, corpus_sha256: str = "") -> Tool:
    """The tool `search` over a retriever or a function of (query, k), async or not; each answer has `k` passages unless more are asked for.

    The hash of what is searched, where it is known, stands shortened in the tool's description, and so in the prompt of every trajectory.
    """
    find = source if callable(source) else source.search

    async def search(query: str, k: int = k) -> str:
        """Search the library for passages about something. Gives the best first, each with the name that it can be cited by."""
        if not 1 <= k <= MAX_K:
            raise ToolError(f"from 1 to {MAX_K} passages can be asked for, not {k}")
        found = await _found(find, query, int(k))
        return "\n\n".join(f"[{passage.id}]\n{passage.text}" for passage in found) or "nothing was found"

    made = tool(search)
    return replace(made, description=f"{made.description} (library {corpus_sha256[:12]})") if corpus_sha256 else made


async def _found(find: SearchFunction, query: str, k: int) -> Sequence[Passage]:
    """What it finds; a function that does not wait runs in a thread, where it holds nobody up."""
    if inspect.iscoroutinefunction(find):
        return await find(query, k)
    found = await asyncio.to_thread(find, query, k)
    return await found if inspect.isawaitable(found) else found
