"""What becomes of the gradient when samples do not come from the distribution that is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor

from posttrain.advantages import leave_one_out
from posttrain.losses.kl import k1
from posttrain.losses.policy import cispo, reinforce
from posttrain.losses.ratio import importance_ratio, log_ratio
from tests.exact.check import Check, gradient_check
from tests.exact.expectation import Groups, TokenLoss, cosine, expected_loss, gradient_error, slopes
from tests.exact.gradients import CLIP_HIGH, CLIP_LOW, SETTINGS, Setting
from tests.exact.policies import EnumerablePolicy, bandit, transformer, tree

TOP_P, TEMPERATURE = 0.8, 0.6


def _rewards(policy: EnumerablePolicy) -> Tensor:
    return torch.randn(len(policy.sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- another policy's samples


def with_unbounded_weights(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    """REINFORCE with each token's own ratio as a fixed weight."""
    return cispo(logprobs_N, old_N, advantages_N, torch.inf, torch.inf)


def with_completion_weights(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    """REINFORCE with the whole completion's probability ratio as a fixed weight in each of its tokens."""
    log_ratio_N = log_ratio(logprobs_N, old_N).detach()
    log_ratio_R = torch.zeros(groups.members_PG.numel(), dtype=log_ratio_N.dtype).index_add(0, groups.rollout_N, log_ratio_N)
    return reinforce(logprobs_N, log_ratio_R.exp()[groups.rollout_N] * advantages_N)


def _off_policy_error(setting: Setting, loss: TokenLoss) -> float:
    """The error of an importance-weighted gradient, sampled from another policy, against the on-policy one."""
    weighted = expected_loss(setting.policy, setting.rewards_S, loss=loss, sampling_n=setting.old_n)
    return gradient_error(-weighted, setting.reward_slopes, setting.policy)


def importance_weights_turn_another_policys_samples_into_ones_own() -> Iterator[Check]:
    words = "samples of another policy, weighted by the ratio of the"
    for setting in SETTINGS:
        error = _off_policy_error(setting, with_completion_weights)
        yield gradient_check("25", f"{words} completion", setting.name, error)
    one_token, *more_tokens = SETTINGS
    error = _off_policy_error(one_token, with_unbounded_weights)
    yield gradient_check("25", f"{words} token", one_token.name, error)
    for setting in more_tokens:
        error = _off_policy_error(setting, with_unbounded_weights)
        yield Check("25", f"{words} token: relative gradient error, {setting.name}", 0.05, error, relation=">")


# ------------------------------------------------------------------------------------------------------- truncated sampling


def kept_tokens(policy: EnumerablePolicy, top_p: float) -> Tensor:
    """Bool[tokens, vocabulary]: the most likely tokens until their mass reaches `top_p`."""
    chance_NV, order_NV = policy.log_distributions().detach().exp().sort(-1, descending=True)
    before_NV = chance_NV.cumsum(-1) - chance_NV
    return torch.zeros_like(chance_NV, dtype=torch.bool).scatter(1, order_NV, before_NV < top_p)


def truncated_logprobs(policy: EnumerablePolicy, kept_NV: Tensor) -> Tensor:
    """Log-probs of all tokens when only the kept ones can be drawn; -inf for the others."""
    return policy.chosen(policy.log_distributions().masked_fill(~kept_NV, -torch.inf).log_softmax(-1))


class Truncated:
    """A policy, what top-p leaves of it, and the gradient of the reward that is then collected."""

    def __init__(self, policy: EnumerablePolicy) -> None:
        self.policy, self.kept_NV, self.rewards_S = policy, kept_tokens(policy, TOP_P), _rewards(policy)
        self.sampling_n = truncated_logprobs(policy, self.kept_NV).detach()
        self.true = slopes(self._collected, policy)

    def _collected(self) -> Tensor:
        return self.policy.per_sequence(truncated_logprobs(self.policy, self.kept_NV)).exp() @ self.rewards_S

    def loss_with_full_logprobs(self) -> Tensor:
        """RLOO on truncated samples with log-probs over the whole vocabulary."""
        return -expected_loss(self.policy, self.rewards_S, leave_one_out, group_size=2, sampling_n=self.sampling_n)

    def loss_with_kept_logprobs(self) -> Tensor:
        """RLOO on truncated samples with log-probs over the tokens that could be drawn."""
        renormalised_n = truncated_logprobs(self.policy, self.kept_NV)

        def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
            return reinforce(renormalised_n[groups.token_N], advantages_N)

        return -expected_loss(self.policy, self.rewards_S, leave_one_out, loss, group_size=2, sampling_n=self.sampling_n)


def truncation_biases_every_ratio_by_the_kept_mass() -> Iterator[Check]:
    truncated = Truncated(bandit(0))
    drawn = truncated.sampling_n.isfinite()
    full_n, sampling_n = truncated.policy.logprobs().detach()[drawn], truncated.sampling_n[drawn]
    measured = (sampling_n.exp() @ importance_ratio(full_n, sampling_n)).item()
    claim = f"top-p {TOP_P}: expected ratio of full to truncated probability is the kept mass, bandit"
    yield Check("26", claim, full_n.exp().sum().item(), measured, 1e-12)


def truncation_biases_the_gradient_of_sequences_only() -> Iterator[Check]:
    one_token, trees = Truncated(bandit(0)), [Truncated(tree(i)) for i in range(20)]
    words = f"top-p {TOP_P}, RLOO with full log-probs"
    measured = cosine(one_token.loss_with_full_logprobs(), one_token.true, one_token.policy)
    yield Check("26", f"{words}: cosine with the true gradient, bandit", 1, measured, 1e-12)
    errors = [gradient_error(t.loss_with_full_logprobs(), t.true, t.policy) for t in trees]
    yield Check("26", f"{words}: median relative gradient error, 20 trees", 0.02, median(errors), relation=">")
    yield Check("26", f"{words}: largest relative gradient error, 20 trees", 0.1, max(errors), relation=">")
    errors = [gradient_error(t.loss_with_kept_logprobs(), t.true, t.policy) for t in trees]
    yield gradient_check("26", f"top-p {TOP_P}, RLOO with log-probs over the kept tokens", "the worst of 20 trees", max(errors))


# --------------------------------------------------------------------------------------------------------------- temperature


def temperature_divides_differences_of_log_probs() -> Iterator[Check]:
    policy = transformer(0)
    at_t_NV, expected_NV = policy.log_distributions(TEMPERATURE), policy.log_distributions() / TEMPERATURE
    error_NV = (at_t_NV - at_t_NV[:, :1]) - (expected_NV - expected_NV[:, :1])
    claim = f"log-prob differences at T = {TEMPERATURE} are those at 1 over T: largest error, transformer"
    yield Check("27", claim, 0, error_NV.abs().max().item(), 1e-12)


def gradients_need_the_temperature_of_the_samples() -> Iterator[Check]:
    policy = transformer(0)
    rewards_S, sampling_n = _rewards(policy), policy.logprobs(TEMPERATURE).detach()
    true = slopes(lambda: policy.per_sequence(policy.logprobs(TEMPERATURE)).exp() @ rewards_S, policy)

    def error_at(temperature: float) -> float:
        def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
            return reinforce(policy.logprobs(temperature)[groups.token_N], advantages_N)

        expected = expected_loss(policy, rewards_S, leave_one_out, loss, group_size=2, sampling_n=sampling_n)
        return gradient_error(-expected * temperature / TEMPERATURE, true, policy)

    words = f"samples at T = {TEMPERATURE}, log-probs"
    yield gradient_check("27", f"{words} at T", "transformer", error_at(TEMPERATURE))
    claim = f"{words} at 1, the scale 1/T put right: relative gradient error, transformer"
    yield Check("27", claim, 0.05, error_at(1.0), relation=">")


def a_forgotten_temperature_looks_like_a_moved_policy() -> Iterator[Check]:
    policy = tree(0)
    old_n = policy.logprobs(TEMPERATURE).detach()
    chance_n = policy.per_sequence(old_n).exp()[policy.sequence_ids] / 2

    def outside_the_clip(temperature: float) -> float:
        ratio_n = importance_ratio(policy.logprobs(temperature).detach(), old_n)
        return (chance_n @ ((ratio_n < 1 - CLIP_LOW) | (ratio_n > 1 + CLIP_HIGH)).double()).item()

    words = f"share of ratios outside the clip before any step, tree: samples at T = {TEMPERATURE}, log-probs"
    yield Check("27", f"{words} at T", 0, outside_the_clip(TEMPERATURE))
    yield Check("27", f"{words} at 1", 0.05, outside_the_clip(1.0), relation=">")


def a_kl_between_two_temperatures_is_not_of_the_policies() -> Iterator[Check]:
    policy = tree(0)
    chance_n = policy.per_sequence(policy.logprobs(TEMPERATURE)).exp()[policy.sequence_ids]

    def kl_to_itself(temperature: float) -> float:
        return (chance_n @ k1(policy.logprobs(TEMPERATURE), policy.logprobs(temperature))).item()

    words = f"KL of a policy to itself, in nats, tree: policy at T = {TEMPERATURE}, reference"
    yield Check("12", f"{words} at T", 0, kl_to_itself(TEMPERATURE), 1e-12)
    yield Check("12", f"{words} at 1", 0.01, kl_to_itself(1.0), relation=">")


CHECKS = (
    importance_weights_turn_another_policys_samples_into_ones_own,
    truncation_biases_every_ratio_by_the_kept_mass,
    truncation_biases_the_gradient_of_sequences_only,
    temperature_divides_differences_of_log_probs,
    gradients_need_the_temperature_of_the_samples,
    a_forgotten_temperature_looks_like_a_moved_policy,
    a_kl_between_two_temperatures_is_not_of_the_policies,
)
