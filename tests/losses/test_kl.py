"""KL estimators by hand. What their expectations and expected gradients are is in `exact/`."""

from __future__ import annotations

import math

import pytest
import torch

from posttrain.losses.kl import k1, k2, k3

every_estimator = pytest.mark.parametrize("estimator", [k1, k2, k3], ids=lambda f: f.__name__)


def value_and_slope(estimator, logprob: float, ref_logprob: float, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """The estimate for one token, and its derivative by the policy's log-prob."""
    logprobs = torch.tensor([logprob], dtype=dtype, requires_grad=True)
    value = estimator(logprobs, torch.tensor([ref_logprob], dtype=dtype))
    return value.item(), torch.autograd.grad(value.sum(), logprobs)[0].item()


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [(k1, math.log(2), 1), (k2, math.log(2) ** 2 / 2, math.log(2)), (k3, 0.5 - 1 + math.log(2), 1 - 0.5)],
)
def test_a_token_twice_as_likely_as_under_the_reference(estimator, value, slope):
    assert value_and_slope(estimator, math.log(0.5), math.log(0.25), torch.float64) == pytest.approx((value, slope))


@every_estimator
def test_equal_policies_are_exactly_no_distance_apart(estimator):
    logprobs = torch.randn(100)
    assert not estimator(logprobs, logprobs).any()


@every_estimator
@pytest.mark.parametrize("log_ratio", [60.0, -60.0, 500.0, -500.0])
def test_no_log_ratio_makes_an_estimate_or_its_gradient_overflow_or_the_gradient_vanish(estimator, log_ratio):
    value, slope = value_and_slope(estimator, -1.0 + log_ratio, -1.0)
    assert math.isfinite(value) and math.isfinite(slope) and slope != 0


def test_a_token_that_only_the_reference_likes_pulls_as_hard_at_any_distance():
    for log_ratio in (25.0, 60.0, 500.0):
        assert value_and_slope(k3, -1.0 - log_ratio, -1.0)[1] == pytest.approx(1 - math.exp(20), rel=1e-6)


def test_k3_is_not_negative_and_keeps_its_digits_near_zero():
    size = 10.0 ** torch.arange(-9, 1.3, 0.05)
    x = torch.cat([size, -size])
    exact = k3(x.double(), torch.zeros(len(x)).double())
    error = (k3(x, torch.zeros(len(x))).double() - exact).abs()
    rounding = torch.finfo(torch.float32).eps * torch.maximum(x.abs().double(), exact)
    assert (exact >= 0).all() and (error <= 2 * rounding).all()


@every_estimator
def test_half_precision_is_widened(estimator):
    logprobs = torch.tensor([-1.0], dtype=torch.bfloat16)
    assert estimator(logprobs, logprobs).dtype == torch.float32


@every_estimator
def test_no_tokens_no_values_and_a_nan_is_not_hidden(estimator):
    assert estimator(torch.zeros(0), torch.zeros(0)).shape == (0,)
    assert estimator(torch.tensor([math.nan]), torch.zeros(1)).isnan().all()
