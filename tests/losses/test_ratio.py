"""Ratios: exact where they are ordinary, finite and alive where they are not."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from posttrain.losses.ratio import MAX_LOG_RATIO, bounded_exp, bounded_expm1, importance_ratio, log_ratio, sequence_ratio

EXTREME = [60.0, 90.0, 800.0, 1e20]


def slope(function, x: float, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """Value and derivative at x."""
    at = torch.tensor([x], dtype=dtype, requires_grad=True)
    value = function(at)
    (gradient,) = torch.autograd.grad(value.sum(), at)
    return value.item(), gradient.item()


@pytest.mark.parametrize("x", [-100.0, -3.0, 0.0, 0.5, 19.9, MAX_LOG_RATIO])
def test_exp_and_its_slope_are_exact_up_to_the_bound(x):
    value, gradient = slope(bounded_exp, x, torch.float64)
    assert value == gradient == pytest.approx(math.exp(x), rel=1e-14)


@pytest.mark.parametrize("function", [bounded_exp, bounded_expm1])
@pytest.mark.parametrize("x", EXTREME)
def test_beyond_the_bound_the_value_is_finite_and_the_slope_is_neither_infinite_nor_zero(function, x):
    value, gradient = slope(function, x)
    assert math.isfinite(value) and value >= math.exp(MAX_LOG_RATIO)
    assert gradient == pytest.approx(math.exp(MAX_LOG_RATIO), rel=1e-6)


def test_the_tangent_meets_the_curve():
    below, above = torch.tensor([MAX_LOG_RATIO - 1e-9, MAX_LOG_RATIO + 1e-9], dtype=torch.float64).split(1)
    assert_close(bounded_exp(below), bounded_exp(above), rtol=1e-8, atol=0)


def test_expm1_keeps_the_digits_that_subtracting_one_would_lose():
    tiny = torch.tensor([1e-9])
    assert bounded_expm1(tiny).item() == pytest.approx(1e-9)
    assert (bounded_exp(tiny) - 1).item() == 0


def test_log_ratios_of_half_precision_are_taken_in_fp32():
    p, q = torch.tensor([-1.0], dtype=torch.bfloat16), torch.tensor([-1.0078125], dtype=torch.bfloat16)
    assert log_ratio(p, q).dtype == torch.float32
    assert log_ratio(p, q).item() == 0.0078125
    assert log_ratio(p.double(), q.double()).dtype == torch.float64


def test_a_policy_that_has_not_moved_has_a_ratio_of_exactly_one():
    logprobs = torch.randn(1000)
    assert importance_ratio(logprobs, logprobs).eq(1).all()


def test_a_sequence_has_the_geometric_mean_of_its_tokens_ratios():
    old = torch.zeros(5)
    new = torch.tensor([2.0, 8.0, 1.0, 3.0, 9.0]).log()
    ratio = sequence_ratio(new, old, torch.tensor([0, 0, 2, 2, 2]), 4)
    assert_close(ratio, torch.tensor([4.0, 4.0, 3.0, 3.0, 3.0]))


def test_the_mean_over_a_sequence_has_the_gradient_of_the_sequences_ratio():
    ids = torch.tensor([0, 0, 0, 1])
    old = torch.randn(4, dtype=torch.float64)
    new = torch.randn(4, dtype=torch.float64, requires_grad=True)
    whole = torch.stack([(new - old)[ids == i].mean().exp() for i in (0, 1)])
    (expected,) = torch.autograd.grad(whole.sum(), new)
    tokens = sequence_ratio(new, old, ids, 2)
    (measured,) = torch.autograd.grad((tokens / torch.tensor([3, 3, 3, 1])).sum(), new)
    assert_close(measured, expected)
    assert_close(tokens, whole[ids])


def test_the_order_of_the_tokens_does_not_matter_to_a_sequence():
    new, old, ids = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 0])
    order = torch.randperm(6)
    assert_close(sequence_ratio(new, old, ids, 3)[order], sequence_ratio(new[order], old[order], ids[order], 3))
