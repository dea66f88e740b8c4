"""How far a student's next-token distribution is from a teacher's, over the whole vocabulary, without holding it for all tokens.

As in `head.py`, hidden states meet the output embeddings one block of the vocabulary after the other: once for the normalisers,
once for the divergence, and in the backward pass once more for its gradient, which is known in closed form. The two models
may differ in width and depth, not in vocabulary. The teacher gets no gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from posttrain.policy.head import Gradients, Head, Temperatures
from posttrain.types import UserError

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


def divergences(
    student: Head, states: Tensor, teacher: Head, teacher_states: Tensor, temperatures: Tensor, kind: Divergence, beta: float = 0.5
) -> Tensor:
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
    return _BlockedDivergence.apply(states, student.weight, student.bias, teacher_states.detach(), temperatures, student, teacher, kind, beta)


def dense_divergence(logp: Tensor, teacher_logp: Tensor, kind: Divergence, beta: float = 0.5) -> Tensor:
    """The divergence of each row of log-probs [N, V], in nats; of a block of the vocabulary its share. Differentiable in both."""
    if kind == "forward_kl":
        return _kl(teacher_logp, logp)
    if kind == "reverse_kl":
        return _kl(logp, teacher_logp)
    mixture = _mixture(logp, teacher_logp, beta)
    return beta * _kl(teacher_logp, mixture) + (1 - beta) * _kl(logp, mixture)


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    return (logp.exp() * (logp - logq)).sum(-1)


def _mixture(logp: Tensor, teacher_logp: Tensor, beta: float) -> Tensor:
    """Log-probs of beta · teacher + (1 − beta) · student."""
    log_beta, log_rest = torch.log(torch.tensor([beta, 1 - beta], dtype=logp.dtype))
    return torch.logaddexp(teacher_logp + log_beta, logp + log_rest)


class _BlockedDivergence(torch.autograd.Function):
    """The gradient in the student's tempered logits: p − q for the forward KL; p (e − Σ p e) for the reverse one, where e = log p − log q is
    what the student exceeds the teacher by; for JSD the same with the mixture in the teacher's place, times 1 − beta."""

    @staticmethod
    def forward(ctx, states, weight, bias, teacher_states, temperatures, student: Head, teacher: Head, kind, beta):
        tempered = Temperatures(temperatures)
        value, own_kl = states.new_zeros(2, len(states), dtype=torch.float32)
        ctx.made = student, teacher, tempered, kind, beta
        if not len(states):
            ctx.save_for_backward(states, weight, bias, teacher_states, value, value, own_kl)
            return value
        log_z, teacher_log_z = student.log_z(states, tempered), teacher.log_z(teacher_states, tempered)
        for block in student.blocks:
            logp = tempered.divide(student.block_logits(states, block)) - log_z[:, None]
            teacher_logp = tempered.divide(teacher.block_logits(teacher_states, block)) - teacher_log_z[:, None]
            value += dense_divergence(logp, teacher_logp, kind, beta)
            if kind != "forward_kl":
                own_kl += (logp.exp() * _excess(logp, teacher_logp, kind, beta)).sum(-1)
        ctx.save_for_backward(states, weight, bias, teacher_states, log_z, teacher_log_z, own_kl)
        return value

    @staticmethod
    def backward(ctx, grad_output):
        states, weight, bias, teacher_states, log_z, teacher_log_z, own_kl = ctx.saved_tensors
        student, teacher, tempered, kind, beta = ctx.made
        gradients = Gradients(student, states, weight, bias, ctx.needs_input_grad[1])
        for block in student.blocks if len(states) else ():
            logits = student.block_logits(states, block)
            logp = tempered.divide(logits) - log_z[:, None]
            teacher_logp = tempered.divide(teacher.block_logits(teacher_states, block)) - teacher_log_z[:, None]
            gradients.add(block, logits, grad_output[:, None] * _slope(logp, teacher_logp, own_kl, kind, beta), tempered)
        return *gradients.found, None, None, None, None, None, None


def _excess(logp: Tensor, teacher_logp: Tensor, kind: Divergence, beta: float) -> Tensor:
    return logp - (teacher_logp if kind == "reverse_kl" else _mixture(logp, teacher_logp, beta))


def _slope(logp: Tensor, teacher_logp: Tensor, own_kl: Tensor, kind: Divergence, beta: float) -> Tensor:
    """The gradient of each row's divergence in a block of the student's tempered logits."""
    if kind == "forward_kl":
        return logp.exp() - teacher_logp.exp()
    slope = logp.exp() * (_excess(logp, teacher_logp, kind, beta) - own_kl[:, None])
    return slope if kind == "reverse_kl" else (1 - beta) * slope
