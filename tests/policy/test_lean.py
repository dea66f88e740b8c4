"""Modules that keep less for the backward pass give transformers' own values, and the gradients of the same formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP, LlamaRMSNorm

from posttrain.policy.attention import HIDDEN, Rules, _probabilities
from posttrain.policy.lean import make_lean
from posttrain.policy.models import resolve
from tests.small_models import eager_model

WIDTH = 48


def norm(dtype: torch.dtype) -> nn.Module:
    module = LlamaRMSNorm(WIDTH)
    nn.init.normal_(module.weight, 1.0, 0.3)
    return module.to(dtype)


def gated(dtype: torch.dtype, act: str = "silu") -> nn.Module:
    return LlamaMLP(LlamaConfig(hidden_size=WIDTH, num_attention_heads=4, intermediate_size=80, hidden_act=act)).to(dtype)


def rows(dtype: torch.dtype = torch.float32, n: int = 29) -> Tensor:
    return torch.randn(2, n, WIDTH, generator=torch.Generator().manual_seed(3)).to(dtype)


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of input and weights of a sum with uneven weights."""
    x = x.clone().requires_grad_()
    out = module(x)
    (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach(), [x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("make", [norm, gated])
def test_values_are_transformers_own_to_the_last_bit_in_either_dtype(make):
    for dtype in (torch.float32, torch.bfloat16):
        theirs = make(dtype)
        ours = copy.deepcopy(theirs)
        make_lean(ours)
        assert type(ours) is not type(theirs)
        assert torch.equal(ours(rows(dtype)), theirs(rows(dtype)))


@pytest.mark.parametrize("make", [norm, gated])
def test_gradients_are_those_that_autograd_finds(make):
    theirs = make(torch.float32)
    ours = copy.deepcopy(theirs)
    make_lean(ours)
    for mine, plain in zip(gradients(ours, rows())[1], gradients(theirs, rows())[1], strict=True):
        torch.testing.assert_close(mine, plain, rtol=2e-5, atol=2e-6)


def test_bf16_gradients_are_as_close_to_the_exact_ones_as_autograds_own():
    for make in (norm, gated):
        theirs = make(torch.bfloat16)
        ours, exact = copy.deepcopy(theirs), copy.deepcopy(theirs).float()
        make_lean(ours)
        error = lambda found, right: (found.float() - right).norm() / right.norm()  # noqa: E731
        found = [gradients(m, rows(p.dtype))[1] for m, p in ((m, next(m.parameters())) for m in (ours, theirs, exact))]
        for mine, plain, right in zip(*found, strict=True):
            assert error(mine, right) <= 1.1 * error(plain, right) + 1e-4


def test_a_module_that_computes_something_else_is_left_as_it_is():
    for module in (gated(torch.float32, "gelu"), Gemma2RMSNorm(WIDTH), nn.LayerNorm(WIDTH), ACT2FN["silu"]):
        before = type(module)
        make_lean(module)
        assert type(module) is before


def test_a_lean_model_can_be_copied_and_its_copy_has_weights_of_its_own():
    model = eager_model(resolve("tiny"))
    make_lean(model)
    twin = copy.deepcopy(model)
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(input_ids=ids).logits, before)
    assert not twin(input_ids=ids).logits.any()


def test_the_masked_softmax_has_the_softmaxs_gradient():
    scores = torch.randn(2, 1, 3, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    hidden = torch.zeros(8, dtype=torch.float64).masked_fill_(torch.arange(8) > 5, HIDDEN)
    assert torch.autograd.gradcheck(lambda x: _probabilities(x, hidden, Rules(1.0)), (scores,))
    assert not _probabilities(scores, hidden, Rules(1.0))[..., 6:].any()
