"""Where training ends: reward minus beta times KL has one optimum, pi_ref * exp(r / beta) / Z, worth beta * log Z.

Ascent follows expected gradients by natural steps, scaled by the inverse Fisher matrix: that changes how fast a point is
reached, and not where the gradient is 0. Near the optimum errors shrink at each step by 1 - beta, or 1 - beta / 2 where
the group mean halves the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from posttrain.advantages import group_mean, leave_one_out
from posttrain.losses.kl import k1, k2, k3
from posttrain.losses.policy import reinforce
from tests.exact.check import Check
from tests.exact.expectation import (
    Groups,
    TokenLoss,
    as_reinforce,
    expected_loss,
    gradient,
    itself,
    kl_divergence,
    total_variation,
)
from tests.exact.gradients import as_cispo, as_clipped, as_gspo
from tests.exact.policies import EnumerablePolicy, bandit, stopping_tree, tree

BETA = 0.5
N_STEPS = 64
SETTINGS: dict[str, Callable[[int], EnumerablePolicy]] = {"bandit": bandit, "tree": tree, "stopping tree": stopping_tree}


@dataclass(frozen=True)
class Regularised:
    """A reward, a reference, and what is best under both."""

    name: str

    def start(self) -> EnumerablePolicy:
        return SETTINGS[self.name](0)

    @cached_property
    def ref_n(self) -> Tensor:
        return SETTINGS[self.name](1).logprobs().detach()

    @cached_property
    def rewards_S(self) -> Tensor:
        return torch.randn(len(self.start().sequences), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    @cached_property
    def log_z(self) -> Tensor:
        return (self.start().per_sequence(self.ref_n) + self.rewards_S / BETA).logsumexp(0)

    @cached_property
    def optimum_S(self) -> Tensor:
        return (self.start().per_sequence(self.ref_n) + self.rewards_S / BETA - self.log_z).exp()

    def value(self, probabilities_S: Tensor) -> float:
        """Expected reward less beta times the KL to the reference."""
        ref_S = self.start().per_sequence(self.ref_n).exp()
        return (probabilities_S @ self.rewards_S - BETA * kl_divergence(probabilities_S, ref_S)).item()


def natural_step(policy: EnumerablePolicy, loss: Tensor) -> None:
    """One step down the loss, preconditioned by the exact Fisher matrix; directions that change no probability are left out."""
    direction_K = gradient(loss, policy)
    logprobs_S = policy.per_sequence(policy.logprobs())
    each_S = torch.eye(len(logprobs_S), dtype=torch.float64)
    scores = torch.autograd.grad(logprobs_S, list(policy.parameters()), each_S, is_grads_batched=True)
    scores_SK = torch.cat([score.flatten(1) for score in scores], 1)
    fisher_KK = scores_SK.T @ (logprobs_S.detach().exp()[:, None] * scores_SK)
    step_K = torch.linalg.pinv(fisher_KK, rtol=1e-12, hermitian=True) @ direction_K
    vector_to_parameters((parameters_to_vector(policy.parameters()) - step_K).detach(), policy.parameters())


def train_with_penalised_reward(
    setting: Regularised, advantage: Callable[[Tensor], Tensor], loss: TokenLoss, group_size: int, epochs: int
) -> Tensor:
    """The probabilities reached with k1 in the reward; each batch of fresh groups is used `epochs` times."""
    policy = setting.start()
    for _ in range(N_STEPS // epochs):
        old_n = policy.logprobs().detach()
        rewards_S = setting.rewards_S - BETA * policy.per_sequence(k1(old_n, setting.ref_n))
        for _ in range(epochs):
            natural_step(policy, expected_loss(policy, rewards_S, advantage, loss, group_size, sampling_n=old_n))
    return policy.probabilities().detach()


def train_with_penalised_loss(setting: Regularised, estimator: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The probabilities reached with REINFORCE on the reward alone and an estimator of the KL in the loss."""
    policy, ref_n = setting.start(), setting.ref_n

    def loss(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
        return reinforce(logprobs_N, advantages_N) + BETA * estimator(logprobs_N, ref_n[groups.token_N])

    for _ in range(N_STEPS):
        natural_step(policy, expected_loss(policy, setting.rewards_S, leave_one_out, loss, group_size=2))
    return policy.probabilities().detach()


def _reaches_the_optimum(words: str, train: Callable[[Regularised], Tensor], *names: str) -> Iterator[Check]:
    """Whether training ends at the optimum and is worth what the optimum is worth; on bandit and tree if none is named."""
    for setting in map(Regularised, names or ("bandit", "tree")):
        reached_S = train(setting)
        distance = total_variation(reached_S, setting.optimum_S)
        yield Check("1", f"{words}: total variation from pi_ref exp(r/beta) / Z, {setting.name}", 0, distance, 1e-6)
        yield Check("1", f"{words}: value, {setting.name}", BETA * setting.log_z.item(), setting.value(reached_S), 1e-9)


def reinforce_ends_at_the_optimum() -> Iterator[Check]:
    train = partial(train_with_penalised_reward, advantage=itself, loss=as_reinforce, group_size=1, epochs=1)
    yield from _reaches_the_optimum("REINFORCE, k1 in the reward", train)


def leave_one_out_ends_at_the_optimum() -> Iterator[Check]:
    train = partial(train_with_penalised_reward, advantage=leave_one_out, loss=as_reinforce, group_size=2, epochs=1)
    yield from _reaches_the_optimum("RLOO, k1 in the reward", train)


def group_mean_ends_at_the_optimum() -> Iterator[Check]:
    train = partial(train_with_penalised_reward, advantage=group_mean, loss=as_reinforce, group_size=2, epochs=1)
    yield from _reaches_the_optimum("GRPO without std, k1 in the reward", train)


def clipped_ratios_end_at_the_optimum() -> Iterator[Check]:
    cases: tuple[tuple[str, TokenLoss, tuple[str, ...]], ...] = (
        ("PPO clip", as_clipped, ("bandit", "tree")),
        ("CISPO", as_cispo, ("tree",)),
        ("GSPO", as_gspo, ("tree",)),
    )
    for words, loss, names in cases:
        train = partial(train_with_penalised_reward, advantage=leave_one_out, loss=loss, group_size=2, epochs=2)
        yield from _reaches_the_optimum(f"{words}, two epochs a batch, k1 in the reward", train, *names)


def k2_in_the_loss_ends_at_the_optimum_where_one_token_is_all() -> Iterator[Check]:
    yield from _reaches_the_optimum("k2 in the loss", partial(train_with_penalised_loss, estimator=k2), "bandit")


def other_penalties_in_the_loss_end_elsewhere() -> Iterator[Check]:
    for item, estimator, name, at_least in (("9", k3, "bandit", 0.05), ("10", k3, "tree", 0.05), ("10", k2, "tree", 0.01)):
        setting = Regularised(name)
        distance = total_variation(train_with_penalised_loss(setting, estimator), setting.optimum_S)
        claim = f"{estimator.__name__} in the loss: total variation from the optimum, {name}"
        yield Check(item, claim, at_least, distance, relation=">")


CHECKS = (
    reinforce_ends_at_the_optimum,
    leave_one_out_ends_at_the_optimum,
    group_mean_ends_at_the_optimum,
    clipped_ratios_end_at_the_optimum,
    k2_in_the_loss_ends_at_the_optimum_where_one_token_is_all,
    other_penalties_in_the_loss_end_elsewhere,
)
