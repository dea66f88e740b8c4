"""Ratios of two policies' probabilities, from their log-probs, without overflow and without a dead gradient."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu

MAX_LOG_RATIO = 20.0
"""Nats beyond which exp is continued by its tangent. A token drawn from the denominator's policy gets past it with
probability below e^-20 = 2e-9 (Markov), and e^20 = 5e8 leaves room in fp32 for the square in a gradient norm."""


def log_ratio(logprobs: Float[Tensor, " tokens"], other_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """log(p / q) of each token, in nats, in fp32 or wider whatever came in: bf16 log-probs resolve no ratio near 1."""
    wide = torch.promote_types(logprobs.dtype, torch.float32)
    return logprobs.to(wide) - other_logprobs.to(wide)


def bounded_exp(x: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """exp(x) up to `MAX_LOG_RATIO`, its tangent beyond: finite for any x below 1e29, and its slope stays e^20, never 0."""
    return x.clamp(max=MAX_LOG_RATIO).exp() + math.exp(MAX_LOG_RATIO) * relu(x - MAX_LOG_RATIO)


def bounded_expm1(x: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """`bounded_exp(x) - 1`, exact to the last digits near 0, where the difference of two ones would leave none."""
    return x.clamp(max=MAX_LOG_RATIO).expm1() + math.exp(MAX_LOG_RATIO) * relu(x - MAX_LOG_RATIO)


def importance_ratio(logprobs: Float[Tensor, " tokens"], old_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """How much likelier each token is now than when it was drawn; exactly 1 where the log-probs agree.

    Exact up to e^20, linear in the log-ratio beyond (`bounded_exp`). nan in, nan out.
    """
    return bounded_exp(log_ratio(logprobs, old_logprobs))


def sequence_ratio(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    sequence_ids: Int[Tensor, " tokens"],
    n_sequences: int,
) -> Float[Tensor, " tokens"]:
    """The geometric mean of a sequence's token ratios, repeated at each of its tokens (GSPO, 2507.18071).

    `sequence_ids` says which of `n_sequences` a token belongs to; every token of a sequence must be there, or the mean is
    of a part of it. The gradient of each entry flows through that token's own log-prob, so that the mean over a sequence has
    the gradient of the sequence's ratio. Sequences without tokens have no entry.
    """
    mean_S = _segment_mean(log_ratio(logprobs, old_logprobs).detach(), sequence_ids, n_sequences)
    return bounded_exp(mean_S[sequence_ids] + log_ratio(logprobs, logprobs.detach()))


def _segment_mean(values_N: Tensor, ids_N: Tensor, n: int) -> Tensor:
    """The mean of the values of each id; 0 for an id that has none."""
    sums = values_N.new_zeros(n).index_add(0, ids_N, values_N)
    return sums / torch.bincount(ids_N, minlength=n).clamp(min=1)
