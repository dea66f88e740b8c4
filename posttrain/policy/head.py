"""Log-probabilities of chosen tokens without ever holding predictions × vocabulary logits.

The last hidden states meet the output embedding in chunks of a fixed number of logits, whatever the vocabulary: a chunk
is computed, reduced to one log-prob and one entropy per prediction, and dropped; the backward pass computes it again.
All reductions are in fp32. Sampling (`engine/local.py`) takes its logits from the same `logits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = 1 << 24
"""Logits in memory at once: 64 MiB in fp32."""


@dataclass(frozen=True)
class Head:
    """The map from hidden states to logits: logits = cap(scale · (hidden Wᵀ + bias))."""

    weight: Tensor
    """Float[V, D], possibly with rows beyond the vocabulary (padding)."""
    bias: Tensor | None = None
    vocab_size: int | None = None
    """Rows from here on are padding that no token stands for: they get no probability. None: every row is a token."""
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32[N, V] for a few hidden states [N, D]."""
        weight, bias = self.weight[: self.vocab_size], None if self.bias is None else self.bias[: self.vocab_size]
        logits = F.linear(hidden, weight, bias).float()
        logits = logits if self.scale == 1.0 else logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def logprobs(self, hidden: Tensor, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """Log-prob (nats) of each target and entropy (nats) of its distribution: Float32[N] each, both differentiable.

        hidden [N, D], targets Long[N], temperatures Float[N] (> 0).
        """
        return _ChunkedLogprobs.apply(hidden, self.weight, self.bias, targets, temperatures, self)

    @property
    def chunk(self) -> int:
        """How many predictions are computed at once."""
        return max(1, CHUNK_LOGITS // (self.vocab_size or len(self.weight)))


class _ChunkedLogprobs(torch.autograd.Function):
    """d logp_y / d z = onehot(y) − p and d H / d z_j = −p_j (log p_j + H), pulled through temperature, cap and scale."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, temperatures, head: Head):
        ctx.head = head
        ctx.save_for_backward(hidden, weight, bias, targets, temperatures)
        logprobs, entropies = [], []
        for h, y, t in zip(*(x.split(head.chunk) for x in (hidden, targets, temperatures)), strict=True):
            logp = tempered_logprobs(head.logits(h), t)
            logprobs.append(logp.gather(1, y[:, None])[:, 0])
            entropies.append(entropy(logp))
        if not logprobs:
            return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
        return torch.cat(logprobs), torch.cat(entropies)

    @staticmethod
    def backward(ctx, grad_logprobs, grad_entropies):
        hidden, weight, bias, targets, temperatures = ctx.saved_tensors
        head, size = ctx.head, ctx.head.vocab_size or len(weight)
        needs_weight = ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros(len(weight), dtype=torch.float32) if bias is not None else None
        for start in range(0, len(hidden), head.chunk):
            at = slice(start, start + head.chunk)
            grad = _grad_logits(head, hidden[at], targets[at], temperatures[at], grad_logprobs[at], grad_entropies[at])
            grad_hidden[at] = grad @ weight[:size]
            if needs_weight:
                grad_weight[:size] += grad.T @ hidden[at]
            if bias is not None:
                grad_bias[:size] += grad.sum(0)
        cast = lambda g, like: None if g is None else g.to(like.dtype)  # noqa: E731
        return grad_hidden, cast(grad_weight, weight), cast(grad_bias, bias), None, None, None


def _grad_logits(head: Head, hidden: Tensor, targets: Tensor, temperatures: Tensor, grad_logp: Tensor, grad_entropy: Tensor) -> Tensor:
    """The gradient that reaches hidden Wᵀ + bias, [N, V], in the dtype of the hidden states."""
    logits = head.logits(hidden)
    logp = tempered_logprobs(logits, temperatures)
    if grad_entropy.any():
        from_entropy = grad_entropy[:, None] * logp.exp() * (logp + entropy(logp)[:, None])
        grad = (logp.exp_() * -grad_logp[:, None]).sub_(from_entropy)
    else:
        grad = logp.exp_().mul_(-grad_logp[:, None])
    grad.scatter_add_(1, targets[:, None], grad_logp[:, None])
    if (temperatures != 1).any():
        grad /= temperatures[:, None]
    if head.softcap is not None:
        grad *= 1 - (logits / head.softcap).square()
    return (grad if head.scale == 1.0 else grad * head.scale).to(hidden.dtype)


def tempered_logprobs(logits: Tensor, temperatures: Tensor) -> Tensor:
    """log softmax(logits / temperature) of each row, Float32[N, V]: the one place where temperature enters."""
    if (temperatures != 1).any():
        logits = logits / temperatures[:, None]
    return torch.log_softmax(logits, -1)


def entropy(logp: Tensor) -> Tensor:
    """Entropy in nats over the last axis of log-probs. A model's are finite: a probability is small, never 0."""
    return -logp.exp().mul_(logp).sum(-1)
