"""Log-probabilities of chosen tokens without ever holding predictions × vocabulary logits.

The last hidden states meet the output embedding one block of the vocabulary after the other. A block's logits are reduced
to a running log-sum-exp (online softmax, arXiv 1805.02867) and to the logits of the chosen tokens, and dropped; the
backward pass computes them again, and with them a block's own rows of the embedding's gradient, once for all predictions.
A block stays in the processor's cache, which matters as much as the memory. All reductions are in fp32.

Sampling (`engine/local.py`) takes its logits and their normaliser from the same blocks: what it says of a token is what
training says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from posttrain.policy.products import multiply

BLOCK = 2048
"""A block of 1,000 predictions is 8 MB in fp32: larger ones leave the cache, smaller ones make more calls."""
SUMMANDS = 64
"""A block's rows are added up in two steps, so that the order of a row's sum does not depend on the number of rows or threads."""


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
    block: int = BLOCK
    """Tokens of the vocabulary whose logits are in memory at once."""
    laid_out: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    """Blocks of the weight, by start and stop, as `policy/products.py` lays them out: for sampling."""

    @property
    def size(self) -> int:
        """Tokens that can be predicted."""
        return len(self.weight) if self.vocab_size is None else self.vocab_size

    @property
    def blocks(self) -> list[slice]:
        """The vocabulary, cut."""
        return [slice(start, min(start + self.block, self.size)) for start in range(0, self.size, self.block)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32[N, V] for a few hidden states [N, D]; differentiable."""
        return self.block_logits(hidden, slice(0, self.size))

    def block_logits(self, hidden: Tensor, block: slice) -> Tensor:
        """Float32[N, tokens of the block]."""
        return self._shaped(self._product(hidden, block).float())

    def _shaped(self, products: Tensor) -> Tensor:
        """The logits of products in fp32, scaled and capped; the products themselves where there is nothing to do."""
        logits = products if self.scale == 1.0 else products * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def _product(self, hidden: Tensor, block: slice) -> Tensor:
        bias = None if self.bias is None else self.bias[block]
        laid_out = self.laid_out.get((block.start, block.stop))
        if len(hidden) == 1:  # twice, as in `Trunk.hidden`
            return self._product(hidden.expand(2, -1), block)[:1]
        return F.linear(hidden, self.weight[block], bias) if laid_out is None else multiply(hidden, laid_out, bias)

    def logprobs(self, hidden: Tensor, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """Log-prob (nats) of each target and entropy (nats) of its distribution: Float32[N] each, both differentiable.

        hidden [N, D], targets Long[N], temperatures Float[N] (> 0).
        """
        return _BlockedLogprobs.apply(hidden, self.weight, self.bias, targets, temperatures, self)

    @torch.no_grad()
    def log_z(self, hidden: Tensor, tempered: Temperatures) -> Tensor:
        """The log of the softmax's normaliser of each hidden state, Float32[N]."""
        partition = Partition()
        for block in self.blocks:
            partition.add(tempered.divide(self.block_logits(hidden, block)))
        return partition.log_z

    @torch.no_grad()
    def distribution(self, hidden: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """Of a few hidden states: log-probs (nats) of the whole vocabulary, Float32[N, V], the same numbers as `logprobs`, and
        what the probabilities in each of `blocks` add up to, Float32[N, blocks]."""
        found, partition = hidden.new_empty(len(hidden), self.size, dtype=torch.float32), Partition()
        tempered, parts = Temperatures(temperatures), []
        for block in self.blocks:
            here = found[:, block].copy_(self._product(hidden, block))
            logits = tempered.divide(self._shaped(here))
            if logits is not here:
                here.copy_(logits)
            parts.append(partition.add(here))
        log_z = partition.log_z
        return found.sub_(log_z[:, None]), torch.stack([total * (top - log_z).exp() for top, total in parts], -1)


class Partition:
    """A running log-sum-exp over blocks of each row's logits, and the entropy of the softmax."""

    def __init__(self, with_entropy: bool = False) -> None:
        self.with_entropy = with_entropy
        self._top: Tensor | None = None
        """Float32[N]: the largest logit so far; sums are of exponentials relative to it."""
        self._sum: Tensor | None = None
        self._moment: Tensor | None = None
        """Σ exp(z − top) (z − top)."""

    def add(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a block [N, any number of tokens]; returns what its own exponentials were taken relative to, and their sum, Float32[N]."""
        top = logits.amax(-1) if self._top is None else torch.maximum(self._top, logits.amax(-1))
        below = logits - top[:, None]
        odds = below.exp()
        block_total = total = row_sums(odds)
        moment = row_sums(odds.mul_(below)) if self.with_entropy else None
        if self._top is not None:
            lift = self._top - top
            shrink = lift.exp()
            total = total + shrink * self._sum
            if self.with_entropy:
                moment = moment + shrink * (self._moment + lift * self._sum)
        self._top, self._sum, self._moment = top, total, moment
        return top, block_total

    @property
    def log_z(self) -> Tensor:
        """Float32[N]"""
        return self._top + self._sum.log()

    @property
    def entropies(self) -> Tensor:
        """Float32[N], in nats."""
        return self._sum.log() - self._moment / self._sum


def row_sums(x: Tensor) -> Tensor:
    """The sum of each row [N, M] → [N]."""
    whole = x.shape[1] // SUMMANDS * SUMMANDS
    parts = x[:, :whole].unflatten(1, (-1, SUMMANDS)).sum(1).sum(1)
    return parts if whole == x.shape[1] else parts + x[:, whole:].sum(1)


class Temperatures:
    """Division of each row by its temperature, left out where all are 1."""

    def __init__(self, temperatures: Tensor) -> None:
        self.column = temperatures[:, None] if (temperatures != 1).any() else None

    def divide(self, rows: Tensor) -> Tensor:
        return rows if self.column is None else rows / self.column


class _BlockedLogprobs(torch.autograd.Function):
    """d logp_y / d z = onehot(y) − p and d H / d z_j = −p_j (log p_j + H), pulled through temperature, cap and scale."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, temperatures, head: Head):
        tempered, partition = Temperatures(temperatures), Partition(with_entropy=True)
        chosen = hidden.new_zeros(len(hidden), dtype=torch.float32)
        if not len(hidden):
            ctx.save_for_backward(hidden, weight, bias, targets, chosen, chosen)
            ctx.head, ctx.tempered = head, tempered
            return chosen, chosen.clone()
        for block in head.blocks:
            logits = tempered.divide(head.block_logits(hidden, block))
            partition.add(logits)
            at, inside = _places(targets, block)
            chosen = torch.where(inside, logits.gather(1, at[:, None])[:, 0], chosen)
        log_z, entropies = partition.log_z, partition.entropies
        ctx.save_for_backward(hidden, weight, bias, targets, log_z, entropies)
        ctx.head, ctx.tempered = head, tempered
        return chosen - log_z, entropies

    @staticmethod
    def backward(ctx, grad_logprobs, grad_entropies):
        hidden, weight, bias, targets, log_z, entropies = ctx.saved_tensors
        gradients = Gradients(ctx.head, hidden, weight, bias, ctx.needs_input_grad[1])
        for block in ctx.head.blocks if len(hidden) else ():
            logits = ctx.head.block_logits(hidden, block)
            logp = ctx.tempered.divide(logits) - log_z[:, None]
            gradients.add(block, logits, _slope(logp, _places(targets, block), entropies, grad_logprobs, grad_entropies), ctx.tempered)
        return *gradients.found, None, None, None


def _slope(logp: Tensor, places: tuple[Tensor, Tensor], entropies: Tensor, grad_logp: Tensor, grad_entropy: Tensor) -> Tensor:
    """The gradient that reaches a block of tempered logits, whose log-probs are overwritten."""
    if grad_entropy.any():
        weights = grad_logp[:, None] + grad_entropy[:, None] * (logp + entropies[:, None])
        grad = logp.exp_().mul_(weights.neg_())
    else:
        grad = logp.exp_().mul_(-grad_logp[:, None])
    at, inside = places
    return grad.scatter_add_(1, at[:, None], torch.where(inside, grad_logp, 0)[:, None])


class Gradients:
    """What flows back into hidden states, embedding and bias, one block of the vocabulary after the other."""

    def __init__(self, head: Head, hidden: Tensor, weight: Tensor, bias: Tensor | None, needs_weight: bool) -> None:
        self.head, self.states = head, hidden
        self.hidden = torch.zeros(hidden.shape, dtype=torch.float32)
        self.weight = torch.zeros_like(weight) if needs_weight else None
        self.bias = torch.zeros_like(bias) if bias is not None else None

    def add(self, block: slice, logits: Tensor, grad: Tensor, tempered: Temperatures) -> None:
        """Take in a block's logits and the gradient of what they are when tempered."""
        head, grad = self.head, tempered.divide(grad)
        if head.softcap is not None:
            grad = grad * (1 - (logits / head.softcap).square())
        grad = (grad if head.scale == 1.0 else grad * head.scale).to(self.states.dtype)
        self.hidden += grad @ head.weight[block]
        if self.weight is not None:
            torch.mm(grad.T, self.states, out=self.weight[block])
        if self.bias is not None:
            self.bias[block] = grad.sum(0)

    @property
    def found(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of hidden states, embedding and bias, in their own dtypes."""
        return self.hidden.to(self.states.dtype), self.weight, self.bias


def _places(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Where in the block each target stands, and whether it does."""
    at = targets - block.start
    return at.clamp(0, block.stop - block.start - 1), (at >= 0) & (targets < block.stop)


def tempered_logprobs(logits: Tensor, temperatures: Tensor) -> Tensor:
    """log softmax(logits / temperature) of each row of all logits, Float32[N, V]; differentiable."""
    return torch.log_softmax(Temperatures(temperatures).divide(logits), -1)
