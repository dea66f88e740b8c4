"""One token from each row of log-probabilities: one uniform number and an inverse CDF, no noise of vocabulary size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posttrain.types import Sampling

BLOCK = 256
"""The cumulative sum is taken over blocks first, then inside the block that the draw falls into."""


def draw(logprobs_RV: Tensor, uniforms_R: Tensor) -> Tensor:
    """Long[R]: in each row the first token whose cumulative probability exceeds uniform × total mass.

    A row's result depends on that row alone. Tokens of probability 0 are never drawn. Raises ValueError for a row of nan.
    """
    size = logprobs_RV.shape[-1]
    probs = F.pad(logprobs_RV.exp(), (0, -size % BLOCK)).unflatten(-1, (-1, BLOCK))
    blocks = probs.sum(-1, dtype=torch.float64).cumsum(-1)
    if not blocks[:, -1].isfinite().all():
        raise ValueError("the model's log-probs are not numbers: its weights are damaged, or have diverged")
    target = uniforms_R.double() * blocks[:, -1]
    block = torch.searchsorted(blocks, target[:, None], right=True).clamp_max_(blocks.shape[1] - 1)
    before = blocks.gather(1, (block - 1).clamp_min(0)).masked_fill_(block == 0, 0.0)
    inside = probs.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0]
    place = torch.searchsorted(inside.double().cumsum(-1), target[:, None] - before, right=True)
    last = BLOCK - 1 - (inside > 0).flip(-1).to(torch.uint8).argmax(-1, keepdim=True)  # rounding may point past the block's mass
    return (block * BLOCK + torch.minimum(place, last))[:, 0]


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
