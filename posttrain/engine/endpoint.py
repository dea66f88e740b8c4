"""A server that speaks OpenAI's protocol: where it is, how it is asked, and what becomes of its failures.

Bad input (nobody there, no such model, a key that is refused, a server that speaks something else, a request that it
refuses) is a UserError. What may be well again in a moment (429, 5xx, a broken connection, no answer in time) is asked for
again, each time after about twice as long, or as long as the server says; what still fails then is `Unavailable`, which
says nothing about the model and is never a wrong answer. A prompt that leaves no room in the model's context is
`ContextFull`, as with a model here. The key comes from the environment and stands in no record or log.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from posttrain.types import ContextFull, UserError

PREFIX = "openai:"
FORM = "openai:URL[#MODEL][,tokenizer=MODEL][,concurrency=N][,timeout_s=S]"
API_KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key, if the server wants one."""

LONGEST_WAIT_S = 60.0
JITTER = random.Random()
"""So that many who failed together do not come back together."""
EXACT_SERVERS = ("posttrain", "vllm")
"""Who gives the token ids it read and wrote when asked to; others refuse to be asked."""


class Unavailable(Exception):
    """The server failed, again and again. Infrastructure, not the model."""


@dataclass(frozen=True)
class Address:
    """What `--model openai:…` says."""

    url: str
    """Up to and with the version: http://127.0.0.1:8000/v1."""
    model: str = ""
    """Empty takes the only one that the server has."""
    tokenizer: str = ""
    """A model whose tokenizer and chat template the server's model shares: prompts are then sent as tokens."""
    concurrency: int = 16
    """Requests under way at once."""
    timeout_s: float = 600.0
    """How long one request may take."""


def is_remote(model: str) -> bool:
    """Whether the model is a server's."""
    return model.startswith(PREFIX)


def parse_address(spec: str) -> Address:
    """The address in `openai:URL[#MODEL][,key=value…]`. Raises UserError for what is none."""
    place, *options = spec.removeprefix(PREFIX).split(",")
    url, _, model = place.partition("#")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{spec}' names no server: write {FORM}, with a URL like http://127.0.0.1:8000/v1")
    kinds = {"tokenizer": str, "concurrency": int, "timeout_s": float}
    found: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in kinds or not equals:
            raise UserError(f"'{option}' in '{spec}' is no setting of a server: there are {', '.join(kinds)}")
        try:
            found[name] = kinds[name](value)
        except ValueError:
            raise UserError(f"{name} in '{spec}' must be a number, got '{value}'") from None
    if found.get("concurrency", 1) < 1 or not found.get("timeout_s", 1) > 0:
        raise UserError(f"concurrency and timeout_s in '{spec}' must be at least 1 and above 0")
    return Address(url.rstrip("/"), model, **found)


@dataclass(frozen=True)
class Card:
    """What a server says about one of its models."""

    model: str
    max_context: int | None
    """Tokens of prompt and completion together; None where it does not say."""
    gives_tokens: bool
    """Whether it can be asked for the tokens it read and wrote."""
    true_logprobs: bool
    """Whether its log-probs are those of the distribution that it draws from; others may give them before temperature and top-p."""
    remembers: bool = False
    """Whether it is ours, which takes the tokens that a conversation has come to and remembers what it has computed of them."""


@dataclass
class Endpoint:
    """One model of one server; asks for at most `address.concurrency` things at once. Can be used in one event loop after another."""

    address: Address
    api_key: str = field(default_factory=lambda: os.environ.get(API_KEY, ""), repr=False)
    transport: httpx2.AsyncBaseTransport | None = None
    """How requests travel; None is over the network."""
    tries: int = 6
    first_wait_s: float = 0.5
    _card: Card | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _client: httpx2.AsyncClient | None = field(default=None, repr=False)
    _places: asyncio.Semaphore | None = field(default=None, repr=False)
    _asking: asyncio.Lock | None = field(default=None, repr=False)

    async def card(self) -> Card:
        """The model as the server describes it, asked for once. Raises UserError where there is no such server or model."""
        self._enter_loop()
        async with self._asking:
            if self._card is None:
                self._card = self._chosen(await self._request("GET", "models", None, reached=False))
        return self._card

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to `body`, to which the model's name is added. Raises Unavailable, and UserError as said above."""
        card = await self.card()
        async with self._places:
            return await self._request("POST", path, {"model": card.model, **body})

    async def tell(self, path: str, body: Mapping[str, Any], within_s: float = 5.0) -> None:
        """Say what need not be heard: once, and whatever becomes of it is passed over."""
        with suppress(httpx2.HTTPError, UserError, Unavailable):
            card = await self.card()
            await self._client.post(f"{self.address.url}/{path}", json={"model": card.model, **body}, timeout=within_s)

    async def close(self) -> None:
        """Close the connections of this event loop."""
        if self._client is not None:
            await self._client.aclose()
        self._client = self._loop = None

    def _enter_loop(self) -> None:
        """Connections, places and locks belong to an event loop."""
        if self._loop is not asyncio.get_running_loop():
            self._loop = asyncio.get_running_loop()
            headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
            timeout = httpx2.Timeout(self.address.timeout_s, connect=min(10.0, self.address.timeout_s))
            limits = httpx2.Limits(max_connections=self.address.concurrency)
            self._client = httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits, transport=self.transport)
            self._places, self._asking = asyncio.Semaphore(self.address.concurrency), asyncio.Lock()

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None, reached: bool = True) -> dict[str, Any]:
        """One request, until it succeeds or its tries are used up. `reached`: whether the server has ever been."""
        for tried in range(self.tries):
            wait_s = self.first_wait_s * 2**tried * JITTER.uniform(0.75, 1.25)
            try:
                response = await self._client.request(method, f"{self.address.url}/{path}", json=body)
            except httpx2.TransportError as error:
                failure = f"no answer from {self.address.url} ({type(error).__name__})"
                if not reached and isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                    raise UserError(f"{self.address.url} cannot be reached: start the server, or mend the address ({FORM})") from None
            else:
                if response.status_code not in (408, 409, 425, 429) and response.status_code < 500:
                    return self._read(response, reached)
                failure = f"{self.address.url} answered {response.status_code}: {_message(response)}"
                wait_s = max(wait_s, _retry_after(response))
            if tried + 1 < self.tries:
                await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))
        raise Unavailable(f"{failure}, {self.tries} times")

    def _read(self, response: httpx2.Response, reached: bool) -> dict[str, Any]:
        """The object in a good answer; the sentence for one that repeating would not mend."""
        status, url = response.status_code, self.address.url
        if status in (401, 403):
            raise UserError(f"{url} refuses the key ({status}): set {API_KEY} to one that may use this model")
        found = _object(response)
        if found is None or (status == 404 and not (reached and "error" in found)):
            path = response.request.url.path
            raise UserError(f"{url} does not speak OpenAI's protocol (it answers {path} with {status}): does its path end in /v1?")
        if _too_long(response):
            raise ContextFull(f"{url} refuses the request ({status}): {_message(response)}")
        if status >= 400:
            raise UserError(f"{url} refuses the request ({status}): {_message(response)}")
        return found

    def _chosen(self, found: Mapping[str, Any]) -> Card:
        """The address's model among those that the server lists."""
        rows = found.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "id" in row for row in rows):
            raise UserError(f"{self.address.url} does not speak OpenAI's protocol (it lists no models): does its path end in /v1?")
        names = [str(row["id"]) for row in rows]
        wanted = self.address.model or (names[0] if len(names) == 1 else "")
        if wanted not in names:
            listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise UserError(f"{self.address.url} has no model '{wanted}': write #MODEL behind its address with one of {listed or '(it has none)'}")
        row = rows[names.index(wanted)]
        return Card(wanted, row.get("max_model_len"), row.get("owned_by") in EXACT_SERVERS, row.get("logprobs_mode") == "processed_logprobs",
                    row.get("owned_by") == "posttrain")  # fmt: skip


def _object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        found = response.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _message(response: httpx2.Response) -> str:
    """What the server says about what is wrong, in a line."""
    found = _object(response) or {}
    error = found.get("error", found)
    said = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(str(said or response.text or response.reason_phrase).split())[:300]


def _too_long(response: httpx2.Response) -> bool:
    """Whether the prompt leaves no room in the model's context: OpenAI's code for it, or vLLM's words."""
    error = (_object(response) or {}).get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    return response.status_code == 400 and (code == "context_length_exceeded" or "maximum context length" in _message(response))


def _retry_after(response: httpx2.Response) -> float:
    try:
        return float(response.headers.get("Retry-After", 0))
    except ValueError:  # a date
        return 0.0
