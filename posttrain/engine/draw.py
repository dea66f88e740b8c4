"""One token from each row of log-probabilities: one uniform number and an inverse CDF, no noise of vocabulary size."""

from __future__ import annotations

import torch
from torch import Tensor

from posttrain.policy.head import BLOCK, row_sums
from posttrain.types import Sampling


def draw(logprobs_RV: Tensor, uniforms_R: Tensor, masses_RB: Tensor | None = None, size: int = BLOCK) -> Tensor:
    """Long[R]: in each row the first token whose cumulative probability exceeds uniform × total mass.

    The draw falls into a block of `size` tokens first, and then onto a token of it. `masses_RB` are the blocks' probabilities
    where they are known (`Head.distribution`). A row's result depends on that row alone. Tokens of probability 0 are never drawn.
    Raises ValueError for a row of nan.
    """
    edges_RB = (block_masses(logprobs_RV, size) if masses_RB is None else masses_RB).double().cumsum(-1)
    if not edges_RB[:, -1].isfinite().all():
        raise ValueError("the model's log-probs are not numbers: its weights are damaged, or have diverged")
    target_R1 = (uniforms_R.double() * edges_RB[:, -1])[:, None]
    block_R1 = torch.searchsorted(edges_RB, target_R1, right=True).clamp_max_(edges_RB.shape[1] - 1)
    before_R1 = edges_RB.gather(1, (block_R1 - 1).clamp_min(0)).masked_fill_(block_R1 == 0, 0.0)
    tokens = block_R1 * size + torch.arange(size)
    inside = logprobs_RV.gather(1, tokens.clamp_max(logprobs_RV.shape[1] - 1)).double().exp().masked_fill_(tokens >= logprobs_RV.shape[1], 0.0)
    place = torch.searchsorted(inside.cumsum(-1), target_R1 - before_R1, right=True)
    last = size - 1 - (inside > 0).flip(-1).to(torch.uint8).argmax(-1, keepdim=True)  # rounding may point past the block's mass
    return (block_R1 * size + torch.minimum(place, last))[:, 0]


def block_masses(logprobs_RV: Tensor, size: int = BLOCK) -> Tensor:
    """Float32[R, blocks]: what the probabilities in each block of `size` tokens add up to."""
    return torch.stack([row_sums(block.exp()) for block in logprobs_RV.split(size, -1)], -1)


def keep_likely(logprobs_RV: Tensor, sampling: Sampling) -> Tensor:
    """The log-probs over the tokens that top-k, top-p and min-p leave (in this order), renormalised; −inf elsewhere.

    Ties at a boundary: top-k keeps the lower ids; min-p keeps all. The most likely token always stays.
    """
    ordered, ids = logprobs_RV.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if sampling.top_k:
        keep[:, sampling.top_k :] = False
    if sampling.top_p < 1:
        probs = ordered.masked_fill(~keep, -torch.inf).softmax(-1)
        keep &= probs.cumsum(-1) - probs < sampling.top_p
    if sampling.min_p:
        keep &= ordered >= ordered[:, :1] + torch.tensor(sampling.min_p).log()
    keep[:, 0] = True
    kept = torch.zeros_like(keep).scatter(1, ids, keep)
    return logprobs_RV.masked_fill(~kept, -torch.inf).log_softmax(-1)
