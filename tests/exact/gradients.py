"""Expected gradients of the policy-gradient estimators, against finite differences of what they should climb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import comb, sqrt

import numpy as np
import torch
from torch import Tensor

from posttrain.advantages import group_mean, leave_one_out, max_rl, std_scaled
from posttrain.losses.policy import cispo, clip_fraction, clipped_surrogate, gspo
from posttrain.losses.ratio import importance_ratio
from posttrain.losses.reduction import Reduction
from tests.exact.check import Check, gradient_check
from tests.exact.expectation import (
    Groups,
    TokenLoss,
    as_reinforce,
    expected,
    expected_loss,
    gradient,
    gradient_error,
    itself,
    slopes,
)
from tests.exact.policies import EnumerablePolicy, bandit, coin, transformer, tree

CLIP_LOW, CLIP_HIGH = 0.2, 0.28


@dataclass(frozen=True)
class Setting:
    """A policy and the rewards of its completions, both arbitrary and fixed."""

    name: str
    make: Callable[[int], EnumerablePolicy]
    group_size: int

    @cached_property
    def policy(self) -> EnumerablePolicy:
        return self.make(0)

    @cached_property
    def old_n(self) -> Tensor:
        """Log-probs of all tokens under another policy, from which off-policy samples come."""
        return self.make(1).logprobs().detach()

    @cached_property
    def rewards_S(self) -> Tensor:
        return torch.randn(len(self.policy.sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    @cached_property
    def correct_S(self) -> Tensor:
        """Rewards of 0 and 1."""
        return (self.rewards_S > 0.3).double()

    @cached_property
    def reward_slopes(self) -> Tensor:
        return slopes(expected(self.policy, self.rewards_S), self.policy)


SETTINGS = (Setting("bandit", bandit, 3), Setting("tree", tree, 3), Setting("transformer", transformer, 2))


def as_clipped(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    return clipped_surrogate(logprobs_N, old_N, advantages_N, CLIP_LOW, CLIP_HIGH)


def as_cispo(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    return cispo(logprobs_N, old_N, advantages_N, 1.0, 1.0)


def as_gspo(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    return gspo(logprobs_N, old_N, advantages_N, groups.rollout_N, groups.members_PG.numel(), CLIP_LOW, CLIP_HIGH)


def _against_reward(
    item: str,
    claim: str,
    advantage: Callable[[Tensor], Tensor],
    loss: TokenLoss = as_reinforce,
    factor: Callable[[int], float] = lambda size: 1.0,
) -> Iterator[Check]:
    """The error of an estimator's expected gradient against the expected reward's, times a known factor."""
    for setting in SETTINGS:
        size = 1 if advantage is itself else setting.group_size
        measured = expected_loss(setting.policy, setting.rewards_S, advantage, loss, size)
        error = gradient_error(-measured, factor(size) * setting.reward_slopes, setting.policy)
        yield gradient_check(item, claim, setting.name, error)


def reinforce_climbs_the_expected_reward() -> Iterator[Check]:
    yield from _against_reward("14", "REINFORCE climbs E[r]", itself)


def leave_one_out_climbs_the_expected_reward() -> Iterator[Check]:
    yield from _against_reward("14", "RLOO climbs E[r]", leave_one_out)


def group_mean_climbs_the_expected_reward_a_little_slower() -> Iterator[Check]:
    yield from _against_reward("14", "group mean climbs (G-1)/G E[r]", group_mean, factor=lambda size: (size - 1) / size)


def the_first_clipped_step_is_reinforce() -> Iterator[Check]:
    yield from _against_reward("18", "clipped surrogate, on-policy, climbs E[r]", leave_one_out, as_clipped)


def the_first_cispo_step_is_reinforce() -> Iterator[Check]:
    yield from _against_reward("19", "CISPO, on-policy, climbs E[r]", leave_one_out, as_cispo)


def the_first_gspo_step_is_reinforce() -> Iterator[Check]:
    yield from _against_reward("19", "GSPO summed over tokens, on-policy, climbs E[r]", leave_one_out, as_gspo)


def reducing_by_sequence_climbs_the_reward_per_token() -> Iterator[Check]:
    for setting in SETTINGS:
        policy, per_token_S = setting.policy, setting.rewards_S / setting.policy.lengths
        true = slopes(expected(policy, per_token_S), policy)
        for name, loss in (("clipped surrogate", as_clipped), ("GSPO", as_gspo)):
            error = gradient_error(-expected_loss(policy, setting.rewards_S, loss=loss, over="sequence"), true, policy)
            yield gradient_check("16", f"{name} by sequence, raw rewards, climbs E[r / length]", setting.name, error)


def _binary_weight(success: float, size: int, divisor: Callable[[int], float]) -> float:
    """How much (r - mean) / divisor(successes) multiplies the gradient of the success rate: a sum over the binomial."""

    def term(k: int) -> float:
        chance = comb(size, k) * success**k * (1 - success) ** (size - k)
        return chance * (k / size) * (1 - k / size) / divisor(k)

    return sum(term(k) for k in range(1, size)) / (success * (1 - success))


def std_weight(success: float, size: int) -> float:
    """The weight of GRPO's division by the standard deviation (that of a sample: over G - 1)."""
    return _binary_weight(success, size, lambda k: sqrt(k * (size - k) / size / (size - 1)))


def std_scaled_weighs_a_problem_by_its_success_rate() -> Iterator[Check]:
    for setting in SETTINGS:
        policy, correct_S = setting.policy, setting.correct_S
        true = slopes(expected(policy, correct_S), policy)
        weight = std_weight((policy.probabilities() @ correct_S).item(), setting.group_size)
        loss = expected_loss(policy, correct_S, lambda r: std_scaled(r, eps=1e-12), group_size=setting.group_size)
        words = "GRPO with std follows w times the gradient of P(success), w in closed form"
        yield gradient_check("15", words, setting.name, gradient_error(-loss, weight * true, policy))


def max_rl_climbs_the_first_terms_of_the_log_of_success() -> Iterator[Check]:
    for setting in SETTINGS:
        policy, correct_S, size = setting.policy, setting.correct_S, setting.group_size

        def first_terms(policy: EnumerablePolicy = policy, correct_S: Tensor = correct_S, size: int = size) -> Tensor:
            failure = policy.probabilities() @ (1 - correct_S)
            return -torch.stack([failure**k / k for k in range(1, size)]).sum()

        error = gradient_error(-expected_loss(policy, correct_S, max_rl, group_size=size), slopes(first_terms, policy), policy)
        yield gradient_check("14", "MaxRL climbs -sum_(k<G) P(failure)^k / k", setting.name, error)


def _success_gradient(success: float, advantage: Callable[[Tensor], Tensor], size: int = 8) -> float:
    """The expected gradient on the logit of the right arm of a coin."""
    policy = coin(success)
    loss = expected_loss(policy, torch.tensor([0.0, 1.0], dtype=torch.float64), advantage, group_size=size)
    return gradient(-loss, policy)[1].item()


def three_baselines_give_three_gradients() -> Iterator[Check]:
    true, words = 0.1 * 0.9, "success rate .1, G = 8: gradient"
    yield Check("14", f"{words} of RLOO", true, _success_gradient(0.1, leave_one_out), 1e-12)
    yield Check("14", f"{words} with the group mean", true * 7 / 8, _success_gradient(0.1, group_mean), 1e-12)
    yield Check("14", f"{words} of GRPO with std", true * std_weight(0.1, 8), _success_gradient(0.1, std_scaled), 1e-5)


def dividing_by_std_favours_easy_and_hard_problems() -> Iterator[Check]:
    words = "GRPO with std, G = 8: its gradient over the true one"
    weights = {q: _success_gradient(q, std_scaled) / (q * (1 - q)) for q in (0.02, 0.1, 0.5, 0.9, 0.98)}
    for success, measured in weights.items():
        yield Check("15", f"{words}, success rate {success}", std_weight(success, 8), measured, 1e-4)
    measured = weights[0.02] / weights[0.5]
    yield Check("15", f"{words}, at .02 relative to .5", std_weight(0.02, 8) / std_weight(0.5, 8), measured, 1e-4)


@dataclass(frozen=True)
class Drawn:
    """The tokens of all completions as another policy draws them, in numpy: what the exact objectives below sum over."""

    sequence_n: np.ndarray
    old_n: np.ndarray
    chance_n: np.ndarray
    """Of the completion that the token belongs to."""
    rewards_n: np.ndarray
    lengths_n: np.ndarray


def _drawn(setting: Setting) -> Drawn:
    ids, old_n = setting.policy.sequence_ids, setting.old_n
    chance_n = setting.policy.per_sequence(old_n).exp()[ids]
    rewards_n, lengths_n = setting.rewards_S[ids], setting.policy.lengths[ids]
    return Drawn(ids.numpy(), old_n.numpy(), chance_n.numpy(), rewards_n.numpy(), lengths_n.numpy())


def _pessimistic(ratio: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """PPO's value: above the bound for good actions, and below it for bad ones, the ratio earns no more."""
    return np.where(advantages > 0, np.minimum(ratio, 1 + CLIP_HIGH), np.maximum(ratio, 1 - CLIP_LOW)) * advantages


def clipped_objective(new_n: np.ndarray, drawn: Drawn) -> float:
    return (drawn.chance_n * _pessimistic(np.exp(new_n - drawn.old_n), drawn.rewards_n)).sum()


def gspo_objective(new_n: np.ndarray, drawn: Drawn) -> float:
    """Each completion once: its value in each of its tokens, over their number."""
    log_ratio_S = np.bincount(drawn.sequence_n, new_n - drawn.old_n)
    ratio_n = np.exp(log_ratio_S[drawn.sequence_n] / drawn.lengths_n)
    return (drawn.chance_n / drawn.lengths_n * _pessimistic(ratio_n, drawn.rewards_n)).sum()


def _off_policy_error(
    setting: Setting, loss: TokenLoss, over: Reduction, objective: Callable[[np.ndarray, Drawn], float]
) -> float:
    """The error of an off-policy estimator against finite differences of its exact expected value."""
    policy, drawn = setting.policy, _drawn(setting)
    true = slopes(lambda: torch.tensor(objective(policy.logprobs().numpy(), drawn), dtype=torch.float64), policy)
    measured = expected_loss(policy, setting.rewards_S, loss=loss, over=over, sampling_n=setting.old_n)
    return gradient_error(-measured, true, policy)


def the_clipped_surrogate_climbs_its_objective_off_policy() -> Iterator[Check]:
    for setting in SETTINGS:
        error = _off_policy_error(setting, as_clipped, "constant", clipped_objective)
        yield gradient_check("18", "clipped surrogate, off-policy, climbs its exact objective", setting.name, error)
        ratio_n = importance_ratio(setting.policy.logprobs().detach(), setting.old_n)
        stopped = clip_fraction(ratio_n, setting.rewards_S[setting.policy.sequence_ids], CLIP_LOW, CLIP_HIGH)
        claim = f"clipped surrogate, off-policy: share of tokens that the clip stops, the rarer side, {setting.name}"
        yield Check("18", claim, 0, min(stopped).item(), relation=">")


def gspo_climbs_its_sequence_objective_off_policy() -> Iterator[Check]:
    for setting in SETTINGS:
        error = _off_policy_error(setting, as_gspo, "sequence", gspo_objective)
        yield gradient_check("19", "GSPO, off-policy, climbs its sequence objective", setting.name, error)


def cispo_weighs_log_probs_by_a_fixed_bounded_ratio_off_policy() -> Iterator[Check]:
    for setting in SETTINGS:
        weight_n = np.minimum(np.exp(setting.policy.logprobs().detach().numpy() - setting.old_n.numpy()), 2.0)

        def objective(new_n: np.ndarray, drawn: Drawn, weight_n: np.ndarray = weight_n) -> float:
            return (drawn.chance_n * weight_n * drawn.rewards_n * new_n).sum()

        error = _off_policy_error(setting, as_cispo, "constant", objective)
        yield gradient_check("19", "CISPO, off-policy, climbs E[bounded ratio r log p]", setting.name, error)


def a_surrogate_of_zero_has_a_gradient() -> Iterator[Check]:
    setting = SETTINGS[1]
    loss = expected_loss(setting.policy, setting.rewards_S, group_mean, as_clipped, group_size=3)
    words = "clipped surrogate before the first step, group mean, tree"
    yield Check("18", f"{words}: its value", 0, loss.item(), 1e-12)
    yield Check("18", f"{words}: the norm of its gradient", 0.01, gradient(loss, setting.policy).norm().item(), relation=">")


CHECKS = (
    reinforce_climbs_the_expected_reward,
    leave_one_out_climbs_the_expected_reward,
    group_mean_climbs_the_expected_reward_a_little_slower,
    three_baselines_give_three_gradients,
    max_rl_climbs_the_first_terms_of_the_log_of_success,
    std_scaled_weighs_a_problem_by_its_success_rate,
    dividing_by_std_favours_easy_and_hard_problems,
    reducing_by_sequence_climbs_the_reward_per_token,
    the_first_clipped_step_is_reinforce,
    the_clipped_surrogate_climbs_its_objective_off_policy,
    a_surrogate_of_zero_has_a_gradient,
    the_first_cispo_step_is_reinforce,
    cispo_weighs_log_probs_by_a_fixed_bounded_ratio_off_policy,
    the_first_gspo_step_is_reinforce,
    gspo_climbs_its_sequence_objective_off_policy,
)
