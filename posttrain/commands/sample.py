"""`posttrain sample`: completions of a prompt, token by token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from posttrain.commands.base import DONE, Dtype, positional


@dataclass(frozen=True)
class Args:
    """Print completions of a prompt, with the log-probability of every token (nats)."""

    prompt: Annotated[str, positional()]
    """What the user says."""
    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
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
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.policy.models import resolve
    from posttrain.types import Message, Sampling

    policy = load_policy(args.model, args.dtype)
    renderer = policy.renderer
    system = (Message("system", args.system),) if args.system else ()
    prompt = renderer.prompt((*system, Message("user", args.prompt)))
    sampling = Sampling(args.temperature, args.max_tokens, args.top_k, args.top_p, args.min_p, args.seed)
    completions = await LocalEngine(policy).sample(prompt, args.n, sampling, renderer.stop_token_ids)
    texts = [renderer.parse(c.token_ids).content for c in completions]
    if args.json:
        rows = [
            {"text": text, "prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "logprobs": c.sampling_logprobs, "stop_reason": c.stop_reason}
            for text, c in zip(texts, completions, strict=True)
        ]  # fmt: skip
        print(json.dumps({"model_path": str(resolve(args.model)), "completions": rows}))
        return DONE
    for number, (text, c) in enumerate(zip(texts, completions, strict=True), 1):
        total = sum(c.sampling_logprobs)
        end = "ended its turn" if c.stop_reason == "stop" else "cut off by the limit"
        print(f"── {number} · {len(c.token_ids)} tokens · {end} · log-prob {total:.2f} nats ({total / len(c.token_ids):.2f} a token)")
        print(text)
        pieces = (f"{piece!r} {logprob:.2f}" for piece, logprob in zip(renderer.pieces(c.token_ids), c.sampling_logprobs, strict=True))
        print("   " + "  ".join(pieces) + "\n")
    return DONE
