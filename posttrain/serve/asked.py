"""What a request asks for. Every setting that would change what is sampled is obeyed or refused, and never passed over."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.types import Sampling, UserError

WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (0,), "frequency_penalty": (0,), "repetition_penalty": (1,), "logit_bias": ({},), "suffix": ("",), "min_tokens": (0,),
    "use_beam_search": (False,), "response_format": ({"type": "text"},), "tool_choice": ("auto", "none"), "guided_json": (), "prompt_logprobs": (),
}  # fmt: skip
"""Settings that are not offered, each with the values that ask for nothing."""


class Refused(Exception):
    """A request that cannot be served: the sentence, the setting it is about, and the status of the answer."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True)
class Asked:
    """How to answer a prompt."""

    n: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    """Beside the model's own, unless `ignores_end`."""
    ignores_end: bool
    stop_texts: tuple[str, ...]
    """The answer ends before the first of them."""
    top: int | None
    """How many of the likeliest tokens to show at each place; None shows no log-probs at all."""
    token_ids: bool
    """Whether the exact tokens are wanted, read and written."""
    stream: bool
    usage: bool
    """Whether a stream ends with its usage."""


def asked(body: Mapping[str, Any], max_tokens: int, most: int, top: int | None) -> Asked:
    """The settings of a request. `max_tokens`: where it says nothing; `most`: completions of one prompt. Raises Refused."""
    for name, values in WITHOUT_EFFECT.items():
        if body.get(name) is not None and body[name] not in values:
            raise Refused(f"{name} is not supported here: leave it out", name)
    n = number(body, "n", int, 1, 1, most)
    if number(body, "best_of", int, n, 1, most) != n:
        raise Refused("best_of is not supported here: leave it out", "best_of")
    sampling = Sampling(
        number(body, "temperature", float, 1.0, 0, 100), max_tokens, max(0, number(body, "top_k", int, 0, -1)),
        number(body, "top_p", float, 1.0, 0, 1), number(body, "min_p", float, 0.0, 0, 1), number(body, "seed", int, secrets.randbits(63)),
    )  # fmt: skip
    ids = body.get("stop_token_ids") or []
    if not isinstance(ids, list) or not all(_is_whole(i) for i in ids):
        raise Refused("stop_token_ids must be a list of token ids", "stop_token_ids")
    options = body.get("stream_options") or {}
    return Asked(
        n, sampling, tuple(ids), flag(body, "ignore_eos"), _stop_texts(body), top, flag(body, "return_token_ids"), flag(body, "stream"),
        isinstance(options, Mapping) and options.get("include_usage") is True,
    )  # fmt: skip


def number(body: Mapping[str, Any], name: str, kind: type, default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A setting that is a number, within its bounds; the default where it is not there, or null."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not _is_whole(value)):
        raise Refused(f"{name} must be a {'whole ' if kind is int else ''}number, got {value!r}", name)
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise Refused(f"{name} must be {f'at least {low}' if high is None else f'between {low} and {high}'}, got {value!r}", name)
    return kind(value)


def flag(body: Mapping[str, Any], name: str) -> bool:
    """A setting that is true or false; false where it is not there."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{name} must be true or false, got {value!r}", name)
    return bool(value)


def prompts(value: Any, encode: Any, vocab_size: int) -> list[tuple[int, ...]]:
    """The prompts of a completion: a text, token ids, or a list of either. Raises Refused for what is none, and for ids that are no tokens."""
    several = value if isinstance(value, list) and value and all(isinstance(each, str | list) for each in value) else [value]
    return [_prompt(each, encode, vocab_size) for each in several]


def _prompt(value: Any, encode: Any, vocab_size: int) -> tuple[int, ...]:
    if isinstance(value, str):
        return tuple(encode(value))
    if not isinstance(value, list) or not value or not all(_is_whole(i) for i in value):
        raise Refused("prompt must be a text, a list of token ids, or a list of these", "prompt")
    return token_ids(value, "prompt", vocab_size)


def token_ids(value: Any, name: str, vocab_size: int) -> tuple[int, ...]:
    """A list of tokens of the model. Raises Refused for anything else."""
    if not isinstance(value, list) or not all(_is_whole(i) for i in value):
        raise Refused(f"{name} must be a list of token ids", name)
    wrong = next((i for i in value if not 0 <= i < vocab_size), None)
    if wrong is not None:
        raise Refused(f"there is no token {wrong}: this model has those from 0 to {vocab_size - 1}", name)
    return tuple(map(int, value))


def _stop_texts(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    texts = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Refused("stop must be a text or a list of texts", "stop")
    return tuple(texts)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def refusal(error: Refused | UserError) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to what cannot be served, as OpenAI's clients read it."""
    status, param, code = (error.status, error.param, error.code) if isinstance(error, Refused) else (400, None, None)
    return status, {"error": {"message": str(error), "type": "invalid_request_error", "param": param, "code": code}}
