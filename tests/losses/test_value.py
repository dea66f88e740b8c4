"""The critic's losses by hand. What a critic learns from them is in `exact/`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from posttrain.losses.value import clipped_squared_error, explained_variance, squared_error


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def clipped(value: float, old: float, target: float, clip: float = 0.2) -> tuple[float, float]:
    """Loss, and its slope by the value."""
    at = t(value).requires_grad_()
    loss = clipped_squared_error(at, t(old), t(target), clip)
    return loss.item(), torch.autograd.grad(loss.sum(), at)[0].item()


def test_half_the_square_by_hand():
    assert squared_error(t(1.0, -2.0), t(3.0, -2.0)).tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        (0.1, 0.5 * 0.9**2, -0.9),  # has hardly moved: the plain loss
        (0.5, 0.5 * 0.8**2, 0.0),  # has moved .5 towards 1, of which .2 count: it stops
        (-0.5, 0.5 * 1.5**2, -1.5),  # has moved away: the plain loss, which is the larger
        (2.5, 0.5 * 1.5**2, 1.5),  # has shot beyond: back
    ],
)
def test_a_value_that_moved_from_0_while_its_return_is_1(value: float, loss: float, slope: float):
    assert clipped(value, 0.0, 1.0) == pytest.approx((loss, slope))


def test_the_first_step_is_never_clipped_and_infinity_turns_the_clip_off():
    assert clipped(0.3, 0.3, 1.0, clip=0.0)[0] == pytest.approx(0.5 * 0.7**2)
    assert clipped(0.5, 0.0, 1.0, clip=math.inf) == pytest.approx((0.125, -0.5))


def test_explained_variance_by_hand():
    returns = t(0, 0, 1, 1)
    assert explained_variance(returns, returns) == 1
    assert explained_variance(t(5, 5, 5, 5), returns) == 0
    assert explained_variance(t(0.25, 0.25, 0.75, 0.75), returns) == pytest.approx(1 - 0.25**2 / 0.25)
    assert explained_variance(-returns, returns) == pytest.approx(-3)


def test_where_returns_do_not_vary_nothing_is_to_be_explained():
    assert math.isnan(explained_variance(t(1, 2), t(3, 3)))
    assert math.isnan(explained_variance(t(), t()))


def test_no_tokens_no_losses_and_a_nan_is_not_hidden():
    assert clipped_squared_error(t(), t(), t(), 0.2).shape == (0,)
    assert clipped_squared_error(t(math.nan, 0), t(0, 0), t(1, 1), 0.2).isnan().tolist() == [True, False]
