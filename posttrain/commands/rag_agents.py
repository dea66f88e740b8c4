"""What `rag ask` and `rag eval` share: a reader over a model, and the three approaches over a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from posttrain.types import Agent, UserError

if TYPE_CHECKING:
    from posttrain.agents.rag import Reader
    from posttrain.policy.hf import Policy
    from posttrain.retrieval.passages import Passage, Retriever

Approach = Literal["rag", "long", "hybrid"]
Reranking = Literal["none", "cross", "likelihood"]
LIKELIHOOD_DEPTH = 10
"""So many passages a language model orders anew: it reads each of them whole, with the question."""


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


def reranked(retriever: Retriever, by: Reranking, cross_encoder_model: str, policy: Callable[[], Policy]) -> Retriever:
    """A retriever whose finds are ordered anew by a cross-encoder or by a language model, which is asked for only where it is needed."""
    from posttrain.retrieval.rerank import Reranked, cross_encoder, query_likelihood

    if by == "none":
        return retriever
    if by == "cross":
        if not cross_encoder_model:
            raise UserError("cross needs a cross-encoder: give its folder or its name on the hub as --cross-encoder, or leave it out")
        return Reranked(retriever, cross_encoder(cross_encoder_model))
    judge = policy()
    return Reranked(retriever, query_likelihood(judge.renderer.encode, judge.score_tokens, min(512, judge.max_context)), LIKELIHOOD_DEPTH)


def agent_for(approach: Approach, reader: Reader, retriever: Retriever | None, passages: Sequence[Passage], k: int) -> Agent:
    """One of the three approaches; `long` needs no retriever, `rag` no passages."""
    from posttrain.agents.rag import Hybrid, LongContext, Rag

    if approach == "long":
        return LongContext(reader, passages)
    rag = Rag(reader, retriever, k)
    return rag if approach == "rag" else Hybrid(rag, LongContext(reader, passages))
