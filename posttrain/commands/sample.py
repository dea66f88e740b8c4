"""`posttrain sample`: completions of a prompt, token by token."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

from posttrain.commands.base import DONE, FAILED, Dtype, positional


@dataclass(frozen=True)
class Args:
    """Print completions of a prompt, with the log-probability of every token (nats)."""

    prompt: Annotated[str, positional()]
    """What the user says."""
    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file, a hub id, or a server: openai:http://HOST:PORT/v1#NAME."""
    n: int = 1
    """How many completions."""
    max_tokens: int = 128
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """0 takes the most likely token each time; log-probs are then those at temperature 1."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most likely tokens up to this mass; 1 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the most likely one."""
    seed: int = 0
    """The same seed gives the same completions."""
    system: str = ""
    """A system message before the prompt."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Sample, and print."""
    from posttrain.commands.models import model_path
    from posttrain.engine.endpoint import Unavailable
    from posttrain.types import Message, Sampling

    system = (Message("system", args.system),) if args.system else ()
    sampling = Sampling(args.temperature, args.max_tokens, args.top_k, args.top_p, args.min_p, args.seed)
    try:
        said, pieces = await _said(args, (*system, Message("user", args.prompt)), sampling)
    except Unavailable as error:
        print(f"posttrain: {error}", file=sys.stderr)
        return FAILED
    if args.json:
        print(json.dumps({"model_path": model_path(args.model), "completions": [_row(reply) for reply in said]}))
        return DONE
    for number, reply in enumerate(said, 1):
        _show(number, reply, pieces)
    return DONE


async def _said(args: Args, messages, sampling):
    """What the model said, each time, and what shows its tokens one by one (nothing, where there is no tokenizer)."""
    from posttrain.agents.chat import Reply, replies
    from posttrain.commands.models import endpoint_for, engine_for

    if (endpoint := endpoint_for(args.model)) is not None:
        return await replies(endpoint, messages, args.n, sampling), None
    _, engine, renderer = engine_for(args.model, args.dtype)
    completions = await engine.sample(renderer.prompt(messages), args.n, sampling, renderer.stop_token_ids)
    return [Reply(renderer.parse(c.token_ids), c.stop_reason, c) for c in completions], renderer.pieces


def _row(reply) -> dict:
    """A completion as JSON. Of a server that does not tell its tokens there are their numbers."""
    c = reply.completion
    if c is None:
        return {"text": reply.message.content, "usage": reply.usage and asdict(reply.usage), "stop_reason": reply.ended}
    exact = {"prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "logprobs": c.sampling_logprobs}
    return {"text": reply.message.content, **exact, "stop_reason": reply.ended}


def _show(number: int, reply, pieces) -> None:
    """A completion for a person."""
    c, end = reply.completion, "ended its turn" if reply.ended == "stop" else "cut off by the limit"
    if c is None:
        counted = f"{reply.usage.completion_tokens} tokens, as the server counts" if reply.usage else "tokens unknown"
        print(f"── {number} · {counted} · {end}\n{reply.message.content}\n")
        return
    total = sum(c.sampling_logprobs)
    print(f"── {number} · {len(c.token_ids)} tokens · {end} · log-prob {total:.2f} nats ({total / len(c.token_ids):.2f} a token)")
    print(reply.message.content)
    texts = pieces(c.token_ids) if pieces else map(str, c.token_ids)
    print("   " + "  ".join(f"{text!r} {logprob:.2f}" for text, logprob in zip(texts, c.sampling_logprobs, strict=True)) + "\n")
