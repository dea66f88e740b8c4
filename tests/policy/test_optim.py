"""AdamW on fp32 masters: by hand, in bf16, over minibatches, across nan and across a resume."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.types import UserError

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
UNCUT = float("inf")


def parameter(values: list[float], dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def optimizer(parameters: list[nn.Parameter], **config: float) -> Optimizer:
    return Optimizer(parameters, AdamWConfig(**{"learning_rate": 0.1, "max_grad_norm": UNCUT} | config))


def push(parameter: nn.Parameter, gradient: list[float]) -> None:
    """Give the parameter this gradient, through autograd."""
    (parameter * torch.tensor(gradient, dtype=parameter.dtype)).sum().backward()


# ----------------------------------------------------------------------------------------------------------------- by hand


@DTYPES
def test_the_first_step_goes_by_the_learning_rate_against_the_gradients_sign(dtype):
    weight = parameter([1.0, 1.0, 1.0], dtype)
    opt = optimizer([weight], learning_rate=0.25)
    push(weight, [3.0, -0.01, 0.0])
    assert opt.step() == pytest.approx(3.0, rel=1e-4)
    assert_close(weight.detach().float(), torch.tensor([0.75, 1.25, 1.0]), rtol=0, atol=1e-5)


def test_two_steps_are_adams():
    weight = parameter([1.0])
    opt = optimizer([weight], beta1=0.9, beta2=0.95, eps=1e-8)
    for gradient in (1.0, 2.0):
        push(weight, [gradient])
        opt.step()
    mean, square = (0.9 * 0.1 * 1 + 0.1 * 2) / (1 - 0.9**2), (0.95 * 0.05 * 1 + 0.05 * 4) / (1 - 0.95**2)
    assert weight.item() == pytest.approx(1 - 0.1 - 0.1 * mean / square**0.5, abs=1e-6)


def test_weight_decay_is_decoupled_from_the_gradient():
    weight = parameter([2.0])
    opt = optimizer([weight], weight_decay=0.5)
    push(weight, [0.0])
    opt.step()
    assert weight.item() == pytest.approx(2 - 0.1 * 0.5 * 2)


def test_the_rate_climbs_linearly_and_then_stays():
    opt = optimizer([parameter([1.0])], warmup_steps=4, learning_rate=0.8)
    rates = []
    for _ in range(6):
        opt.step()
        rates.append(opt.learning_rate)
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


@DTYPES
def test_the_norm_of_all_weights_together_is_cut(dtype):
    weights = [parameter([1.0], dtype), parameter([1.0, 1.0], dtype)]
    opt = optimizer(weights, max_grad_norm=1.0, beta1=0.5)
    push(weights[0], [3.0])
    push(weights[1], [0.0, 4.0])
    assert opt.step() == pytest.approx(5.0)
    means = torch.cat([opt.adamw.state[master]["exp_avg"] for master in opt.masters])
    assert_close(means, 0.5 * torch.tensor([0.6, 0.0, 0.8]), rtol=1e-5, atol=0)


def test_a_gradient_below_the_bound_is_not_cut():
    weight = parameter([1.0])
    opt = optimizer([weight], max_grad_norm=1.0, beta1=0.5)
    push(weight, [0.25])
    assert opt.step() == 0.25
    assert opt.adamw.state[weight]["exp_avg"].item() == 0.125


def test_a_model_without_weights_to_train_is_refused():
    with pytest.raises(UserError, match="no weights to train"):
        Optimizer([], AdamWConfig())


# -------------------------------------------------------------------------------------------------------------------- bf16


def test_steps_too_small_for_bf16_add_up():
    weight, rate = parameter([1.0], torch.bfloat16), 1e-4
    opt = optimizer([weight], learning_rate=rate)
    seen = []
    for _ in range(200):
        push(weight, [1.0])
        opt.step()
        seen.append(weight.item())
    assert seen[0] == 1.0, "a single step rounds to nothing"
    assert opt.masters[0].item() == pytest.approx(1 - 200 * rate, abs=1e-5)
    assert weight.item() == pytest.approx(1 - 200 * rate, abs=2**-8)


def test_gradients_of_minibatches_are_added_in_fp32():
    weight = parameter([1.0], torch.bfloat16)
    opt = optimizer([weight])
    small = 2.0**-9
    for gradient in [1.0] + [small] * 1000:
        push(weight, [gradient])
    assert (torch.ones(1, dtype=torch.bfloat16) + small).item() == 1.0, "in bf16 they would be lost one by one"
    assert opt.step() == 1 + 1000 * small


def test_a_bf16_weight_is_its_master_rounded():
    weight = parameter(torch.randn(100).tolist(), torch.bfloat16)
    opt = optimizer([weight], learning_rate=0.01)
    push(weight, torch.randn(100).tolist())
    opt.step()
    assert torch.equal(weight.detach(), opt.masters[0].detach().bfloat16())
    assert not torch.equal(weight.detach().float(), opt.masters[0])


def test_fp32_weights_are_their_own_masters():
    weight = parameter([1.0])
    assert optimizer([weight]).masters[0] is weight


@DTYPES
def test_a_step_uses_its_gradients_up(dtype):
    weight = parameter([1.0], dtype)
    opt = optimizer([weight])
    for _ in range(2):
        push(weight, [1.0])
        assert opt.step() == 1.0


# --------------------------------------------------------------------------------------------------------------------- nan


@DTYPES
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_skipped_and_counted(dtype, bad):
    weights, twin = ([parameter([1.0, 2.0], dtype), parameter([3.0], dtype)] for _ in range(2))
    opt, other = optimizer(weights), optimizer(twin)
    push(weights[0], [bad, 1.0])
    push(weights[1], [1.0])
    assert not torch.tensor(opt.step()).isfinite()
    assert (opt.n_skipped, opt.n_steps) == (1, 1)
    assert torch.cat([w.detach() for w in weights]).tolist() == [1.0, 2.0, 3.0]
    for parameters, each in ((weights, opt), (twin, other)):
        push(parameters[0], [1.0, -1.0])
        each.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, twin, strict=True)), "nothing of the bad gradient is left"


# ------------------------------------------------------------------------------------------------------- taken up where left


def gradients(seed: int) -> list[list[float]]:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)).tolist()


def saved_and_loaded(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def run(dtype: torch.dtype, resume_after: int | None = None) -> Tensor:
    """Weights after 8 steps, of which the fifth brings no gradient; stopped and taken up again if asked."""
    weight = parameter([0.5, 1.0, 2.0, 3.0, 4.0], dtype)
    opt = optimizer([weight], learning_rate=0.01, max_grad_norm=1.0, warmup_steps=3, weight_decay=0.1)
    for i, gradient in enumerate(gradients(0)):
        if i == resume_after:
            state, weight = saved_and_loaded(opt.state_dict()), nn.Parameter(weight.detach().clone())
            opt = optimizer([weight], learning_rate=0.01, max_grad_norm=1.0, warmup_steps=3, weight_decay=0.1)
            opt.load_state_dict(state)
        if i != 4:
            push(weight, gradient)
        opt.step()
    assert (opt.n_steps, opt.n_skipped) == (8, 0)
    return torch.cat([weight.detach().float(), opt.masters[0].detach()])


@DTYPES
@pytest.mark.parametrize("resume_after", range(8))
def test_a_resumed_optimizer_goes_on_to_the_bit(dtype, resume_after):
    assert torch.equal(run(dtype, resume_after), run(dtype))


def test_a_step_without_gradients_is_a_step_with_gradients_of_zero():
    weights = [parameter([1.0]), parameter([1.0])]
    for weight, silent in zip(weights, (True, False), strict=True):
        opt = optimizer([weight])
        push(weight, [1.0])
        opt.step()
        opt.masters[0].grad = None if silent else torch.zeros(1)
        assert opt.step() == 0.0
    assert torch.equal(*weights) and weights[0].item() < 0.9


def test_skipped_steps_are_part_of_the_state():
    weight = parameter([1.0])
    opt = optimizer([weight])
    push(weight, [float("nan")])
    opt.step()
    again = optimizer([weight])
    again.load_state_dict(saved_and_loaded(opt.state_dict()))
    assert (again.n_steps, again.n_skipped) == (1, 1)
