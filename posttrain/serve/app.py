"""The server: `/v1/models`, `/v1/completions` and `/v1/chat/completions` over one policy.

All requests that are open at a time share the engine's batches. A sample is the same through HTTP as from the engine: the
same seed gives the same tokens and log-probs to the last bit, whoever else is asking. Whoever hangs up is no longer sampled
for. Beside OpenAI's own settings it takes vLLM's `top_k`, `min_p`, `stop_token_ids`, `ignore_eos` and `return_token_ids`;
log-probs are in nats, under the distribution that a token was drawn from (at temperature 0, at temperature 1).

Two settings are its own, for agents whose attempts are trained on. In a chat, `seen_token_ids` are the tokens that were read and
written up to the end of the last assistant's message (none in the first turn): they are read as they were, where its words, spelled
anew, could be other tokens. `begun` says how many of them the conversation began with; what is computed of it is then remembered
from turn to turn, until `POST /v1/conversations/ended` with all of its `seen_token_ids` says that it will not go on, or others need the
room. What a tool says in a chat can end no turn (`Renderer.defused`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from posttrain.data.conversations import as_messages
from posttrain.data.loaded import Unusable
from posttrain.engine.local import LocalEngine
from posttrain.engine.stops import reached
from posttrain.policy.hf import Policy
from posttrain.renderer import Tools
from posttrain.serve.asked import Asked, Refused, asked, flag, number, prompts, refusal, token_ids
from posttrain.serve.replies import Writer, calls_json, event, usage
from posttrain.serve.speech import Speech
from posttrain.types import Completion, Message, UserError

CLIENT_GONE = 499
"""The status, by custom, of an answer that nobody waits for."""
FEW_TOKENS = 16
"""How many `/v1/completions` writes where it is not told, as OpenAI's does."""


@dataclass
class Served:
    """One model, open to requests."""

    policy: Policy
    name: str
    max_rows: int = 256
    """Completions written at once."""
    created: int = field(default_factory=lambda: int(time.time()))
    _ids: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def __post_init__(self) -> None:
        self.engine = LocalEngine(self.policy, self.max_rows)

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/health", self.health), Route("/v1/models", self.models), Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]), Route("/v1/conversations/ended", self.ended, methods=["POST"]),
        ]  # fmt: skip
        handlers = {Refused: _refused, UserError: _refused, HTTPException: _no_such_place, ValueError: _broken}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        card = {
            "id": self.name, "object": "model", "created": self.created, "owned_by": "posttrain", "max_model_len": self.policy.max_context,
            "logprobs_mode": "processed_logprobs",
        }  # fmt: skip
        return JSONResponse({"object": "list", "data": [card]})

    # ------------------------------------------------------------------------------------------------------ completions

    async def completions(self, request: Request) -> Response:
        """`/v1/completions`: texts or token ids go on."""
        body = await self._body(request)
        echo, limit = flag(body, "echo"), number(body, "max_tokens", int, FEW_TOKENS, 0)
        if limit == 0 and not echo:
            raise Refused("max_tokens must be at least 1", "max_tokens")
        wishes = asked(body, max(1, limit), self.max_rows, number(body, "logprobs", int, None, 0, 20))
        given = prompts(body.get("prompt"), self.policy.renderer.encode, self.policy.head.size)
        begun = number(body, "begun", int, 0, 0, min(map(len, given)) if len(given) == 1 else 0)
        head = self._head("cmpl", "text_completion")
        writer = Writer(self.policy, wishes)
        if wishes.stream:
            if echo or len(given) > 1 or wishes.top:
                raise Refused("a stream takes one prompt, without echo, and logprobs of 0", "stream")
            return self._stream(head, given[0], begun, writer, _text_delta, None)
        found = await _unless_gone(request, self._all(given, begun, wishes, limit))
        if found is None:
            return Response(status_code=CLIENT_GONE)
        choices = [writer.text_choice(c, i, echo, limit) for i, c in enumerate(found)]
        counted = found if limit else [replace(c, token_ids=()) for c in found]
        return JSONResponse({**head, "choices": choices, "usage": usage(counted, len(given))})

    async def _all(self, given: Sequence[tuple[int, ...]], begun: int, wishes: Asked, limit: int) -> list[Completion]:
        """The completions of all prompts, one prompt's after the other's; without a limit to write up to, the prompts alone."""
        if not limit:
            return [Completion(prompt, (), (), "length", wishes.sampling) for prompt in given for _ in range(wishes.n)]
        groups = await asyncio.gather(*(self._sample(prompt, begun, wishes) for prompt in given))
        return [completion for group in groups for completion in group]

    # ------------------------------------------------------------------------------------------------------------- chat

    async def chat(self, request: Request) -> Response:
        """`/v1/chat/completions`: the next turn of a conversation."""
        body = await self._body(request)
        limit = number(body, "max_completion_tokens", int, number(body, "max_tokens", int, self.policy.max_context, 1), 1)
        top = number(body, "top_logprobs", int, 0, 0, 20) if flag(body, "logprobs") else None
        wishes = asked(body, limit, self.max_rows, top)
        tools, messages = _tools(body), self.policy.renderer.harmless(_messages(body))
        prompt, begun = self._conversation(body, messages, tools)
        writer = Writer(self.policy, wishes, tools, sum(m.role == "assistant" for m in messages))
        if wishes.stream:
            if wishes.top:
                raise Refused("a stream takes top_logprobs of 0", "stream")
            return self._stream(self._head("chatcmpl", "chat.completion.chunk"), prompt, begun, writer, _chat_delta, bool(tools))
        found = await _unless_gone(request, self._sample(prompt, begun, wishes))
        if found is None:
            return Response(status_code=CLIENT_GONE)
        tokens = {"prompt_token_ids": prompt} if wishes.token_ids else {}
        choices = [writer.chat_choice(c, i) for i, c in enumerate(found)]
        return JSONResponse({**self._head("chatcmpl", "chat.completion"), "choices": choices, "usage": usage(found), **tokens})

    async def ended(self, request: Request) -> Response:
        """`/v1/conversations/ended`: what was remembered of the conversation that has come to `seen_token_ids` is forgotten."""
        seen = token_ids((await self._body(request)).get("seen_token_ids"), "seen_token_ids", self.policy.head.size)
        await self.engine.forget((), seen)
        return JSONResponse({"object": "conversation.ended"})

    def _conversation(self, body: Mapping[str, Any], messages: Sequence[Message], tools: Tools) -> tuple[tuple[int, ...], int]:
        """What is read before the next turn, and how many of its tokens began a conversation that is to be remembered; 0 for none."""
        renderer = self.policy.renderer
        if tools:
            renderer.read((), tools)  # says at once where calls cannot be read
        if body.get("seen_token_ids") is None:
            return renderer.prompt(messages, tools), 0
        seen = token_ids(body["seen_token_ids"], "seen_token_ids", self.policy.head.size)
        if not seen:
            return (prompt := renderer.prompt(messages, tools)), len(prompt)
        begun = number(body, "begun", int, 0, 0, len(seen))
        at = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=None)
        if at is None:
            raise Refused("seen_token_ids need an assistant's message that they end with", "seen_token_ids")
        prompt = renderer.prompt_after(seen, messages[:at], messages[at], messages[at + 1 :], tools)
        return prompt, begun if prompt[: len(seen)] == seen else len(prompt)

    # -------------------------------------------------------------------------------------------------------- streaming

    def _stream(self, head: dict[str, Any], prompt: tuple[int, ...], begun: int, writer: Writer, delta: Callable, whole: bool | None) -> Response:
        """Server-sent events, a chunk for each token or as soon as it makes text.

        `whole`: in a chat, whether tools may be called, so that words wait for the end; None is no chat.
        """
        self._check(prompt)
        return Stream(self._events(head, prompt, begun, writer, delta, whole))

    async def _events(
        self, head: dict[str, Any], prompt: tuple[int, ...], begun: int, writer: Writer, delta: Callable, whole: bool | None
    ) -> AsyncGenerator[str, None]:
        wishes, drawn = writer.asked, asyncio.Queue()
        speeches = [Speech(self.policy.renderer.decode, wishes.stop_texts, writer.unspoken) for _ in range(wishes.n)]
        work = asyncio.create_task(self._sample(prompt, begun, wishes, lambda *token: drawn.put_nowait(token)))
        work.add_done_callback(lambda _: drawn.put_nowait(None))
        choice = lambda i, **more: event({**head, "choices": [{"index": i, "finish_reason": None, **more}]})  # noqa: E731
        try:
            if whole is not None:
                for i in range(wishes.n):
                    yield choice(i, delta={"role": "assistant", "content": ""})
            while (token := await drawn.get()) is not None:
                i, token_id, logprob = token
                text = speeches[i].add(token_id)
                if not whole and (text or wishes.token_ids or wishes.top is not None):
                    yield choice(i, **delta(writer, text, token_id, logprob))
            for i, completion in enumerate(work.result()):
                yield choice(i, **self._last(completion, speeches[i].end(), writer, delta, whole))
            if wishes.usage:
                yield event({**head, "choices": [], "usage": usage(work.result())})
            yield event("[DONE]")
        finally:  # the client may have hung up
            work.cancel()

    def _last(self, completion: Completion, rest: str, writer: Writer, delta: Callable, whole: bool | None) -> dict[str, Any]:
        """The last chunk of a choice: what was held back, and why it ended."""
        if not whole:
            return {**delta(writer, rest), "finish_reason": writer.reason(completion)}
        message = writer.message(completion)
        calls = [{"index": place, **call} for place, call in enumerate(calls_json(message).get("tool_calls", ()))]
        said = {"content": message.content, **({"tool_calls": calls} if calls else {})}
        tokens = {"token_ids": completion.token_ids} if writer.asked.token_ids else {}
        logprobs = {"logprobs": writer.chat_logprobs(completion)} if writer.asked.top is not None else {}
        return {"delta": said, "finish_reason": "tool_calls" if calls else writer.reason(completion), **tokens, **logprobs}

    # ------------------------------------------------------------------------------------------------------------ parts

    async def _sample(
        self, prompt: tuple[int, ...], begun: int, wishes: Asked, told: Callable[[int, int, float], None] | None = None
    ) -> list[Completion]:
        """From the engine; a stop text ends a completion with the token that completes it."""
        self._check(prompt)
        own = () if wishes.ignores_end else self.policy.renderer.stop_token_ids
        decode = self.policy.renderer.decode

        def watch(sample: int, tokens: Sequence[int], logprobs: Sequence[float]) -> bool:
            if told is not None:
                told(sample, tokens[-1], logprobs[-1])
            return reached(tokens, wishes.stop_texts, decode)

        return await self.engine.sample(
            prompt, wishes.n, wishes.sampling, (*own, *wishes.stop_token_ids), begun, watch if told or wishes.stop_texts else None
        )  # fmt: skip

    def _check(self, prompt: Sequence[int]) -> None:
        """What the engine would refuse, before a stream begins."""
        if not 0 < len(prompt) < self.policy.max_context:
            sizes = f"the prompt has {len(prompt)} tokens and the model's context holds {self.policy.max_context}"
            raise Refused(sizes, "prompt", code="context_length_exceeded")

    async def _body(self, request: Request) -> Mapping[str, Any]:
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, Mapping):
            raise Refused("the body is not a JSON object")
        if body.get("model") not in (None, "", self.name):
            raise Refused(f"there is no model '{body['model']}' here, only '{self.name}'", "model", 404, "model_not_found")
        return body

    def _head(self, kind: str, name: str) -> dict[str, Any]:
        return {"id": f"{kind}-{self.created}-{self._ids()}", "object": name, "created": int(time.time()), "model": self.name}


class Stream(Response):
    """Server-sent events, given up with the first one after the client has hung up.

    Starlette's own cancels whoever writes; a writer that finds a new token every time it waits is never caught waiting.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self.events:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self.events.aclose()


def _text_delta(writer: Writer, text: str, token: int | None = None, logprob: float = 0.0) -> dict[str, Any]:
    entry = writer.entry(token, logprob) if token is not None else {}
    logprobs = {"tokens": [entry["token"]], "token_logprobs": [logprob], "top_logprobs": None, "text_offset": []} if entry else None
    return {"text": text, **_exact(writer, token), **({"logprobs": logprobs} if writer.asked.top is not None else {})}


def _chat_delta(writer: Writer, text: str, token: int | None = None, logprob: float = 0.0) -> dict[str, Any]:
    content = [{**writer.entry(token, logprob), "top_logprobs": []}] if token is not None else []
    return {"delta": {"content": text}, **_exact(writer, token), **({"logprobs": {"content": content}} if writer.asked.top is not None else {})}


def _exact(writer: Writer, token: int | None) -> dict[str, Any]:
    return {"token_ids": [] if token is None else [token]} if writer.asked.token_ids else {}


def _messages(body: Mapping[str, Any]) -> tuple:
    if not isinstance(body.get("messages"), list):
        raise Refused("messages must be a list of messages", "messages")
    try:
        return as_messages(body["messages"], "user")
    except Unusable as error:
        raise Refused(f"the conversation {error}", "messages") from None


def _tools(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping) for tool in tools):
        raise Refused("tools must be a list of functions with their schemas", "tools")
    return () if body.get("tool_choice") == "none" else tuple(tools)


async def _unless_gone(request: Request, work: Awaitable[list[Completion]]) -> list[Completion] | None:
    """The result, or None where the client hangs up first: the work is then given up."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        task.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused | UserError)
    status, body = refusal(error)
    return JSONResponse(body, status)


async def _no_such_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """What the model or this server gets wrong: the next request may do better."""
    return JSONResponse({"error": {"message": f"{type(error).__name__}: {error}", "type": "server_error"}}, 500)
