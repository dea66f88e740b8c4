"""What training holds at once: nowhere predictions times vocabulary numbers, neither in one tensor nor in many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.vocabularies import Vocabularies
from posttrain.batching import pack
from posttrain.policy.divergence import Divergence, divergences
from posttrain.policy.head import BLOCK, Head
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.recomputed import recompute_layers
from tests.small_models import LargestResult, LiveBytes


def policy_of(vocabulary: int) -> Policy:
    with Vocabularies(width=64).model(vocabulary) as folder:
        return load_policy(str(folder), "float32")


def log_probs(policy: Policy, entropy_weight: float = 0.0) -> Callable[[int], None]:
    """Forward and backward through so many predictions of a policy."""

    def run(n: int) -> None:
        (batch,) = pack([Vocabularies(tokens=n + 1).sequence], n + 1)
        logprobs, entropies = policy.logprobs_and_entropies(batch)
        (logprobs + entropy_weight * entropies).sum().backward()
        policy.model.zero_grad()

    return run


def divergence(kind: Divergence, vocabulary: int, block: int = BLOCK) -> Callable[[int], None]:
    """Forward and backward through so many predictions of a student and a teacher."""
    student, teacher = (Head(torch.randn(vocabulary, 4, requires_grad=learns), block=block) for learns in (True, False))

    def run(n: int) -> None:
        states = torch.randn(n, 4, requires_grad=True)
        divergences(student, states, teacher, torch.randn(n, 4), torch.ones(n), kind).sum().backward()
        student.weight.grad = None

    return run


def largest_result(run: Callable[[int], None], n: int) -> int:
    with LargestResult() as largest:
        run(n)
    return largest.numel


def peak_bytes(run: Callable[[int], None], n: int) -> int:
    with LiveBytes() as live:
        run(n)
    return live.peak


@pytest.mark.parametrize(("run_of", "held"), [
    (lambda v: log_probs(policy_of(v), 0.01), 64 * (1 << 17)), (lambda v: divergence("jsd", v), 4 * (1 << 17)),
], ids=["log-probs, but the embedding's gradient", "divergences"])  # fmt: skip
def test_no_tensor_forward_or_backward_holds_predictions_times_vocabulary(run_of, held):
    vocabulary, n = 1 << 17, 140
    assert largest_result(run_of(vocabulary), n) <= held < n * vocabulary


# 24 predictions more: their logits alone would be four times the bound.


@pytest.mark.parametrize("entropy_weight", [0.0, 0.01])
def test_twice_as_many_log_probs_need_no_more_than_their_block_of_logits(entropy_weight):
    vocabulary = 16 * BLOCK
    run = log_probs(policy_of(vocabulary), entropy_weight)
    assert peak_bytes(run, 48) - peak_bytes(run, 24) < 24 * vocabulary


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_twice_as_many_divergences_need_no_more_than_their_block_of_logits(kind):
    vocabulary = 1 << 15
    run = divergence(kind, vocabulary, block=BLOCK // 4)
    assert peak_bytes(run, 48) - peak_bytes(run, 24) < 24 * vocabulary


def test_the_measure_sees_logits_that_are_kept():
    """24 more predictions of the plain loss keep at least their logits and their log-probs."""
    weight = torch.randn(1 << 15, 4, requires_grad=True)
    run = lambda n: torch.nn.functional.cross_entropy(torch.randn(n, 4) @ weight.T, torch.arange(n)).backward()  # noqa: E731
    assert peak_bytes(run, 48) - peak_bytes(run, 24) > 2 * 24 * len(weight) * 4


def test_layers_that_are_computed_again_keep_no_more_than_what_came_in():
    """Of a token more, a layer keeps its width in numbers, where it kept at least ten times as many: projections, norms, gates."""
    width, n_layers, few, many = 64, 8, 128, 192
    with Vocabularies(width=width, layers=n_layers).model(8192) as folder:
        policy = load_policy(str(folder), "float32")

    def run(n: int) -> None:
        (batch,) = pack([Vocabularies(tokens=n + 1).sequence], n + 1)
        policy.states(batch).sum().backward()
        policy.model.zero_grad()

    grown = lambda: (peak_bytes(run, many) - peak_bytes(run, few)) / ((many - few) * n_layers * width * 4)  # noqa: E731
    assert grown() > 10
    recompute_layers(policy.base)
    assert grown() <= 1
