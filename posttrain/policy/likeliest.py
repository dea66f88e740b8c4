"""Given tokens against the likeliest ones in their places: what multiple choice and servers are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack
from posttrain.policy.hf import SCORING_TOKENS, Policy

ROWS = 64
"""Predictions whose whole vocabulary is in memory at once."""


@torch.no_grad()
def likeliest(policy: Policy, sequences: Sequence[TokenSequence], k: int, max_tokens: int = SCORING_TOKENS) -> tuple[Tensor, Tensor, Tensor]:
    """Of every prediction of the sequences, in their order and at their temperatures: its log-prob in nats, Float32[N], and
    the log-probs and ids of the k likeliest tokens in its place, Float32[N, k] and Long[N, k], best first.

    A sequence may be one token longer than the model's context: the last one is predicted, and read by nobody. Raises
    ValueError for a longer one.
    """
    if any(len(s.prompt) + len(s.tokens) > policy.max_context + 1 for s in sequences):
        raise ValueError(f"a sequence is longer than the context of {policy.max_context} tokens and the one that follows")
    total, k = sum(s.n_predicted for s in sequences), min(k, policy.head.size)
    logprobs, top, ids = torch.empty(total), torch.empty(total, k), torch.empty(total, k, dtype=torch.long)
    for batch in pack(sequences, max_tokens):
        states = policy.states(replace(batch, position_ids=batch.position_ids.clamp(max=policy.max_context - 1)))
        for rows in torch.arange(len(states)).split(ROWS):
            found, index = policy.head.distribution(states[rows], batch.temperatures[rows])[0], batch.index[rows]
            logprobs[index] = found.gather(1, batch.targets[rows, None])[:, 0]
            top[index], ids[index] = found.topk(k)
    return logprobs, top, ids
