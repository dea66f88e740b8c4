"""Attempts by a model behind a server that takes messages (OpenAI's `/v1/chat/completions`).

A server that can be asked for the tokens it read and wrote (`posttrain serve`, vLLM) gives attempts as exact as the local
engine's. Of any other neither tokens nor log-probs are known: its attempts have no completions, and their number of tokens
is what the server counted (`Rollout.usage`). They can be scored, and not trained on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from posttrain.engine.endpoint import Card, Endpoint, Unavailable
from posttrain.engine.remote import choices_of, exact_completion, sampling_body
from posttrain.seeds import fold
from posttrain.types import Agent, Completion, Message, Outcome, Problem, Rollout, Sampling, StopReason, ToolCall, Usage

Tools = Sequence[Mapping[str, Any]]
ENDS: Mapping[str, StopReason] = {"stop": "stop", "tool_calls": "stop", "function_call": "stop", "length": "length"}


@dataclass(frozen=True)
class Reply:
    """What a server said to messages, once."""

    message: Message
    """With `tool_calls` where it asks for tools."""
    ended: StopReason
    completion: Completion | None = None
    """None where the server does not say which tokens it read and wrote."""
    usage: Usage | None = None


@dataclass(frozen=True)
class ChatAgent:
    """Attempts a problem with one turn of a server's model."""

    endpoint: Endpoint
    sampling: Sampling = Sampling()
    tools: tuple[Mapping[str, Any], ...] = ()
    """Descriptions in OpenAI's shape, which the model may then ask for."""

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts, in order; one whose request failed for good has the outcome `error`."""
        sampling = replace(self.sampling, seed=fold(seed, self.sampling.seed, problem.id))
        if (await self.endpoint.card()).gives_tokens:
            try:
                said = await replies(self.endpoint, problem.messages, n, sampling, self.tools)
            except Unavailable as error:
                return failed(problem, n, error)
            return [_rollout(problem, sample, reply) for sample, reply in enumerate(said)]
        return list(await asyncio.gather(*(self._alone(problem, sample, sampling) for sample in range(n))))

    async def _alone(self, problem: Problem, sample: int, sampling: Sampling) -> Rollout:
        """One attempt in a request of its own, which may fail alone."""
        try:
            (reply,) = await replies(self.endpoint, problem.messages, 1, replace(sampling, seed=fold(sampling.seed, sample)), self.tools)
        except Unavailable as error:
            return replace(failed(problem, 1, error)[0], sample=sample)
        return _rollout(problem, sample, reply)


@dataclass(frozen=True)
class Reported:
    """An agent whose server may fail: what it then would have attempted has the outcome `error`, and the measurement goes on."""

    agent: Agent
    sampling: Sampling = Sampling()

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        try:
            return await self.agent.attempt(problem, n, seed)
        except Unavailable as error:
            return failed(problem, n, error)


def failed(problem: Problem, n: int, error: Unavailable) -> list[Rollout]:
    """Attempts that the machinery failed at."""
    return [Rollout(problem, (), outcome="error", sample=sample, error=str(error)) for sample in range(n)]


async def replies(
    endpoint: Endpoint, messages: Sequence[Message], n: int, sampling: Sampling, tools: Tools = (), seen: Sequence[int] | None = None, begun: int = 0
) -> list[Reply]:
    """`n` answers to a conversation, in order. Raises Unavailable where the server fails, and UserError where it refuses.

    `seen`: the tokens up to the end of the assistant's last turn, of which the first `begun` were the prompt of the first turn, for
    servers that go on from them (`posttrain serve`); None where they are not known. Each is asked for on its own where the server does not tell its tokens: it counts those of a request, and may not know `n`.
    """
    card = await endpoint.card()
    if n > 1 and not card.gives_tokens:
        seeds = [fold(sampling.seed, sample) for sample in range(n)]
        alone = await asyncio.gather(*(replies(endpoint, messages, 1, replace(sampling, seed=seed), tools) for seed in seeds))
        return [reply for (reply,) in alone]
    wishes: dict[str, Any] = {"tools": [dict(tool) for tool in tools]} if tools else {}
    if card.gives_tokens:
        wishes |= {"logprobs": True, "return_token_ids": True}
    if card.remembers and seen is not None:
        wishes |= {"seen_token_ids": list(seen), "begun": begun}
    found = await endpoint.post("chat/completions", {
        "messages": [message_json(message) for message in messages], **sampling_body(sampling, n), **wishes,
    })  # fmt: skip
    return [_reply(card, found, choice, sampling, sample) for sample, choice in enumerate(choices_of(found, n))]


def message_json(message: Message) -> dict[str, Any]:
    """A message as OpenAI's protocol writes it: a call's arguments are JSON as text."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        found["tool_calls"] = [call_json(call, i) for i, call in enumerate(message.tool_calls)]
    if message.tool_call_id:
        found["tool_call_id"] = message.tool_call_id
    return found


def call_json(call: ToolCall, place: int) -> dict[str, Any]:
    """A call as OpenAI's protocol writes it; one without a name of its own is called by its place."""
    function = {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}
    return {"id": call.id or f"call_{place}", "type": "function", "function": function}


def _reply(card: Card, found: Mapping[str, Any], choice: Mapping[str, Any], sampling: Sampling, sample: int) -> Reply:
    """Raises Unavailable for a choice that was withheld (a filter of content, say) or is none."""
    said, reason = choice.get("message"), choice.get("finish_reason")
    if not isinstance(said, Mapping) or reason not in ENDS:
        raise Unavailable(f"the server gave no answer but the reason '{reason}'")
    if card.gives_tokens:
        logprobs = [row.get("logprob") for row in (choice.get("logprobs") or {}).get("content") or ()]
        prompt, ids = found.get("prompt_token_ids") or (), choice.get("token_ids") or ()
        return Reply(_message(said), ENDS[reason], exact_completion(card, prompt, ids, logprobs, ENDS[reason], sampling, sample))
    usage = found.get("usage")
    counted = Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0) if isinstance(usage, Mapping) else None
    return Reply(_message(said), ENDS[reason], usage=counted)


def _message(said: Mapping[str, Any]) -> Message:
    """What was said, with the calls that can be read; one whose arguments are no JSON object stays in the words."""
    content, calls = str(said.get("content") or ""), []
    thought = said.get("reasoning_content") or said.get("reasoning")
    for call in said.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = _object(function.get("arguments"))
        if arguments is None or not function.get("name"):
            content += f"<tool_call>\n{json.dumps(function, ensure_ascii=False)}\n</tool_call>"
        else:
            calls.append(ToolCall(function["name"], arguments, str(call.get("id") or "")))
    opened = f"<think>\n{str(thought).strip()}\n</think>\n\n" if thought else ""
    return Message("assistant", opened + content, tuple(calls))


def _object(arguments: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments
    except (ValueError, RecursionError):
        return None
    return dict(found) if isinstance(found, Mapping) else None


def _rollout(problem: Problem, sample: int, reply: Reply) -> Rollout:
    outcome: Outcome = "terminated" if reply.ended == "stop" else "truncated"
    completions = (reply.completion,) if reply.completion else ()
    return Rollout(problem, (reply.message,), completions, outcome, sample, usage=reply.usage)
