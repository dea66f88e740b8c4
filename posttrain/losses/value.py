"""The critic's losses: for each token a value to minimise. Flat tensors over tokens, in units of reward; returns are constants."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def squared_error(values: Float[Tensor, " tokens"], returns: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """½ (value − return)²."""
    return 0.5 * (values - returns).square()


def clipped_squared_error(
    values: Float[Tensor, " tokens"], old_values: Float[Tensor, " tokens"], returns: Float[Tensor, " tokens"], clip: float
) -> Float[Tensor, " tokens"]:
    """½ max((value − return)², (value kept within `clip` of the old one − return)²): PPO2's, as in OpenAI's baselines.

    The larger of the two is pessimistic: a value that has moved more than `clip` gets no gradient where moving on would
    better it, and the full one where moving back would. Whether it helps is disputed (2005.12729); infinity turns it off.
    """
    kept = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(squared_error(values, returns), squared_error(kept, returns))


def explained_variance(values: Float[Tensor, " tokens"], returns: Float[Tensor, " tokens"]) -> float:
    """1 − Var(return − value) / Var(return): 1 is a perfect critic, 0 one no better than a constant; nan where returns do not vary."""
    spread = returns.var(correction=0).item() if returns.numel() else 0.0
    return 1 - (returns - values).var(correction=0).item() / spread if spread > 0 else float("nan")
