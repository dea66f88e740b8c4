"""Per-token rewards, returns and advantages of policy gradients with a critic.

Flat tensors over the tokens of many sequences, one behind the other; `lengths` says where each ends, and nothing flows
across an end. Position t speaks of the action that token t is: its reward, the value of the state before it. A sequence
of length 0 is allowed and has nothing. nan passes through within its own sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def token_rewards(
    scores: Float[Tensor, " sequences"], log_ratios: Float[Tensor, " tokens"], lengths: Sequence[int], kl_coef: float
) -> Float[Tensor, " tokens"]:
    """−kl_coef · log(policy / reference) at every token, plus the sequence's score at its last one (Ziegler et al., 1909.08593, eq. 2; 2203.02155, eq. 2).

    The sum over a sequence is its score less kl_coef times its k1 estimate of the KL, in units of the score.
    """
    rewards = -kl_coef * log_ratios
    ends = torch.tensor(list(lengths)).cumsum(0) - 1
    filled = torch.tensor(list(lengths)) > 0
    return rewards.index_add(0, ends[filled], scores[filled].to(rewards.dtype))


def gae(
    rewards: Float[Tensor, " tokens"], values: Float[Tensor, " tokens"], lengths: Sequence[int],
    gamma: float = 1.0, gae_lambda: float = 0.95, last_values: Float[Tensor, " sequences"] | None = None,
) -> Float[Tensor, " tokens"]:  # fmt: skip
    """Generalised advantage estimation (1506.02438, eq. 16): Σ_l (gamma · lambda)^l · delta_{t+l}, delta_t = r_t + gamma · V_{t+1} − V_t.

    `last_values` is the value of the state behind each sequence's last token: 0 where it came to its own end (the default for
    all), the critic's own estimate where a limit cut it off, for then the world went on. lambda 1 gives the return less the
    value, lambda 0 the one-step error. No gradient flows through it.
    """
    rewards, values = rewards.detach(), values.detach()
    advantages = torch.zeros_like(values)
    start = 0
    for i, length in enumerate(lengths):
        following = values.new_zeros(()) if last_values is None else last_values[i].detach().to(values.dtype)
        carried = values.new_zeros(())
        for t in range(start + length - 1, start - 1, -1):
            delta = rewards[t] + gamma * following - values[t]
            carried = delta + gamma * gae_lambda * carried
            advantages[t], following = carried, values[t]
        start += length
    return advantages


def whiten(x: Float[Tensor, " tokens"], keep_mean: bool = False, where: Bool[Tensor, " tokens"] | None = None) -> Float[Tensor, " tokens"]:
    """x scaled to variance 1, and to mean 0 unless `keep_mean`; statistics over `where` (all, if None).

    The variance is the population's; it is added 1e-8 before its root, so that equal numbers become 0 and not nan.
    Whitening *rewards* must keep the mean, or every answer is made an average one; advantages usually lose it.
    """
    seen = x if where is None else x[where]
    if not seen.numel():
        return x
    mean = seen.mean()
    white = (x - mean) * (seen.var(correction=0) + 1e-8).rsqrt()
    return white + mean if keep_mean else white


@dataclass(frozen=True)
class AdaptiveKL:
    """A coefficient that steers the KL to a target (Ziegler et al., 1909.08593, section 2.2)."""

    coef: float
    target_nats: float
    horizon: int = 10_000
    """Episodes over which the coefficient changes by a factor of e^.2 or e^-.2 at most: when the error is at its bound all the time."""

    def update(self, kl_nats: float, n_episodes: int) -> AdaptiveKL:
        """The controller after `n_episodes` with this mean KL of whole answers: the error is cut at ±20%, as published."""
        error = min(max(kl_nats / self.target_nats - 1, -0.2), 0.2)
        return replace(self, coef=self.coef * (1 + error * n_episodes / self.horizon))
