"""Norms and gated layers that keep less for the backward pass, and make fewer passes over memory in it.

What transformers writes as six operations autograd remembers as six: of a norm two fp32 copies of what came in, of a gated
layer every factor of its product. Written as one operation each needs what came in and nothing else. Values are those of
transformers' own modules to the last bit: each module is tried, and one that computes anything else is left as it is.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def make_lean(model: nn.Module) -> None:
    """Let every module that can be do with less; the model's weights and names stay as they are."""
    for module in model.modules():
        if lean := next((lean for lean in (_LeanNorm, _LeanGate) if lean.fits(module)), None):
            theirs, before = type(module), _tried(module)
            module.__class__ = subclass(lean, theirs)
            if before is None or not torch.equal(before, _tried(module)):
                module.__class__ = theirs


@cache
def subclass(ours: type, theirs: type) -> type:
    """A module's own class with our forward, under its own name."""
    return type(theirs.__name__, (ours, theirs), {"__module__": theirs.__module__})


class _LeanNorm:
    """The forward of Llama's norm, arXiv 1910.07467: x / rms(x), rounded to the dtype of x, times the weight."""

    weight: nn.Parameter
    variance_epsilon: float

    @staticmethod
    def fits(module: nn.Module) -> bool:
        return hasattr(module, "variance_epsilon") and isinstance(getattr(module, "weight", None), nn.Parameter)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon)


class _LeanGate:
    """The forward of a gated layer (SwiGLU, arXiv 2002.05202): down(silu(gate(x)) · up(x))."""

    @staticmethod
    def fits(module: nn.Module) -> bool:
        return all(isinstance(getattr(module, name, None), nn.Module) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(_SiluTimes.apply(self.gate_proj(x), self.up_proj(x)))


def _tried(module: nn.Module) -> Tensor | None:
    """What a module makes of some rows, always the same ones; None where it wants something else."""
    layer = module if hasattr(module, "variance_epsilon") else module.gate_proj
    weight = getattr(layer, "base_layer", layer).weight
    x = torch.randn(1, 7, weight.shape[-1], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    try:
        return module(x)
    except (TypeError, ValueError, RuntimeError):
        return None


class _RMSNorm(torch.autograd.Function):
    """With r = 1 / rms(x) and g the gradient of x r: dx = r g − x r³ mean(g x), all in fp32."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        wide = x.float()
        r = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, r)
        return weight * (wide * r).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, r = ctx.saved_tensors
        wide = x.float()
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad * (wide * r).to(x.dtype)).flatten(0, -2).sum(0)
        g = (grad * weight).float()
        pull = (g * wide).mean(-1, keepdim=True).mul_(r.pow(3))
        return g.mul_(r).sub_(wide.mul_(pull)).to(x.dtype), grad_weight, None


class _SiluTimes(torch.autograd.Function):
    """silu(gate) · up; the backward pass computes silu again."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, grad):
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), F.silu(gate).mul_(grad)
