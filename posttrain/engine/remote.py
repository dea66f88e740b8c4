"""Samples tokens from a server that speaks OpenAI's protocol: prompts go out as token ids, and the ids it drew come back.

That is `/v1/completions` with a list of token ids as its prompt and `return_token_ids`, as vLLM offers it (0.10.2 and newer)
and `posttrain serve`. A server that knows only messages is asked by `agents/chat.py`.

Log-probs: a `Completion` holds those of the distribution that was drawn from. A server that does not say that it gives these
(vLLM gives those before temperature, top-k, top-p and min-p unless it was started otherwise) is believed only where both are
the same, at temperature 1 or 0 with nothing cut off; elsewhere they are nan, which is the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.engine.endpoint import Card, Endpoint, Unavailable
from posttrain.types import Completion, ContextFull, Sampling, StopReason, UserError


@dataclass(frozen=True)
class RemoteEngine:
    """An `Engine` over a server."""

    endpoint: Endpoint

    async def sample(
        self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = (), begun: int = 0
    ) -> list[Completion]:
        """`n` completions of one prompt, in the order of their sample index; what is drawn from a seed is the server's to say.

        Raises ContextFull where the prompt leaves no room in the model's context, UserError where the server gives no token ids,
        and Unavailable where it fails.
        """
        card, prompt, stops = await self.endpoint.card(), tuple(prompt_token_ids), frozenset(stop_token_ids)
        limit = sampling.max_tokens if card.max_context is None else min(sampling.max_tokens, card.max_context - len(prompt))
        if not prompt:
            raise UserError("the prompt is empty")
        if limit < 1:
            raise ContextFull(f"the prompt has {len(prompt)} tokens and the model's context holds {card.max_context}: shorten the prompt")
        found = await self.endpoint.post("completions", {
            "prompt": list(prompt), **sampling_body(sampling, n), "max_tokens": limit, "logprobs": 0, "return_token_ids": True,
            "stop_token_ids": sorted(stops), "ignore_eos": True, **({"begun": begun} if begun and card.remembers else {}),
        })  # fmt: skip
        choices = choices_of(found, n)
        return [self._completion(card, prompt, choice, sampling, sample, stops) for sample, choice in enumerate(choices)]

    async def forget(self, prompt_token_ids: Sequence[int], token_ids: Sequence[int]) -> None:
        """The conversation that ended with this completion will not go on."""
        await forgotten(self.endpoint, (*prompt_token_ids, *token_ids))

    def _completion(
        self, card: Card, prompt: tuple[int, ...], choice: Mapping[str, Any], sampling: Sampling, sample: int, stops: frozenset[int]
    ) -> Completion:
        if choice.get("prompt_token_ids") not in (None, list(prompt)):
            raise UserError(f"{self.endpoint.address.url} read other tokens than it was sent: ask it without tokenizer=")
        said = (choice.get("logprobs") or {}).get("token_logprobs")
        ids = choice.get("token_ids") or ()
        ended: StopReason = "stop" if ids and ids[-1] in stops else "length"
        return exact_completion(card, prompt, ids, said, ended, sampling, sample)


async def forgotten(endpoint: Endpoint, seen: Sequence[int]) -> None:
    """Tell a server of ours that the conversation of these tokens will not go on; others remember none."""
    if (await endpoint.card()).remembers:
        await endpoint.tell("conversations/ended", {"seen_token_ids": list(seen)})


def exact_completion(
    card: Card,
    prompt: Sequence[int],
    token_ids: Sequence[int],
    logprobs: Sequence[float | None] | None,
    ended: StopReason,
    sampling: Sampling,
    sample: int,
) -> Completion:
    """A completion of what a server gave. Raises UserError where it gave no ids, or not as many log-probs as ids."""
    if not token_ids or not prompt or logprobs is None or len(logprobs) != len(token_ids):
        raise UserError(f"the server gives no token ids with their log-probs for {card.model}: write its address without tokenizer=")
    if not (card.true_logprobs or (sampling.temperature in (0, 1) and not sampling.truncates)):
        logprobs = [math.nan] * len(token_ids)
    kept = tuple(math.nan if x is None else float(x) for x in logprobs)
    return Completion(tuple(prompt), tuple(token_ids), kept, ended, sampling, sample)


def sampling_body(sampling: Sampling, n: int) -> dict[str, Any]:
    """The settings of a request. What cuts the vocabulary is only said where it does: not every server knows it."""
    cuts = {"top_k": sampling.top_k, "top_p": sampling.top_p, "min_p": sampling.min_p}
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    said = {name: value for name, value in cuts.items() if value != off[name]}
    return {"n": n, "temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "seed": sampling.seed, **said}


def choices_of(found: Mapping[str, Any], n: int) -> list[Mapping[str, Any]]:
    """The `n` choices of an answer, by their index. Raises Unavailable where the answer has not got them."""
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != n or not all(isinstance(choice, Mapping) for choice in choices):
        raise Unavailable(f"the server was asked for {n} choices and gave {len(choices) if isinstance(choices, list) else 'none'}")
    return sorted(choices, key=lambda choice: choice.get("index", 0))
