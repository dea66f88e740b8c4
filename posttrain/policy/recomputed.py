"""Layers that keep only what comes into them, and are computed again in the backward pass: less memory for more time.

Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174, with a segment for each layer. What is computed again is what was computed, to
the last bit: dropout is off (`loading.py`), and the forward does not depend on its company.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from posttrain.policy.lean import subclass
from posttrain.types import UserError


def recompute_layers(model: nn.Module) -> None:
    """Let every layer of a transformers model keep nothing but its input. Raises `UserError` where its architecture does not say what a layer is."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(f"the architecture {type(model).__name__} has no layers that can be recomputed: leave out --recompute")
    for layer in layers:
        if not isinstance(layer, _Recomputed):
            layer.__class__ = subclass(_Recomputed, type(layer))


class _Recomputed:
    """Nothing is different where no gradient is wanted, as in sampling and measuring."""

    def forward(self, hidden_states: Tensor, *args, **kwargs):
        if not torch.is_grad_enabled():
            return super().forward(hidden_states, *args, **kwargs)
        return checkpoint(super().forward, hidden_states, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
