"""Weighted maximum likelihood: the step that SFT, rejection sampling, reward-weighted regression and sequence-level distillation share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from posttrain.batching import TokenSequence, pack
from posttrain.losses.reduction import Reduction, token_weights
from posttrain.policy.hf import Policy
from posttrain.policy.optim import Optimizer


def likelihood_step(
    policy: Policy, optimizer: Optimizer, sequences: Sequence[TokenSequence], tokens_per_batch: int,
    reduction: Reduction = "token", weights: Sequence[float] | None = None, max_tokens: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """One optimizer step on −Σ weight · log-prob over all marked tokens, reduced over the whole step and not row by row.

    `weights`: one for each sequence (None: all 1); they multiply, and do not enter the normaliser. Sequences without a
    marked token are passed over; where none is left nothing is done, and the metrics are empty. Returns the loss, the
    unweighted negative log-likelihood and the entropy (nats per token), the gradient's norm, and how many tokens were
    trained on and read.
    """
    lengths = [s.n_predicted for s in sequences]
    n = sum(lengths)
    if not n:
        return {}
    per_token = torch.tensor(token_weights(lengths, reduction, max_tokens)).repeat_interleave(torch.tensor(lengths))
    if weights is not None:
        per_token = per_token * torch.tensor(list(weights)).repeat_interleave(torch.tensor(lengths))
    nll = entropy = loss_sum = 0.0
    for batch in pack(sequences, tokens_per_batch):
        logprobs, entropies = policy.logprobs_and_entropies(batch)
        loss = -(logprobs * per_token[batch.index].to(logprobs.dtype)).sum()
        loss.backward()
        loss_sum += loss.item()
        nll -= logprobs.detach().sum().item()
        entropy += entropies.detach().sum().item()
    norm = optimizer.step()
    policy.version += 1
    return {
        "loss/weighted": loss_sum, "loss/nll_nats": nll / n, "policy/entropy_nats": entropy / n, "policy/grad_norm": norm,
        "policy/learning_rate": optimizer.learning_rate, "data/trained_tokens": n,
        "data/tokens": sum(len(s.tokens) for s in sequences) + prompt_tokens(sequences),
    }  # fmt: skip


def prompt_tokens(sequences: Sequence[TokenSequence]) -> int:
    """Tokens of the prompts, each counted once where neighbours share it."""
    prompts = [s.prompt for s in sequences]
    return sum(len(p) for i, p in enumerate(prompts) if i == 0 or prompts[i - 1] != p)
