"""AdamW on fp32 weights, whatever dtype the model computes in.

A bf16 weight has 8 bits of mantissa: at a learning rate of 1e-5 most updates would round to nothing. The optimizer
therefore steps fp32 masters and writes them back rounded, and gradients of bf16 weights are added up in fp32 as each
minibatch brings them. Where the model is fp32 the masters are the weights themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posttrain.types import UserError


PIECE = 1 << 18
"""Numbers that are converted at once, within the processor's cache."""


@dataclass(frozen=True)
class AdamWConfig:
    """AdamW (arXiv 1711.05101)."""

    learning_rate: float = 1e-5
    """Peak learning rate."""
    warmup_steps: int = 0
    """Steps over which the rate climbs linearly from 0; afterwards it is constant."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean of squares."""
    weight_decay: float = 0.0
    """Decoupled decay, per unit of learning rate."""
    max_grad_norm: float = 1.0
    """The gradient's global norm is cut to this; infinity leaves it as it is."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "warmup_steps", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"--{name.replace('_', '-')} must be a finite number of at least 0")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError("--beta1 and --beta2 must be at least 0 and below 1")
        if not self.max_grad_norm > 0:
            raise UserError("--max-grad-norm must be above 0; inf leaves gradients as they are")


class Optimizer:
    """Collects gradients of any number of minibatches, then steps once."""

    def __init__(self, parameters: list[nn.Parameter], config: AdamWConfig) -> None:
        if not parameters:
            raise UserError("this model has no weights to train")
        self.config = config
        self.parameters = parameters
        self.masters = [p if p.dtype == torch.float32 else p.detach().float().requires_grad_() for p in parameters]
        for parameter, master in zip(parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.register_post_accumulate_grad_hook(_adds_to(master))
        self.adamw = torch.optim.AdamW(
            self.masters, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps,
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        self.n_steps = 0
        self.n_skipped = 0

    def step(self) -> float:
        """One update; returns the gradient's norm before it was cut. A norm that is not finite updates nothing and is counted.

        What got no gradient since the last step has a gradient of 0: the running means decay all the same.
        """
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        norm = nn.utils.clip_grad_norm_(self.masters, self.config.max_grad_norm).item()
        self.n_steps += 1
        if torch.isfinite(torch.tensor(norm)):
            self.adamw.param_groups[0]["lr"] = self.learning_rate
            self.adamw.step()
            torch.autograd.graph.increment_version(self.masters)  # the fused step does not, and whoever keeps copies would not notice
            self._write_back()
        else:
            self.n_skipped += 1
        self.adamw.zero_grad(set_to_none=False)
        return norm

    @property
    def learning_rate(self) -> float:
        """The rate of the step now being taken."""
        warmup = self.config.warmup_steps
        return self.config.learning_rate * (min(1.0, self.n_steps / warmup) if warmup else 1.0)

    @torch.no_grad()
    def _write_back(self) -> None:
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def state_dict(self) -> dict:
        """Everything that the next step depends on; masters only where they are not the weights."""
        masters = {i: m.detach() for i, (p, m) in enumerate(zip(self.parameters, self.masters, strict=True)) if m is not p}
        return {"adamw": self.adamw.state_dict(), "masters": masters, "n_steps": self.n_steps, "n_skipped": self.n_skipped}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Undo `state_dict`."""
        self.adamw.load_state_dict(state["adamw"])
        for i, master in state["masters"].items():
            self.masters[i].copy_(master)
        self._write_back()
        self.n_steps, self.n_skipped = state["n_steps"], state["n_skipped"]


def _adds_to(master: Tensor):
    """A hook that moves a bf16 gradient into its fp32 master's, as soon as it is there."""

    def hook(parameter: Tensor) -> None:
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            add_in_pieces(master.grad.view(-1), parameter.grad.reshape(-1))
        parameter.grad = None

    return hook


def add_in_pieces(total: Tensor, new: Tensor) -> None:
    """total += new, of another dtype: torch would make a whole copy in the other dtype first."""
    for mine, theirs in zip(total.split(PIECE), new.split(PIECE), strict=True):
        mine += theirs
