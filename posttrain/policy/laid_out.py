"""The weights of a model as its sampler multiplies by them: laid out once (`policy/products.py`), used for every token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from posttrain.policy.head import Head
from posttrain.policy.hf import Policy
from posttrain.policy.products import can_lay_out, lay_out, multiply


SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of one module that read the same states, by the names that transformers gives them: one product serves all of them."""


@dataclass
class _Product:
    """What the layers of a module that read the same states make of them, computed when the first of them is asked."""

    weight: Tensor
    bias: Tensor | None
    sizes: list[int]
    states: Tensor | None = None
    """What was read last, until the last of the layers has had its part."""
    parts: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, layers: list[nn.Linear]) -> Self:
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
        weight = layers[0].weight if len(layers) == 1 else torch.cat([layer.weight for layer in layers])
        return cls(lay_out(weight), bias, [layer.out_features for layer in layers])

    def part(self, i: int, states: Tensor) -> Tensor:
        """What the i-th layer makes of the states."""
        if states is not self.states:
            self.states, self.parts = states, multiply(states, self.weight, self.bias).split(self.sizes, -1)
        part = self.parts[i]
        if i == len(self.sizes) - 1:
            self.states, self.parts = None, ()
        return part


@dataclass(frozen=True)
class LaidOut:
    """The linear layers and the output head of a policy as they are now; takes the memory of its weights once more."""

    head: Head
    """The policy's head, with its blocks laid out."""
    layers: tuple[tuple[nn.Linear, Callable[[Tensor], Tensor]], ...]
    """Each with the forward that it has meanwhile."""
    linears: tuple[nn.Linear, ...]
    """All of the policy's, also those that could not be laid out."""
    version: int

    @classmethod
    @torch.no_grad()
    def of(cls, policy: Policy) -> Self:
        """Lay out whatever can be; the rest is multiplied as always."""
        head, linears = policy.head, _linears(policy)
        layers = tuple(pair for siblings in _siblings(policy, linears) for pair in _forwards(siblings))
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


def _siblings(policy: Policy, linears: tuple[nn.Linear, ...]) -> list[list[nn.Linear]]:
    """The layers that can be laid out, those that read the same states together."""
    found = []
    for module in policy.base.get_decoder().modules():
        for names in SIBLINGS:
            layers = [getattr(module, name, None) for name in names]
            if all(type(layer) is nn.Linear for layer in layers) and len({layer.bias is None for layer in layers}) == 1:
                found.append(layers)
    together = [layers for layers in found if can_lay_out(*(layer.weight for layer in layers))]
    taken = {layer for layers in together for layer in layers}
    return together + [[layer] for layer in linears if layer not in taken and can_lay_out(layer.weight)]


def _forwards(siblings: list[nn.Linear]) -> list[tuple[nn.Linear, Callable[[Tensor], Tensor]]]:
    product = _Product.of(siblings)
    return [(layer, partial(product.part, i)) for i, layer in enumerate(siblings)]


def _version(head: Head, linears: tuple[nn.Linear, ...]) -> int:
    """Grows with every change of a weight in place. Asked for every token, and therefore of layers that have been found once."""
    return head.weight._version + sum(layer.weight._version for layer in linears)
