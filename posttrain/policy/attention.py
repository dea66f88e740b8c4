"""One attention for every transformers architecture: the batch's own description chooses the kernel.

transformers lets a model's attention be swapped for a registered function, and hands keyword arguments of the model's
forward on to it. We register one function, `posttrain`, and pass it `attend`: a callable that knows how the tokens of
this forward see one another. `PackedAttention` reads a `Layout` (training, scoring, prefill); the engine's cache is
another such callable (decoding). Both end in `attend_grid`, so that what is sampled and what is trained on come from the
same arithmetic, and in fp32 (see `policy/numerics.py`) from the same bits.

Explicit batched products beat `scaled_dot_product_attention` on a CPU, whose backward is slow there: `docs/LOG.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import AttentionInterface

from posttrain.batching import Bucket, Layout

NAME = "posttrain"
LONG = 256
"""Segments longer than this are attended to in blocks of queries, recomputed in the backward pass, so that memory grows
with the length and not with its square."""
BLOCK = 128
"""Queries of such a block: their scores still lie in a processor's cache."""


@dataclass(frozen=True)
class Rules:
    """What an architecture asks of its attention."""

    scaling: float
    sliding_window: int | None = None
    """A query sees the last this many tokens, itself included."""
    softcap: float | None = None
    """Scores become softcap·tanh(score/softcap) (Gemma 2)."""
    sinks: Tensor | None = None
    """Float[H]: a learned score per head that takes part in the softmax and carries no value (gpt-oss)."""


Attend = Callable[[int, Tensor, Tensor, Tensor, Rules], Tensor]
"""(layer, queries [T, H, d], keys [T, K, d], values [T, K, d], rules) → [T, H, d]; K key-value heads serve H heads."""


def attention(module, query, key, value, attention_mask, scaling, dropout=0.0, attend: Attend | None = None,
              sliding_window=None, softcap=None, s_aux=None, **unused):  # fmt: skip
    """What transformers calls; its tensors are [1, heads, T, d]. Dropout is never applied: ratios must start at 1."""
    if attend is None:
        raise ValueError("the posttrain attention needs `attend=`: call the policy, not the bare transformers model")
    rules = Rules(scaling, sliding_window, softcap, s_aux)
    out = attend(module.layer_idx, *(x[0].transpose(0, 1) for x in (query, key, value)), rules)
    return out.unsqueeze(0), None


AttentionInterface.register(NAME, attention)


@dataclass(frozen=True)
class PackedAttention:
    """Attention within a packed row, without any cache."""

    layout: Layout
    masks: dict[tuple, Tensor] = field(default_factory=dict)
    """Made by the first layer that needs one, for all."""

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
        layout = self.layout
        own_sizes, prefix_sizes = ([getattr(b, name) for b in layout.buckets] for name in ("n_slots", "n_prefix_slots"))
        own = [_IntoSlots.apply(x, layout.own_index, layout.slots).split(own_sizes) for x in (queries, keys, values)]
        prefix = [x.index_select(0, layout.prefix_index).split(prefix_sizes) for x in (keys, values)]
        outs = [self._bucket(bucket, *parts, rules) for bucket, *parts in zip(layout.buckets, *own, *prefix, strict=True)]
        return _OutOfSlots.apply(torch.cat(outs), layout.slots)

    def _bucket(self, bucket: Bucket, q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, rules: Rules) -> Tensor:
        """The outputs of a bucket's slots; everything is [slots, heads, d]."""
        grid = (bucket.n_groups, bucket.n_segments, bucket.length)
        q = q.unflatten(0, grid).unflatten(-2, (k.shape[1], -1)).permute(0, 3, 1, 4, 2, 5)  # N K S R L d
        own_k, own_v = (x.unflatten(0, grid).permute(0, 3, 1, 2, 4) for x in (k, v))  # N K S L d
        prefix = [x.unflatten(0, (bucket.n_groups, bucket.prefix_width)).transpose(1, 2) for x in (prefix_k, prefix_v)]  # N K P d
        if bucket.length <= LONG:
            out = attend_grid(q, *prefix, own_k, own_v, self._mask(bucket, 0, bucket.length, rules), rules)
        else:
            starts = range(0, bucket.length, BLOCK)
            masks = [self._mask(bucket, start, min(start + BLOCK, bucket.length), rules) for start in starts]
            out = _InBlocks.apply(q, *prefix, own_k, own_v, rules.sinks, masks, rules)
        return out.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(0, 2)

    def _mask(self, bucket: Bucket, start: int, stop: int, rules: Rules) -> Tensor:
        """Of these queries of a bucket's segments, and of the keys before the last of them."""
        key = (id(bucket), start, rules.sliding_window)
        if key not in self.masks:
            first = torch.full((bucket.n_groups, 1), start)
            self.masks[key] = mask(bucket.prefix_lengths, first, stop - start, bucket.prefix_width, stop, rules.sliding_window)
        return self.masks[key]


class _InBlocks(torch.autograd.Function):
    """`attend_grid` on one block of queries after the other, each with the keys before its end. Nothing is kept but what came in; the
    backward pass attends again, block by block."""

    @staticmethod
    def forward(ctx, q, prefix_k, prefix_v, own_k, own_v, sinks, masks, rules):
        ctx.save_for_backward(q, prefix_k, prefix_v, own_k, own_v, sinks)
        ctx.masks, ctx.rules = masks, rules
        out = torch.empty_like(q)
        for block, hidden in _blocks(masks):
            keys = slice(0, block.stop)
            out[..., block, :] = attend_grid(q[..., block, :], prefix_k, prefix_v, own_k[..., keys, :], own_v[..., keys, :], hidden, rules)
        return out

    @staticmethod
    def backward(ctx, grad):
        whole = ctx.saved_tensors
        grads = [None if x is None else torch.zeros_like(x) for x in whole]
        for block, hidden in _blocks(ctx.masks):
            places = (block, slice(None), slice(None), slice(0, block.stop), slice(0, block.stop))
            parts = [x[..., place, :].detach().requires_grad_() for x, place in zip(whole, places, strict=False)]
            sinks = None if whole[-1] is None else whole[-1].detach().requires_grad_()
            with torch.enable_grad():
                out = attend_grid(*parts, hidden, replace(ctx.rules, sinks=sinks))
            inputs = parts if sinks is None else [*parts, sinks]
            found = torch.autograd.grad(out, inputs, grad[..., block, :], allow_unused=True)
            for total, part, place in zip(grads, found, places, strict=False):
                if part is not None:
                    total[..., place, :] += part
            if sinks is not None:
                grads[-1] += found[-1]
        return *grads, None, None


def _blocks(masks: list[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """The queries of each block, and what is hidden from them."""
    start = 0
    for hidden in masks:
        yield slice(start, start + hidden.shape[-2]), hidden
        start += hidden.shape[-2]


class _IntoSlots(torch.autograd.Function):
    """`x[index]`. Every token has one slot that is read, so that the gradient is a look-up; indexing would add and fill."""

    @staticmethod
    def forward(ctx, x, index, slots):
        ctx.save_for_backward(slots)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _OutOfSlots(torch.autograd.Function):
    """`x[slots]`, each slot read at most once: the gradient is a copy, not a sum."""

    @staticmethod
    def forward(ctx, x, slots):
        ctx.save_for_backward(slots)
        ctx.shape = x.shape
        return x.index_select(0, slots)

    @staticmethod
    def backward(ctx, grad):
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.saved_tensors[0], grad), None


def attend_grid(q: Tensor, prefix_k: Tensor, prefix_v: Tensor, own_k: Tensor, own_v: Tensor, hidden: Tensor, rules: Rules) -> Tensor:
    """Attention of a grid of segments to their group's prefix and to their own keys, where `hidden` (from `mask`) is 0.

    Axes: N groups, S segments in each, K key heads, R query heads to each, L queries, P prefix keys, C own keys, d.
    q [N K S R L d], prefix [N K P d], own [N K S C d], hidden [N 1 S 1 L P+C]. Returns [N K S R L d].
    """
    N, K, S, R, L, d = q.shape
    P, C = prefix_k.shape[2], own_k.shape[3]
    q = (q * rules.scaling).contiguous()
    scores = (q.view(N * K * S, R * L, d) @ own_k.reshape(N * K * S, C, d).mT).view(N, K, S, R, L, C)
    if not P:
        probs = _probabilities(scores, hidden, rules).view(N * K * S, R * L, C)
        return (probs @ own_v.reshape(N * K * S, C, d)).view(N, K, S, R, L, d)
    on_prefix = (q.view(N * K, S * R * L, d) @ prefix_k.reshape(N * K, P, d).mT).view(N, K, S, R, L, P)
    probs = _probabilities(torch.cat([on_prefix, scores], -1), hidden, rules)
    own = (probs[..., P:].reshape(N * K * S, R * L, C) @ own_v.reshape(N * K * S, C, d)).view(N, K, S, R, L, d)
    return own + (probs[..., :P].reshape(N * K, S * R * L, P) @ prefix_v.reshape(N * K, P, d)).view(N, K, S, R, L, d)


HIDDEN = -1e30
"""Added to a score that must not count: its exponential is an exact 0, and a row of nothing else (padding) stays finite."""


def mask(prefix_lengths: Tensor, first: Tensor, L: int, P: int, C: int, window: int | None) -> Tensor:
    """Float32[N, 1, S, 1, L, P + C]: 0 for the keys that a query sees, `HIDDEN` for the others.

    `first` [N, S] (or [N, 1]) is the place of the first of L queries among its segment's own tokens: own keys behind a
    query's place are its future. A window counts back over own tokens and then over the prefix.
    """
    place = first[:, :, None, None] + torch.arange(L)[:, None]  # N S L 1
    back = place - torch.arange(C)
    seen = back >= 0
    if window is not None:
        seen &= back < window
    if P:
        at = torch.arange(P)
        length = prefix_lengths[:, None, None, None]
        on_prefix = (at < length).expand(-1, *seen.shape[1:3], -1)
        if window is not None:
            on_prefix = on_prefix & (length + place - at < window)
        seen = torch.cat([on_prefix, seen], -1)
    return torch.zeros(seen.shape).masked_fill_(~seen, HIDDEN)[:, None, :, None]


def _probabilities(scores: Tensor, hidden: Tensor, rules: Rules) -> Tensor:
    """Softmax over the keys that are seen, in fp32, and rounded to the scores' dtype."""
    if rules.softcap is None and rules.sinks is None:
        return _MaskedSoftmax.apply(scores, hidden)
    wide = scores.float()
    if rules.softcap is not None:
        wide = rules.softcap * torch.tanh(wide / rules.softcap)
    wide = wide + hidden
    if rules.sinks is None:
        return torch.softmax(wide, -1).to(scores.dtype)
    sink = rules.sinks.float().view(1, scores.shape[1], 1, scores.shape[3], 1, 1).expand(*scores.shape[:-1], 1)
    return torch.softmax(torch.cat([wide, sink], -1), -1)[..., :-1].to(scores.dtype)


class _MaskedSoftmax(torch.autograd.Function):
    """softmax(scores + hidden). For the backward pass it keeps the rounded probabilities, with which the values were weighted,
    where autograd would keep them in fp32 as well."""

    @staticmethod
    def forward(ctx, scores, hidden):
        probs = torch.softmax(scores + hidden, -1).to(scores.dtype)  # the sum is in fp32, as `hidden` is
        ctx.save_for_backward(probs)
        return probs

    @staticmethod
    def backward(ctx, grad):
        (probs,) = ctx.saved_tensors
        wide = torch.promote_types(grad.dtype, torch.float32)
        return torch._softmax_backward_data(grad.to(wide), probs.to(wide), -1, wide).to(grad.dtype), None
