"""The blocked head: the numbers of the dense one, by hand and by reference, without the dense one's memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from posttrain.policy.head import BLOCK, Head, Partition, tempered_logprobs
from tests.small_models import LargestResult, dense_head


class Case:
    """Random hidden states and weights, and what both heads make of them."""

    def __init__(self, n=10, d=6, v=20, vocab=None, bias=False, scale=1.0, softcap=None, temperature=None, seed=0, dtype=torch.float32,
                 block=7) -> None:  # fmt: skip
        """Seven tokens to a block, so that a small vocabulary makes several."""
        generator = torch.Generator().manual_seed(seed)
        rand = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)  # noqa: E731
        self.hidden, self.weight, self.bias = rand(n, d), rand(v, d), rand(v) if bias else None
        self.targets = torch.randint(0, vocab or v, (n,), generator=generator)
        self.temperatures = torch.rand(n, generator=generator) + 0.5 if temperature is None else torch.full((n,), temperature)
        self.grads = torch.randn(2, n, generator=generator)
        self.settings = {"vocab_size": vocab, "scale": scale, "softcap": softcap, "block": block}

    def measured(self) -> list[Tensor]:
        """Log-probs, entropies, and the gradients of a weighted sum of both."""
        inputs = self._inputs(lambda x: x)
        head = Head(inputs[1], inputs[2], **self.settings)
        return self._with_gradients(head.logprobs(inputs[0], self.targets, self.temperatures), inputs)

    def expected(self) -> list[Tensor]:
        inputs = self._inputs(lambda x: x.double())
        return self._with_gradients(dense_head(Head(inputs[1], **self.settings), *inputs, self.targets, self.temperatures), inputs)

    def _inputs(self, cast) -> list[Tensor | None]:
        return [None if x is None else cast(x).detach().requires_grad_() for x in (self.hidden, self.weight, self.bias)]

    def _with_gradients(self, outputs: tuple[Tensor, Tensor], inputs: list[Tensor | None]) -> list[Tensor]:
        wanted = [x for x in inputs if x is not None]
        return [*outputs, *torch.autograd.grad((torch.stack(outputs) * self.grads).sum(), wanted)]


def assert_equal_to_dense(case: Case, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    for measured, expected in zip(case.measured(), case.expected(), strict=True):
        assert_close(measured.double(), expected.detach(), rtol=rtol, atol=atol)


# ---------------------------------------------------------------------------------------------------------- known by hand


LOGS = torch.tensor([[0.0], [math.log(2)], [math.log(5)]])
"""Embeddings of three tokens with odds 1 : 2 : 5 for the hidden state 1."""


def by_hand(head: Head, target: int, temperature: float = 1.0, hidden: float = 1.0) -> tuple[float, float]:
    logprobs, entropies = head.logprobs(torch.tensor([[hidden]]), torch.tensor([target]), torch.tensor([temperature]))
    return logprobs.item(), entropies.item()


def entropy_of(*odds: float) -> float:
    return -sum(x / sum(odds) * math.log(x / sum(odds)) for x in odds)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_log_probs_and_entropy_of_known_odds(target):
    expected = math.log([1, 2, 5][target] / 8), entropy_of(1, 2, 5)
    assert by_hand(Head(LOGS), target) == pytest.approx(expected, abs=1e-6)


def test_temperature_one_half_squares_the_odds():
    assert by_hand(Head(LOGS), 1, temperature=0.5) == pytest.approx((math.log(4 / 30), entropy_of(1, 4, 25)), abs=1e-6)


def test_a_scale_of_two_squares_the_odds():
    assert by_hand(Head(LOGS, scale=2.0), 1) == pytest.approx((math.log(4 / 30), entropy_of(1, 4, 25)), abs=1e-6)


def test_a_bias_multiplies_the_odds():
    bias = torch.tensor([math.log(3), 0.0, 0.0])
    assert by_hand(Head(LOGS, bias), 0) == pytest.approx((math.log(3 / 10), entropy_of(3, 2, 5)), abs=1e-6)


def test_a_cap_bounds_the_logits_after_the_scale_and_before_the_temperature():
    head = Head(torch.tensor([[0.0], [1.0]]), scale=1e6, softcap=3.0)
    assert by_hand(head, 1, temperature=3.0) == pytest.approx((1 - math.log(1 + math.e), entropy_of(1, math.e)), abs=1e-6)


def test_rows_of_padding_have_no_probability():
    padded = torch.cat([LOGS, torch.tensor([[50.0], [60.0]])])
    assert by_hand(Head(padded, vocab_size=3), 2) == by_hand(Head(LOGS), 2)
    assert Head(padded, vocab_size=3).logits(torch.ones(4, 1)).shape == (4, 3)


def test_the_gradient_of_a_log_prob_is_its_embedding_less_the_mean_one():
    hidden = torch.ones(1, 1, requires_grad=True)
    Head(LOGS).logprobs(hidden, torch.tensor([1]), torch.ones(1))[0].backward()
    mean = (2 * math.log(2) + 5 * math.log(5)) / 8
    assert hidden.grad.item() == pytest.approx(math.log(2) - mean, abs=1e-6)


def test_equal_odds_have_the_most_entropy_and_no_slope():
    hidden = torch.zeros(1, 1, requires_grad=True)
    measured = Head(LOGS).logprobs(hidden, torch.tensor([1]), torch.ones(1))[1]
    measured.backward()
    assert measured.item() == pytest.approx(math.log(3), abs=1e-6)
    assert hidden.grad.item() == pytest.approx(0, abs=1e-7)


def test_a_token_as_good_as_certain_has_entropy_0():
    assert by_hand(Head(LOGS), 2, hidden=1e4) == (0.0, 0.0)
    partition = Partition(with_entropy=True)
    partition.add(torch.tensor([[0.0, -200.0]]))
    assert partition.entropies.item() == 0.0


def test_log_probs_at_a_temperature_differ_by_logits_over_temperature():
    logits = torch.randn(5, 7)
    at_half = tempered_logprobs(logits, torch.full((5,), 0.5))
    assert_close(at_half - at_half[:, :1], 2 * (logits - logits[:, :1]))


# --------------------------------------------------------------------------------------------------------- against dense


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.0},
        {"bias": True},
        {"scale": 0.3},
        {"softcap": 2.0},
        {"vocab": 13},
        {"bias": True, "scale": 1.7, "softcap": 1.5, "vocab": 17},
        {"n": 3},
        {"n": 1},
    ],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_dense_head(settings):
    assert_equal_to_dense(Case(**settings))


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(2, 30), st.booleans(), st.sampled_from([None, 2.0]), st.integers(0, 99))
def test_whatever_the_shape_the_blocks_do_not_show(n, d, v, bias, softcap, seed):
    assert_equal_to_dense(Case(n, d, v, max(1, v - 3), bias, 1.3, softcap, seed=seed))


def test_the_products_own_block_gives_the_same_as_small_ones():
    for whole, cut in zip(Case(n=17, block=BLOCK).measured(), Case(n=17).measured(), strict=True):
        assert_close(whole, cut, rtol=1e-5, atol=1e-6)


def test_padding_gets_no_gradient_at_all():
    _, _, _, grad_weight, grad_bias = Case(vocab=13, bias=True).measured()
    assert grad_weight[13:].eq(0).all() and grad_bias[13:].eq(0).all()
    assert grad_weight[:13].ne(0).all() and grad_bias[:13].ne(0).all()


def test_log_probs_alone_and_entropies_alone_have_their_own_gradients():
    case = Case()
    both = case.measured()
    case.grads[0] = 0
    entropies = case.measured()
    case.grads = Case().grads
    case.grads[1] = 0
    logprobs = case.measured()
    for a, b, total in zip(logprobs[2:], entropies[2:], both[2:], strict=True):
        assert_close(a + b, total)
    assert_equal_to_dense(case)


def test_a_frozen_embedding_gets_no_gradient_and_costs_none():
    case = Case()
    hidden = case.hidden.requires_grad_()
    Head(case.weight, block=7).logprobs(hidden, case.targets, case.temperatures)[0].sum().backward()
    assert case.weight.grad is None and hidden.grad is not None


def test_no_predictions_are_no_log_probs():
    case = Case(n=0)
    logprobs, entropies, grad_hidden, grad_weight = case.measured()
    assert logprobs.shape == entropies.shape == (0,) and logprobs.dtype == torch.float32
    assert grad_hidden.shape == (0, 6) and grad_weight.eq(0).all()


def test_in_bf16_reductions_are_in_fp32():
    """What remains is the rounding of logits (8 bits) and of the results: without it, the same bounds as in fp32."""
    case = Case(n=64, d=32, v=500, dtype=torch.bfloat16, temperature=1.0)
    logits = case.hidden @ case.weight.T
    logprobs, entropies, *grads = case.measured()
    assert logprobs.dtype == entropies.dtype == torch.float32
    rounded = logits.double().log_softmax(-1)
    assert_close(logprobs.double(), rounded.gather(1, case.targets[:, None])[:, 0], rtol=0, atol=1e-4)
    assert_close(entropies.double(), -(rounded.exp() * rounded).sum(-1), rtol=0, atol=1e-4)
    for measured, expected in zip(grads, case.expected()[2:], strict=True):
        assert measured.dtype == torch.bfloat16
        assert ((measured.double() - expected).norm() / expected.norm()).item() < 0.02


# ----------------------------------------------------------------------------------------------------------------- memory


def test_all_logits_are_never_held_at_once_neither_forward_nor_backward():
    n, v = 100, 1 << 18
    case = Case(n=n, d=2, v=v, block=BLOCK)
    with LargestResult() as largest:
        case.measured()
    assert largest.numel == max(n * BLOCK, 2 * v)  # a block of logits, or the embedding's gradient


@pytest.mark.parametrize("size", [1, 6, 7, 8, 20])
def test_the_blocks_are_the_vocabulary_in_order(size):
    blocks = Head(torch.empty(30, 1), vocab_size=size, block=7).blocks
    assert [i for block in blocks for i in range(30)[block]] == list(range(size))


# -------------------------------------------------------------------------------------------------------------- partition


def test_a_partition_of_two_blocks_by_hand():
    partition = Partition(with_entropy=True)
    partition.add(torch.tensor([[0.0, math.log(2)]]))
    partition.add(torch.tensor([[math.log(5)]]))
    assert partition.log_z.item() == pytest.approx(math.log(8), abs=1e-6)
    assert partition.entropies.item() == pytest.approx(entropy_of(1, 2, 5), abs=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_a_block_far_below_or_above_the_others_does_no_harm(order):
    partition = Partition(with_entropy=True)
    for logits in [torch.tensor([[1000.0, 1000.0]]), torch.tensor([[-1000.0]])][::order]:
        partition.add(logits)
    assert partition.log_z.item() == pytest.approx(1000 + math.log(2), rel=1e-6)
    assert partition.entropies.item() == pytest.approx(math.log(2), abs=1e-6)


def test_all_log_probs_are_those_of_the_chosen_tokens_however_many_rows():
    case = Case(n=40, d=16, v=50)
    head = Head(case.weight, block=7)
    everything, masses = head.distribution(case.hidden, case.temperatures)
    few, _ = head.distribution(case.hidden[3:8], case.temperatures[3:8])
    chosen = head.logprobs(case.hidden, case.targets, case.temperatures)[0]
    assert_close(everything.gather(1, case.targets[:, None])[:, 0], chosen, rtol=1e-6, atol=1e-5)
    assert_close(everything[3:8], few, rtol=1e-6, atol=1e-5)
    assert_close(masses, torch.stack([block.exp().sum(-1) for block in everything.split(7, -1)], -1), rtol=1e-5, atol=1e-6)
