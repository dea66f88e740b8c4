"""A server for tests: over its stdin and stdout, or with a port as its argument over HTTP. A program of its own."""

import os
import sys

from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("test")
counted = []


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two numbers."""
    return str(a + b)


@server.tool()
def count() -> str:
    """How often it was called."""
    counted.append(1)
    return str(len(counted))


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("it is raining")


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(1)


@server.tool()
def picture() -> Image:
    """Draws."""
    return Image(data=b"\x89PNG", format="png")


if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run()
