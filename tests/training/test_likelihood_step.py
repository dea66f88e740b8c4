"""Weighted maximum likelihood: its gradient is that of the formula, however the step is cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from posttrain.batching import TokenSequence
from posttrain.losses.reduction import Reduction
from posttrain.training.likelihood import likelihood_step
from tests.algorithms.gradient import CLOSE
from tests.algorithms.toy import difference
from tests.training.steps import ONE_ROW, ROW_TOKENS, collected, sequences, setting, still

WEIGHTS = [0.0, 2.0, 0.5, 1.0] * 4
REDUCTIONS: tuple[Reduction, ...] = ("token", "sequence", "constant")


def step(tokens_per_batch: int, reduction: Reduction = "token", weights: list[float] | None = WEIGHTS, given: list[TokenSequence] | None = None):
    policy = setting()[0]
    found: dict[str, float] = {}
    gradient = collected(policy, lambda: found.update(
        likelihood_step(policy, still(policy), given or sequences(), tokens_per_batch, reduction, weights, max_tokens=16)
    ))  # fmt: skip
    return gradient, found


def loss_by_hand(reduction: Reduction, weights: list[float]) -> Tensor:
    """−Σ weight · log-prob; the weights are in no divisor."""
    parts = setting()[2].logprobs
    n_tokens, n = sum(map(len, parts)), len(parts)
    divisors = {"token": [n_tokens] * n, "sequence": [n * len(part) for part in parts], "constant": [n * 16] * n}[reduction]
    return -sum(w * part.sum() / d for w, part, d in zip(weights, parts, divisors, strict=True))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_is_that_of_the_formula_written_out(reduction: Reduction) -> None:
    gradient, metrics = step(ONE_ROW, reduction)
    loss = loss_by_hand(reduction, WEIGHTS)
    assert difference(gradient, setting()[2].gradient(loss)) < CLOSE
    assert metrics["loss/weighted"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_any_split_into_rows_gives_the_same_gradient(reduction: Reduction) -> None:
    whole, metrics = step(ONE_ROW, reduction)
    for tokens in ROW_TOKENS:
        gradient, cut = step(tokens, reduction)
        assert difference(gradient, whole) < CLOSE
        assert cut == pytest.approx(metrics, rel=1e-5)


def test_without_weights_every_sequence_counts_1() -> None:
    assert difference(step(ONE_ROW, weights=None)[0], step(ONE_ROW, weights=[1.0] * 16)[0]) == 0


def test_the_likelihood_that_is_reported_knows_no_weights() -> None:
    parts = setting()[2].logprobs
    mean = -torch.cat(parts).mean().item()
    for weights in (None, WEIGHTS):
        metrics = step(ONE_ROW, weights=weights)[1]
        assert metrics["loss/nll_nats"] == pytest.approx(mean, rel=1e-5)
        assert metrics["data/trained_tokens"] == sum(map(len, parts))


def test_tokens_that_are_not_marked_are_read_and_not_learned() -> None:
    only_first = [TokenSequence(s.prompt, s.tokens, (True,) + (False,) * (len(s.tokens) - 1)) for s in sequences()]
    gradient, metrics = step(ONE_ROW, weights=None, given=only_first)
    loss = -torch.stack([part[0] for part in setting()[2].logprobs]).mean()
    assert difference(gradient, setting()[2].gradient(loss)) < CLOSE
    assert metrics["data/trained_tokens"] == 16


def test_sequences_without_a_marked_token_are_passed_over_and_without_any_nothing_is_done() -> None:
    silent = TokenSequence((1, 2), (3, 4), (False, False))
    with_silent, _ = step(60, "token", [*WEIGHTS, 5.0], [*sequences(), silent])
    assert difference(with_silent, step(60)[0]) < CLOSE
    policy = setting()[0]
    version = policy.version
    assert likelihood_step(policy, still(policy), [silent], 60) == {} and policy.version == version
