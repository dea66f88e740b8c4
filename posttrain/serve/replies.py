"""Completions as OpenAI's clients read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from posttrain.agents.chat import call_json
from posttrain.batching import TokenSequence
from posttrain.engine.stops import cut, reached
from posttrain.policy.hf import Policy
from posttrain.policy.likeliest import likeliest
from posttrain.renderer import Tools
from posttrain.serve.asked import Asked
from posttrain.types import Completion, Message

Top = Sequence[Mapping[int, float]]
"""At each place, the likeliest tokens with their log-probs."""


@dataclass(frozen=True)
class Writer:
    """Writes the answers of one model to requests of one kind of wishes."""

    policy: Policy
    asked: Asked
    tools: Tools = ()
    """What may be called; without any, calls are words."""
    step: int = 0
    """How many turns of the assistant have gone before: calls without a name of their own are called by it, and by their place."""

    def reason(self, completion: Completion) -> str:
        """Why it ended: `stop` for its end of turn and for a stop text."""
        at_stop = reached(completion.token_ids, self.asked.stop_texts, self.policy.renderer.decode)
        return "stop" if completion.stop_reason == "stop" or at_stop else "length"

    def text(self, token_ids: Sequence[int]) -> str:
        """The words, without ends of turns."""
        return cut(self.policy.renderer.decode([t for t in token_ids if t not in self.unspoken]), self.asked.stop_texts)

    @property
    def unspoken(self) -> tuple[int, ...]:
        """Tokens that end a completion, and are not said."""
        own = () if self.asked.ignores_end else self.policy.renderer.stop_token_ids
        return (*own, *self.asked.stop_token_ids)

    def tokens(self, completion: Completion) -> dict[str, Any]:
        """The exact tokens, if they are wanted."""
        return {"token_ids": completion.token_ids, "prompt_token_ids": completion.prompt_token_ids} if self.asked.token_ids else {}

    # ------------------------------------------------------------------------------------------------------ completions

    def text_choice(self, completion: Completion, index: int, echo: bool, asked_tokens: int) -> dict[str, Any]:
        """A choice of `/v1/completions`; with `echo` the prompt stands before it, with its log-probs. `asked_tokens` 0 leaves only that."""
        written, said = (completion.token_ids, completion.sampling_logprobs) if asked_tokens else ((), ())
        prompt = completion.prompt_token_ids if echo else ()
        logprobs = None
        if self.asked.top is not None:
            drawn = _sequence(completion.prompt_token_ids, written, completion.sampling.temperature)
            logprobs = self._text_logprobs(prompt, drawn, said, self.asked.top)
        text = (self.policy.renderer.decode(prompt) if echo else "") + self.text(written)
        reason = self.reason(completion) if asked_tokens else "length"
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason, **(self.tokens(completion) if asked_tokens else {})}

    def _text_logprobs(self, prompt: Sequence[int], drawn: TokenSequence | None, said: Sequence[float], k: int) -> dict[str, Any]:
        """Of the prompt's tokens (the first has none) and of those drawn, in OpenAI's older form."""
        ids: list[int] = [*prompt, *(drawn.tokens if drawn else ())]
        values: list[float | None] = []
        tops: list[Mapping[int, float] | None] = []
        if prompt:
            behind = _sequence(prompt[:1], prompt[1:], 1.0)
            read, shown = self._read(behind, k) if behind else ([], [])
            values, tops = [None, *read], [None, *shown]
        if drawn:
            values += said
            tops += self._read(drawn, k)[1] if k else [{}] * len(said)
        pieces = self.policy.renderer.pieces(ids)
        offsets = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
        shown_tops = [top if top is None else self._named(top) for top in tops] if k else None
        return {"tokens": pieces, "token_logprobs": values, "top_logprobs": shown_tops, "text_offset": offsets}

    def _named(self, top: Mapping[int, float]) -> dict[str, float]:
        """By the tokens' own texts; of two that look alike (parts of characters) the likelier stays."""
        named: dict[str, float] = {}
        for token, value in top.items():
            named.setdefault(self.policy.renderer.decode([token]), value)
        return named

    def _read(self, sequence: TokenSequence, k: int) -> tuple[list[float], Top]:
        """Log-probs of the tokens, and of the k likeliest at each place, over the full vocabulary at the sequence's temperature."""
        logprobs, top, ids = likeliest(self.policy, [sequence], max(1, k))
        return logprobs.tolist(), [dict(zip(row, values, strict=True)) for row, values in zip(ids.tolist(), top.tolist(), strict=True)]

    # ------------------------------------------------------------------------------------------------------------- chat

    def chat_choice(self, completion: Completion, index: int) -> dict[str, Any]:
        """A choice of `/v1/chat/completions`."""
        message = self.message(completion)
        reason = "tool_calls" if message.tool_calls else self.reason(completion)
        said = {"role": "assistant", "content": message.content, **calls_json(message)}
        return {
            "index": index, "message": said, "logprobs": self.chat_logprobs(completion), "finish_reason": reason,
            **({"token_ids": completion.token_ids} if self.asked.token_ids else {}),
        }  # fmt: skip

    def message(self, completion: Completion) -> Message:
        """What was said, as the renderer reads it; cut before a stop text."""
        message = self.policy.renderer.parse([t for t in completion.token_ids if t not in self.unspoken], self.tools)
        calls = tuple(replace(call, id=call.id or f"call{self.step:03d}{i:02d}") for i, call in enumerate(message.tool_calls))
        return Message("assistant", cut(message.content, self.asked.stop_texts), calls)

    def chat_logprobs(self, completion: Completion) -> dict[str, Any] | None:
        """One entry for each token drawn, if log-probs are wanted."""
        if self.asked.top is None:
            return None
        drawn = _sequence(completion.prompt_token_ids, completion.token_ids, completion.sampling.temperature)
        tops = self._read(drawn, self.asked.top)[1] if self.asked.top and drawn else [{}] * len(completion.token_ids)
        rows = zip(completion.token_ids, completion.sampling_logprobs, tops, strict=True)
        return {"content": [{**self.entry(t, x), "top_logprobs": [self.entry(*each) for each in top.items()]} for t, x, top in rows]}

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        piece = self.policy.renderer.decode([token])
        return {"token": piece, "logprob": logprob, "bytes": list(piece.encode())}


def calls_json(message: Message) -> dict[str, Any]:
    """The calls of a message, as a part of it; nothing where there are none."""
    return {"tool_calls": [call_json(call, i) for i, call in enumerate(message.tool_calls)]} if message.tool_calls else {}


def usage(completions: Sequence[Completion], n_prompts: int = 1) -> dict[str, int]:
    """Tokens read, a prompt once for all its completions, and written."""
    read = sum(len(c.prompt_token_ids) for c in completions[:: max(1, len(completions) // n_prompts)])
    written = sum(len(c.token_ids) for c in completions)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def event(body: Mapping[str, Any] | str) -> str:
    """A server-sent event."""
    return f"data: {body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)}\n\n"


def _sequence(prompt: Sequence[int], tokens: Sequence[int], temperature: float) -> TokenSequence | None:
    return TokenSequence(tuple(prompt), tuple(tokens), None, temperature or 1.0) if tokens else None
