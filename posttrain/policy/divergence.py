"""How far a student's next-token distribution is from a teacher's, over the whole vocabulary, without holding it for all tokens.

Hidden states meet the output embeddings in chunks of a fixed number of logits, whatever the vocabulary; a chunk is reduced to one
number per prediction and dropped, and the backward pass computes it again. The two models may differ in width and depth,
not in vocabulary. The teacher gets no gradient.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from posttrain.policy.head import Head, tempered_logprobs
from posttrain.types import UserError

CHUNK_LOGITS = 1 << 22
"""Logits of either model in memory at once: 16 MiB in fp32."""

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


def divergences(
    student: Head, states: Tensor, teacher: Head, teacher_states: Tensor, temperatures: Tensor, kind: Divergence, beta: float = 0.5,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:  # fmt: skip
    """The divergence at each prediction in nats, Float32[N], differentiable in the student's `states` [N, D] and output embedding.

    - forward_kl: KL(teacher ‖ student), which covers all that the teacher does
    - reverse_kl: KL(student ‖ teacher), which avoids what the teacher does not
    - jsd: beta · KL(teacher ‖ m) + (1 − beta) · KL(student ‖ m), m = beta · teacher + (1 − beta) · student (2306.13649, eq. 1);
      divided by beta it tends to forward KL as beta → 0, divided by 1 − beta to reverse KL as beta → 1

    Both distributions are tempered alike. Raises UserError for vocabularies of different size, ValueError for a beta that is
    not strictly between 0 and 1.
    """
    if kind == "jsd" and not 0 < beta < 1:
        raise ValueError("the Jensen–Shannon divergence needs a beta strictly between 0 and 1")
    if student.size != teacher.size:
        raise UserError(f"student and teacher have vocabularies of {student.size} and {teacher.size} tokens: distil from a model of the same tokenizer")
    return _ChunkedDivergence.apply(states, student.weight, student.bias, teacher_states.detach(), temperatures, student, teacher, kind, beta, chunk_logits)


def dense_divergence(logp: Tensor, teacher_logp: Tensor, kind: Divergence, beta: float = 0.5) -> Tensor:
    """The divergence of each row of log-probs [N, V], in nats; differentiable in both."""
    if kind == "forward_kl":
        return _kl(teacher_logp, logp)
    if kind == "reverse_kl":
        return _kl(logp, teacher_logp)
    log_beta, log_rest = torch.log(torch.tensor([beta, 1 - beta], dtype=logp.dtype))
    mixture = torch.logaddexp(teacher_logp + log_beta, logp + log_rest)
    return beta * _kl(teacher_logp, mixture) + (1 - beta) * _kl(logp, mixture)


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    return (logp.exp() * (logp - logq)).sum(-1)


class _ChunkedDivergence(torch.autograd.Function):
    """Each chunk is differentiated by itself, in the backward pass, from the hidden states and the embedding on."""

    @staticmethod
    def forward(ctx, states, weight, bias, teacher_states, temperatures, student: Head, teacher: Head, kind, beta, chunk_logits):
        ctx.heads, ctx.kind, ctx.beta, ctx.size = (student, teacher), kind, beta, max(1, chunk_logits // student.size)
        ctx.save_for_backward(states, weight, bias, teacher_states, temperatures)
        found = [
            dense_divergence(tempered_logprobs(student.logits(s), t), tempered_logprobs(teacher.logits(u), t), kind, beta)
            for s, u, t in _chunks(ctx.size, states, teacher_states, temperatures)
        ]
        return torch.cat(found) if found else states.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad_output):
        states, weight, bias, teacher_states, temperatures = ctx.saved_tensors
        student, teacher = ctx.heads
        grad_states = torch.empty_like(states)
        sums = [torch.zeros(x.shape, dtype=torch.float32) if x is not None and x.requires_grad else None for x in (weight, bias)]
        start = 0
        for s, u, t, g in _chunks(ctx.size, states, teacher_states, temperatures, grad_output):
            with torch.enable_grad():
                leaves = [x.detach().requires_grad_() if x is not None else None for x in (s, weight, bias)]
                logp = tempered_logprobs(replace(student, weight=leaves[1], bias=leaves[2]).logits(leaves[0]), t)
                value = dense_divergence(logp, tempered_logprobs(teacher.logits(u), t).detach(), ctx.kind, ctx.beta)
            wanted = [leaves[0], *(leaf for leaf, total in zip(leaves[1:], sums, strict=True) if total is not None)]
            grads = iter(torch.autograd.grad(value, wanted, g))
            grad_states[start : start + len(s)] = next(grads)
            for total in sums:
                if total is not None:
                    total += next(grads)
            start += len(s)
        grad_weight, grad_bias = (None if x is None else x.to(y.dtype) for x, y in zip(sums, (weight, bias), strict=True))
        return grad_states, grad_weight, grad_bias, None, None, None, None, None, None, None


def _chunks(size: int, *columns: Tensor):
    return zip(*(column.split(size) for column in columns), strict=True)
