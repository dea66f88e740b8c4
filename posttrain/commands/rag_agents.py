"""What `rag ask` and `rag eval` share: a reader over a model, and the three approaches over a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from posttrain.types import Agent, UserError

if TYPE_CHECKING:
    from posttrain.agents.rag import Reader
    from posttrain.retrieval.passages import Passage, Retriever

Approach = Literal["rag", "long", "hybrid"]


def reader_for(model: str, args, corpus_sha256: str, checks: bool) -> Reader:
    """A model that reads sources; `args` has context, max_tokens, temperature and dtype."""
    from posttrain.agents.rag import Reader
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.types import Sampling

    policy = load_policy(model, args.dtype)
    if args.context > policy.max_context:
        raise UserError(f"--context {args.context} is more than the {policy.max_context} tokens that '{model}' holds: give less, or leave it out")
    sampling = Sampling(args.temperature, args.max_tokens)
    return Reader(LocalEngine(policy), policy.renderer, args.context or policy.max_context, sampling, checks=checks, corpus_sha256=corpus_sha256)


def agent_for(approach: Approach, reader: Reader, retriever: Retriever | None, passages: Sequence[Passage], k: int) -> Agent:
    """One of the three approaches; `long` needs no retriever, `rag` no passages."""
    from posttrain.agents.rag import Hybrid, LongContext, Rag

    if approach == "long":
        return LongContext(reader, passages)
    rag = Rag(reader, retriever, k)
    return rag if approach == "rag" else Hybrid(rag, LongContext(reader, passages))
