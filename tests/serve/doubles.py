"""Servers within the process: the real one over the tiny model, and one that answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from posttrain.engine.endpoint import Address, Endpoint
from posttrain.policy.hf import Policy

URL = "http://127.0.0.1:1/v1"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def served(policy: Policy, engine: Any = None, **options: Any) -> Endpoint:
    """The tiny model behind the real server; with `engine`, what that samples."""
    pytest.importorskip("starlette")
    from posttrain.serve.app import Served

    server = Served(policy, "tiny")
    server.engine = engine or server.engine
    return Endpoint(Address(URL, "tiny", **options), "", httpx2.ASGITransport(server.app))


@dataclass(frozen=True)
class Unwatched:
    """An engine that takes no notice of `watch`."""

    engine: Any

    async def sample(self, prompt: Any, n: int, sampling: Any, stops: Any, begun: int = 0, watch: Any = None) -> Any:
        return await self.engine.sample(prompt, n, sampling, stops, begun)

    async def forget(self, prompt: Any, tokens: Any) -> None:
        """It remembers nothing."""


@dataclass
class Script:
    """A server whose answers are a function of the request's path and body; counts and keeps what it was asked."""

    answer: Callable[[str, dict[str, Any]], tuple[int, Any] | Exception]
    models: tuple[dict[str, Any], ...] = ({"id": "m"},)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        import json

        self.headers.append(dict(request.headers))
        path = request.url.path
        if path.endswith("/models"):
            return httpx2.Response(200, json={"data": list(self.models)})
        self.asked.append(json.loads(request.content))
        found = self.answer(path, self.asked[-1])
        if isinstance(found, Exception):
            raise found
        status, body = found
        return httpx2.Response(status, json=body) if not isinstance(body, str) else httpx2.Response(status, text=body)

    def endpoint(self, model: str = "m", key: str = "", **options: Any) -> Endpoint:
        return Endpoint(Address(URL, model, **options), key, httpx2.MockTransport(self), tries=3, first_wait_s=0.0)
