"""The weights of a model as its sampler multiplies by them: laid out once (`policy/products.py`), used for every token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from posttrain.policy.head import Head
from posttrain.policy.hf import Policy
from posttrain.policy.products import can_lay_out, lay_out, multiply


@dataclass(frozen=True)
class _Forward:
    """A linear layer's forward."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return multiply(x, self.weight, self.bias)


@dataclass(frozen=True)
class LaidOut:
    """The linear layers and the output head of a policy as they are now; takes the memory of its weights once more."""

    head: Head
    """The policy's head, with its blocks laid out."""
    layers: tuple[tuple[nn.Linear, _Forward], ...]
    linears: tuple[nn.Linear, ...]
    """All of the policy's, also those that could not be laid out."""
    version: int

    @classmethod
    @torch.no_grad()
    def of(cls, policy: Policy) -> Self:
        """Lay out whatever can be; the rest is multiplied as always."""
        head, linears = policy.head, _linears(policy)
        layers = tuple((layer, _Forward(lay_out(layer.weight), layer.bias)) for layer in linears if can_lay_out(layer.weight))
        blocks = {(block.start, block.stop): head.weight[block] for block in head.blocks}
        laid_out = {place: lay_out(weight) for place, weight in blocks.items() if can_lay_out(weight)}
        return cls(replace(head, laid_out=laid_out), layers, linears, _version(head, linears))

    @property
    def is_current(self) -> bool:
        """Whether the policy's weights are still those that were laid out."""
        return self.version == _version(self.head, self.linears)

    @contextmanager
    def used(self) -> Iterator[None]:
        """While inside, the policy's layers multiply by what was laid out. Past nn.Module's own setting of attributes, which is slow:
        it is done for every token."""
        for layer, forward in self.layers:
            vars(layer)["forward"] = forward
        try:
            yield
        finally:
            for layer, _ in self.layers:
                del vars(layer)["forward"]


def _linears(policy: Policy) -> tuple[nn.Linear, ...]:
    """The layers within the transformer; those that an adapter wraps, and its own, among them."""
    return tuple(module for module in policy.base.get_decoder().modules() if type(module) is nn.Linear)


def _version(head: Head, linears: tuple[nn.Linear, ...]) -> int:
    """Grows with every change of a weight in place. Asked for every token, and therefore of layers that have been found once."""
    return head.weight._version + sum(layer.weight._version for layer in linears)
