"""Tools of MCP servers: programs that speak over their stdin and stdout, or addresses that speak HTTP, in the usual `mcpServers` form.

    {"mcpServers": {"files": {"command": "npx", "args": ["…"], "env": {}}, "docs": {"url": "https://…/mcp", "headers": {}}}}

Each attempt has connections, and programs, of its own. A server's complaint about a call is told to the model; a server that dies ends
the attempt as an error. Its stderr is kept, and quoted where it could not be started. With several servers a tool's name begins with its
server's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.tools.tool import Tool
from posttrain.types import ToolError, UserError

QUOTED = 400
"""Characters of a server's stderr that are quoted."""
_GONE = -32000
"""The protocol's error for a connection that was closed."""


@dataclass(frozen=True)
class MCP:
    """The tools of some servers."""

    servers: Mapping[str, Mapping[str, Any]]
    """By name: `command`, `args`, `env` and `cwd` of a program, or `url` and `headers` of an address."""
    start_s: float = 30.0
    """How long a server may take until it has said what it offers."""

    def __post_init__(self) -> None:
        for name, server in self.servers.items():
            if not isinstance(server, Mapping) or not isinstance(server.get("command", server.get("url")), str):
                raise UserError(f"the MCP server '{name}' needs a command (with args) or a url")

    @classmethod
    def from_file(cls, path: str) -> MCP:
        """The servers that a file names. Raises UserError where it cannot be read, and where it has none."""
        try:
            servers = json.loads(Path(path).read_bytes())["mcpServers"]
        except OSError as error:
            raise UserError(f"'{path}', the file of MCP servers, cannot be read ({error.strerror}): mend mcp:config=") from None
        except (ValueError, KeyError, TypeError):
            servers = None
        if not isinstance(servers, Mapping) or not servers:
            raise UserError(f"'{path}' names no MCP servers: it must be a JSON object with mcpServers, an object of servers by name")
        return cls(servers)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Tool]]:
        """Start and connect to all. Raises UserError for one that cannot be had, with what it said."""
        _needed()
        tools: list[Tool] = []
        async with AsyncExitStack() as stack:
            for name, server in self.servers.items():
                prefix = f"{name}_" if len(self.servers) > 1 else ""
                tools += await self._connected(stack, name, server, prefix)
            yield tools

    async def _connected(self, stack: AsyncExitStack, name: str, server: Mapping[str, Any], prefix: str) -> list[Tool]:
        from mcp import Client

        said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        try:
            async with asyncio.timeout(self.start_s):
                client = await stack.enter_async_context(Client(_transport(stack, server, said)))
                return [_tool(client, prefix, each) for each in await _listed(client)]
        except Exception as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            said.seek(0)
            stderr = said.read()[-QUOTED:].strip()
            reason = f"it was silent for {self.start_s:g} s" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            raise UserError(f"the MCP server '{name}' cannot be used ({reason}{f'; it said: {stderr}' if stderr else ''}): mend its entry") from error


def _transport(stack: AsyncExitStack, server: Mapping[str, Any], said: Any) -> Any:
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    if "command" in server:
        kept = {key: server[key] for key in ("command", "args", "env", "cwd") if key in server}
        return stdio_client(StdioServerParameters(**kept), errlog=said)
    return streamable_http_client(server["url"], http_client=create_mcp_http_client(headers=dict(server.get("headers", {}))))


async def _listed(client: Any) -> list[Any]:
    """All that the server offers, page after page."""
    page = await client.list_tools()
    found = list(page.tools)
    while page.next_cursor:
        page = await client.list_tools(cursor=page.next_cursor)
        found += page.tools
    return found


def _tool(client: Any, prefix: str, offered: Any) -> Tool:
    async def call(**arguments: Any) -> str:
        from mcp import MCPError

        try:
            result = await client.call_tool(offered.name, arguments)
        except MCPError as error:
            if error.error.code == _GONE:
                raise ConnectionError(f"the MCP server of {offered.name} is gone: {error}") from None
            raise ToolError(str(error)) from None
        text = "\n".join(map(_text, result.content)) or (json.dumps(result.structured_content, ensure_ascii=False) if result.structured_content is not None else "done")
        if result.is_error:
            raise ToolError(text)
        return text

    return Tool(prefix + offered.name, offered.description or offered.name, offered.input_schema, call)


def _text(block: Any) -> str:
    """A part of an answer as text; what is none is named."""
    if block.type == "text":
        return block.text
    if block.type == "resource" and getattr(block.resource, "text", None) is not None:
        return block.resource.text
    if block.type == "resource_link":
        return f"({block.name}: {block.uri})"
    return f"({block.type} of {getattr(block, 'mime_type', 'an unknown kind')}, not shown)"


def _needed() -> None:
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise UserError("the tool mcp needs another package: pip install 'posttrain[mcp]'") from None
