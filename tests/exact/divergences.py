"""KL estimators: what they are worth as values, and where they lead as losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor

from posttrain.losses.kl import k1, k2, k3
from posttrain.losses.policy import reinforce
from posttrain.losses.ratio import importance_ratio
from tests.exact.check import Check, gradient_check
from tests.exact.expectation import Groups, cosine, expected_loss, gradient, gradient_error, kl_divergence, slopes, to_go
from tests.exact.policies import EnumerablePolicy, SoftmaxBandit, bandit, transformer, tree

Estimator = Callable[[Tensor, Tensor], Tensor]
SETTINGS: dict[str, Callable[[int], EnumerablePolicy]] = {"bandit": bandit, "tree": tree, "transformer": transformer}


def _pair(name: str) -> tuple[EnumerablePolicy, EnumerablePolicy]:
    """A policy and its frozen reference."""
    return SETTINGS[name](0), SETTINGS[name](1).requires_grad_(False)


def _expected_penalty(policy: EnumerablePolicy, reference: EnumerablePolicy, estimator: Estimator) -> Tensor:
    """The expected sum over tokens of an estimator, with freshly drawn completions: its gradient is what training would see."""
    ref_n, zeros_S = reference.logprobs(), torch.zeros(len(policy.sequences), dtype=torch.float64)

    def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
        return estimator(logprobs_N, ref_n[groups.token_N])

    return expected_loss(policy, zeros_S, loss=loss)


def ratio_times_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k3 weighted by the importance ratio, whose value is 1 for a fresh sample and whose gradient is not 0."""
    return importance_ratio(logprobs, logprobs.detach()) * k3(logprobs, ref_logprobs)


def _reverse_kl(policy: EnumerablePolicy, reference: EnumerablePolicy) -> Tensor:
    """KL(policy, reference) of whole completions."""
    return kl_divergence(policy.probabilities(), reference.probabilities())


def k1_and_k3_have_the_kl_as_their_mean_and_k2_has_not() -> Iterator[Check]:
    for name in SETTINGS:
        policy, reference = _pair(name)
        true = _reverse_kl(policy, reference).item()
        for estimator in (k1, k3):
            measured = _expected_penalty(policy, reference, estimator).item()
            claim = f"mean of {estimator.__name__}, summed over tokens, is KL(policy, ref) in nats, {name}"
            yield Check("8", claim, true, measured, 1e-12)
        biased = _expected_penalty(policy, reference, k2).item()
        yield Check("8", f"mean of k2 over the KL, less 1: its bias, {name}", 0.05, abs(biased / true - 1), relation=">")


def k3_is_never_negative_and_narrower_than_k1_near_the_reference() -> Iterator[Check]:
    policy, reference = _pair("bandit")
    ref = reference.logprobs()
    near = SoftmaxBandit((0.9 * ref + 0.1 * policy.logprobs()).tolist())
    chance = near.probabilities().detach()
    yield Check("8", "smallest k3 over all tokens, bandit", 0, k3(near.logprobs(), ref).min().item(), relation=">")

    def spread(estimator: Estimator) -> float:
        values = estimator(near.logprobs(), ref)
        return (chance @ (values - chance @ values) ** 2).sqrt().item()

    for estimator in (k2, k3):
        claim = f"standard deviation of {estimator.__name__} over that of k1, bandit near its reference"
        yield Check("8", claim, 0.5, spread(estimator) / spread(k1), relation="<")


def k1_as_a_loss_teaches_nothing() -> Iterator[Check]:
    for name in SETTINGS:
        policy, reference = _pair(name)
        size = gradient(_expected_penalty(policy, reference, k1), policy).norm().item()
        yield Check("9", f"norm of the expected gradient of k1 as a loss, {name}", 0, size, 1e-12)


def on_one_token_k2_is_the_reverse_kl_and_k3_the_forward_kl() -> Iterator[Check]:
    policy, reference = _pair("bandit")
    reverse = slopes(partial(_reverse_kl, policy, reference), policy)
    forward = slopes(lambda: kl_divergence(reference.probabilities(), policy.probabilities()), policy)
    for words, estimator, true in (
        ("k2 as a loss descends KL(policy, ref)", k2, reverse),
        ("ratio times k3 as a loss descends KL(policy, ref)", ratio_times_k3, reverse),
        ("k3 as a loss descends KL(ref, policy)", k3, forward),
    ):
        error = gradient_error(_expected_penalty(policy, reference, estimator), true, policy)
        yield gradient_check("9", words, "bandit", error)
    measured = cosine(_expected_penalty(policy, reference, k3), reverse, policy)
    yield Check("9", "k3 as a loss: cosine with the gradient of KL(policy, ref), bandit", 0.99, measured, relation="<")


def k1_in_the_reward_descends_the_kl_of_sequences() -> Iterator[Check]:
    for name in ("tree", "transformer"):
        policy, reference = _pair(name)
        true = slopes(partial(_reverse_kl, policy, reference), policy)
        penalty_n = k1(policy.logprobs().detach(), reference.logprobs())
        for words, credit_n in (("whole return", None), ("reward-to-go", to_go(policy, penalty_n))):
            loss = expected_loss(policy, -policy.per_sequence(penalty_n), loss=_with_credit(credit_n))
            error = gradient_error(loss, true, policy)
            yield gradient_check("10", f"k1 in the reward, {words}, descends KL(policy, ref)", name, error)


def penalties_in_the_loss_forget_what_a_token_leads_to() -> Iterator[Check]:
    pairs = [(tree(2 * i), tree(2 * i + 1).requires_grad_(False)) for i in range(20)]
    true = [slopes(partial(_reverse_kl, p, ref), p) for p, ref in pairs]
    for words, estimator in (("k2", k2), ("ratio times k3", ratio_times_k3), ("k3", k3)):
        cosines = [cosine(_expected_penalty(p, ref, estimator), t, p) for (p, ref), t in zip(pairs, true, strict=True)]
        claim = f"{words} as a loss, 20 trees: cosine with the gradient of KL(policy, ref)"
        yield Check("10", f"{claim}, lowest", 0.8, min(cosines), relation="<")
        yield Check("10", f"{claim}, median", 0.99, median(cosines), relation="<")
    policy, fork = tree(0), tree(0).requires_grad_(False)
    fork.second_VV[0] = fork.second_VV[0].roll(1)
    true_first = slopes(partial(_reverse_kl, policy, fork), policy)[: len(policy.first_V)].norm().item()
    blind = gradient(_expected_penalty(policy, fork, k2), policy)[: len(policy.first_V)].norm().item()
    words = "policies that differ behind the first token only: gradient norm on the first token"
    yield Check("10", f"{words}, of KL(policy, ref)", 0.1, true_first, relation=">")
    yield Check("10", f"{words}, of k2 as a loss", 0, blind, 1e-12)


def _with_credit(credit_n: Tensor | None) -> Callable[..., Tensor]:
    """REINFORCE with minus a penalty of its own for each token, or with the completion's advantage."""

    def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
        return reinforce(logprobs_N, advantages_N if credit_n is None else -credit_n[groups.token_N])

    return loss


def minus_log_prob_is_no_entropy_bonus() -> Iterator[Check]:
    policy = bandit(0)
    size = gradient(_expected_penalty(policy, policy, lambda logprobs, ref: -logprobs), policy).norm().item()
    yield Check("24", "norm of the expected gradient of -log p as an entropy bonus, bandit", 0, size, 1e-12)
    exact = gradient(-(policy.probabilities() * policy.logprobs()).sum(), policy).norm().item()
    yield Check("24", "norm of the gradient of the entropy itself, bandit", 0.05, exact, relation=">")


def no_log_ratio_overflows_or_goes_dead() -> Iterator[Check]:
    # A ratio that vanishes is right to: an importance ratio is tried in one direction only.
    both, one = (60.0, 700.0, -60.0, -700.0), (60.0, 700.0)
    for function, log_ratios in ((k1, both), (k2, both), (k3, both), (importance_ratio, one)):
        sizes = [size for x in log_ratios for size in _value_and_gradient(function, x)]
        words = f"{function.__name__.replace('_', ' ')}, fp32, log-ratios of 60 to 700"
        yield Check("11", f"{words}: largest value or gradient", 1e30, max(sizes), relation="<")
        yield Check("11", f"{words}: smallest value or gradient", 0.1, min(sizes), relation=">")


def _value_and_gradient(function: Estimator, log_ratio: float) -> tuple[float, float]:
    """Their sizes for one token, by its log-prob."""
    logprobs = torch.tensor([-1.0], requires_grad=True)
    value = function(logprobs, torch.tensor([-1.0 - log_ratio]))
    return value.abs().item(), torch.autograd.grad(value.sum(), logprobs)[0].abs().item()


CHECKS = (
    k1_and_k3_have_the_kl_as_their_mean_and_k2_has_not,
    k3_is_never_negative_and_narrower_than_k1_near_the_reference,
    k1_as_a_loss_teaches_nothing,
    on_one_token_k2_is_the_reverse_kl_and_k3_the_forward_kl,
    k1_in_the_reward_descends_the_kl_of_sequences,
    penalties_in_the_loss_forget_what_a_token_leads_to,
    no_log_ratio_overflows_or_goes_dead,
    minus_log_prob_is_no_entropy_bonus,
)
