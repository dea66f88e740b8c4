"""`posttrain serve`: a model behind OpenAI's protocol."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass

from posttrain.commands.base import DONE, Dtype


@dataclass(frozen=True)
class Args:
    """Serve a model over HTTP as OpenAI's API does: /v1/chat/completions, /v1/completions, /v1/models, with streams and tools.

    Requests that are open at a time share batches; the same seed gives the same tokens, whoever else is asking. Anybody who
    reaches the address may use it: there is no key. Ctrl-C ends it.
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    port: int = 8000
    """0 takes one that is free."""
    host: str = "127.0.0.1"
    """Whose requests are heard: 127.0.0.1 are this machine's own, 0.0.0.0 everybody's."""
    name: str = ""
    """What clients call the model; else what --model says, a path's last part."""
    max_rows: int = 256
    """Completions written at once; further ones wait."""
    dtype: Dtype = "auto"
    """What the model computes in."""


async def main(args: Args) -> int:
    """Load, listen."""
    from posttrain.types import UserError

    try:
        import uvicorn

        from posttrain.serve.app import Served
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs '{error.name}': pip install 'posttrain[serve]'") from None
    from posttrain.policy.hf import load_policy

    if args.max_rows < 1 or not 0 <= args.port <= 65535:
        raise UserError("--max-rows must be at least 1, and --port between 0 and 65535")
    listener = _listener(args.host, args.port)
    with listener:
        name = args.name or args.model.rstrip("/").rsplit("/", 1)[-1]
        served = Served(load_policy(args.model, args.dtype), name, args.max_rows)
        host, port = listener.getsockname()[:2]
        at = f"http://{host}:{port}/v1"
        print(f"serving '{name}' at {at} (posttrain eval --model 'openai:{at}#{name}')", file=sys.stderr, flush=True)
        await uvicorn.Server(uvicorn.Config(served.app, log_level="warning", timeout_graceful_shutdown=5)).serve(sockets=[listener])
    return DONE


def _listener(host: str, port: int) -> socket.socket:
    """An open port. Raises UserError where it cannot be had."""
    from posttrain.types import UserError

    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UserError(f"port {port} of {host} cannot be had ({error}): give another --port or --host") from None
    return listener
