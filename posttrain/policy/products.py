"""Products by weights in oneDNN's own layout: the same numbers as the plain ones, to the last bit, and sooner.

A product of few rows spends a third of its time on putting the weights into that layout. Whoever makes the same product
again and again does so once. That the numbers are the same is tried for every shape of weight, and where it does not hold
nothing is laid out.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 64
"""The number of rows that the layout is chosen for; others are multiplied in it as well."""


def lay_out(weight: Tensor) -> Tensor:
    """A weight [M, D] in oneDNN's layout for about `ROWS` rows. It costs some ten products of one row."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)


def multiply(x: Tensor, laid_out: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, D] by a weight [M, D] that has been laid out, plus bias [M]: [N, M]. There is no gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")


def can_lay_out(*weights: Tensor) -> bool:
    """Whether products by weights laid out as one equal the plain ones, each by its own weight."""
    on_cpu = all(weight.device.type == "cpu" for weight in weights) and torch.backends.mkldnn.is_available()
    return on_cpu and _same_products(tuple(tuple(weight.shape) for weight in weights), weights[0].dtype)


@cache
def _same_products(shapes: tuple[tuple[int, int], ...], dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    rows, *weights = (torch.randn(n, shapes[0][1], generator=generator).to(dtype) for n in (ROWS, *(m for m, _ in shapes)))
    plain = lambda n: torch.cat([F.linear(rows[:n], weight) for weight in weights], -1)  # noqa: E731
    try:
        laid_out = lay_out(torch.cat(weights))
        return all(torch.equal(multiply(rows[:n], laid_out), plain(n)) for n in (1, 3, 17, ROWS))
    except RuntimeError:  # oneDNN has no such product
        return False
