"""Four roads to one optimum: PPO with a critic, DPO, weighted SFT and RLOO end at pi_ref * exp(r / beta) / Z.

They differ in what they are told: rewards of their own samples (PPO, RLOO), rewards of the reference's samples (weighted
SFT), or only which of two answers is better (DPO). A *stopping tree* has completions of 1 to 3 tokens, any distribution over
which can be reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import torch
from torch import Tensor

from posttrain.advantages import leave_one_out
from posttrain.algorithms.reject import Config, weights
from posttrain.losses.kl import k1
from posttrain.losses.preference import dpo
from posttrain.losses.value import clipped_squared_error
from posttrain.returns import gae, token_rewards
from tests.exact.check import Check, gradient_check
from tests.exact.critics import CLIP, TableCritic, with_advantages
from tests.exact.expectation import (
    Groups,
    as_reinforce,
    expected_loss,
    given_state,
    gradient_error,
    kl_divergence,
    minimise,
    slopes,
    to_go,
    total_variation,
)
from tests.exact.fixed_points import BETA, SETTINGS, Regularised, natural_step, train_with_penalised_reward
from tests.exact.policies import EnumerablePolicy, bandit, stopping_tree, transformer, tree

NAMES = ("bandit", "tree", "stopping tree")
N_ROUNDS = 40
EPOCHS = 2


@cache
def setting(name: str) -> Regularised:
    return Regularised(name)


# --------------------------------------------------------------------------------------------------------------- the roads


@cache
def by_ppo(name: str, gae_lambda: float = 0.95) -> tuple[Tensor, float]:
    """What PPO reaches with exact values: probabilities, and the value of the prompt."""
    where = setting(name)
    policy, value = where.start(), math.nan
    for _ in range(N_ROUNDS):
        old_n = policy.logprobs().detach()
        rewards_n = _rewards(where, policy, old_n)
        values_n = given_state(policy, to_go(policy, rewards_n), policy.per_sequence(old_n).exp())
        _ppo_epochs(policy, old_n, gae(rewards_n, values_n, policy.lengths.tolist(), 1.0, gae_lambda))
        value = values_n[0].item()
    return policy.probabilities().detach(), value


@cache
def by_ppo_and_critic(name: str) -> tuple[Tensor, float]:
    """What PPO reaches with a critic that begins at 0 and learns beside it from the same answers."""
    where = setting(name)
    policy = where.start()
    critic = TableCritic(policy)
    for _ in range(N_ROUNDS):
        old_n, values_n = policy.logprobs().detach(), critic.read(critic.batch.sources).detach()
        advantages_n = gae(_rewards(where, policy, old_n), values_n, policy.lengths.tolist())
        _ppo_epochs(policy, old_n, advantages_n)
        _critic_epochs(critic, policy.per_sequence(old_n).exp()[policy.sequence_ids], values_n, advantages_n + values_n)
    return policy.probabilities().detach(), critic.read(critic.batch.sources)[0].item()


def _rewards(where: Regularised, policy: EnumerablePolicy, old_n: Tensor) -> Tensor:
    return token_rewards(where.rewards_S, k1(old_n, where.ref_n), policy.lengths.tolist(), BETA)


def _ppo_epochs(policy: EnumerablePolicy, old_n: Tensor, advantages_n: Tensor) -> None:
    nothing_S = torch.zeros(len(policy.sequences), dtype=torch.float64)
    for _ in range(EPOCHS):
        natural_step(policy, expected_loss(policy, nothing_S, loss=with_advantages(advantages_n), sampling_n=old_n))


def _critic_epochs(critic: TableCritic, chance_n: Tensor, old_values_n: Tensor, returns_n: Tensor) -> None:
    """Steps down the expected clipped loss, each state's scaled by how often it is seen."""
    for _ in range(EPOCHS):
        seen_X = torch.autograd.grad(chance_n @ critic.read(critic.batch.sources), critic.values_X)[0].clamp(min=1e-300)
        loss = chance_n @ clipped_squared_error(critic.read(critic.batch.sources), old_values_n, returns_n, CLIP)
        with torch.no_grad():
            critic.values_X -= torch.autograd.grad(loss, critic.values_X)[0] / seen_X


@cache
def by_leave_one_out(name: str) -> Tensor:
    return train_with_penalised_reward(setting(name), leave_one_out, as_reinforce, 2, 1)


@cache
def by_weighted_sft(name: str, rounds: int = 1) -> Tensor:
    """Maximum likelihood of the reference's samples, each weighed by exp(r / beta); then of the result's own, and so on."""
    where, policy = setting(name), setting(name).start()
    sampling_n, weights_S = where.ref_n, (where.rewards_S / BETA).softmax(0)
    for _ in range(rounds):
        minimise(lambda sampling_n=sampling_n: expected_loss(policy, weights_S, sampling_n=sampling_n), policy.parameters())
        sampling_n = policy.logprobs().detach()
    return policy.probabilities().detach()


@cache
def by_dpo(name: str) -> Tensor:
    """DPO on every pair of answers, with preferences of the probability sigma(r_i - r_j)."""
    where, policy = setting(name), setting(name).start()
    minimise(lambda: expected_preference_loss(where, policy, lambda good, bad: dpo(good, bad, BETA)), policy.parameters())
    return policy.probabilities().detach()


def expected_preference_loss(
    where: Regularised, policy: EnumerablePolicy, loss: Callable[[Tensor, Tensor], Tensor], over_S: Tensor | None = None, per_token: bool = False
) -> Tensor:
    """The expectation of a loss of the pair's log-ratios; both answers are drawn from `over_S` (None: every answer as often)."""
    log_ratios_S = policy.per_sequence(policy.logprobs() - where.ref_n)
    if per_token:
        log_ratios_S = log_ratios_S / policy.lengths
    n = len(policy.sequences)
    over_S = torch.full((n,), 1 / n, dtype=torch.float64) if over_S is None else over_S
    first, second = torch.cartesian_prod(torch.arange(n), torch.arange(n)).unbind(1)
    chance = over_S[first] * over_S[second] * (where.rewards_S[first] - where.rewards_S[second]).sigmoid()
    return 2 * chance @ loss(log_ratios_S[first], log_ratios_S[second])


# ------------------------------------------------------------------------------------------------------------ where they end


def _ends_at_the_optimum(words: str, item: str, reached: Callable[[str], Tensor]) -> Iterator[Check]:
    for name in NAMES:
        where = setting(name)
        claim = f"{words}: total variation from pi_ref exp(r/beta) / Z, {name}"
        yield Check(item, claim, 0, total_variation(reached(name), where.optimum_S), 1e-6)


def ppo_ends_at_the_optimum() -> Iterator[Check]:
    for lam in (0.95, 1.0):
        words = f"PPO, two epochs a batch, exact values, GAE lambda {lam:g}, KL at each token"
        yield from _ends_at_the_optimum(words, "1", lambda name, lam=lam: by_ppo(name, lam)[0])


def ppo_and_its_critic_end_together() -> Iterator[Check]:
    words = "PPO with a critic that begins at 0"
    yield from _ends_at_the_optimum(words, "1", lambda name: by_ppo_and_critic(name)[0])
    for name in NAMES:
        true = BETA * setting(name).log_z.item()
        yield Check("21", f"{words}: the prompt's value at the end is beta log Z, {name}", true, by_ppo_and_critic(name)[1], 1e-6)


def weighted_sft_ends_at_the_optimum() -> Iterator[Check]:
    yield from _ends_at_the_optimum("SFT on the reference's samples weighed by exp(r/beta)", "1", by_weighted_sft)


def rounds_of_weighted_sft_divide_beta() -> Iterator[Check]:
    for name in NAMES:
        where = setting(name)
        sharper_S = (where.start().per_sequence(where.ref_n) + 2 * where.rewards_S / BETA).softmax(0)
        claim = f"two rounds of weighted SFT: total variation from the optimum of beta / 2, {name}"
        yield Check("1", claim, 0, total_variation(by_weighted_sft(name, 2), sharper_S), 1e-6)


def dpo_ends_at_the_optimum() -> Iterator[Check]:
    yield from _ends_at_the_optimum("DPO on all pairs, preferences with probability sigma(r_i - r_j)", "2", by_dpo)


def the_four_roads_meet() -> Iterator[Check]:
    for name in NAMES:
        ends = (by_ppo_and_critic(name)[0], by_leave_one_out(name), by_dpo(name), by_weighted_sft(name))
        apart = max(total_variation(a, b) for a, b in combinations(ends, 2))
        yield Check("2", f"PPO, RLOO, DPO and weighted SFT: largest total variation of two of them, {name}", 0, apart, 1e-6)


def along_the_frontier_a_nat_costs_beta() -> Iterator[Check]:
    where, step = setting("stopping tree"), 1e-4
    ref_S = where.start().per_sequence(where.ref_n).exp()

    def at(beta: float) -> tuple[float, float]:
        best_S = (ref_S.log() + where.rewards_S / beta).softmax(0)
        return (best_S @ where.rewards_S).item(), kl_divergence(best_S, ref_S).item()

    for beta in (0.2, 0.5, 2.0):
        (low_r, low_kl), (high_r, high_kl) = at(beta + step), at(beta - step)
        yield Check("1", f"slope of reward over KL at the optimum of beta = {beta:g}, stopping tree", beta, (high_r - low_r) / (high_kl - low_kl), 1e-6)


# ------------------------------------------------------------------------------------------------------- from few samples


def reinforced_success_is_likelihood_of_ones_own_successes() -> Iterator[Check]:
    for name, make in (("bandit", bandit), ("tree", tree), ("stopping tree", stopping_tree), ("transformer", transformer)):
        policy = make(0)
        correct_S = (torch.randn(len(policy.sequences), generator=torch.Generator().manual_seed(2)) > 0.3).double()
        sampled_S = policy.probabilities().detach()
        rate = (sampled_S @ correct_S).item()
        own_S = sampled_S * correct_S / rate
        likelihood = slopes(lambda policy=policy, own_S=own_S: own_S @ policy.per_sequence(policy.logprobs()), policy)
        error = gradient_error(-expected_loss(policy, correct_S), rate * likelihood, policy)
        yield gradient_check("1", "REINFORCE with rewards 0 and 1 is P(success) times SFT on its own successes", name, error)


def imitated(where: Regularised, group_size: int, config: Config) -> Tensor:
    """What SFT on groups of the reference's attempts, weighed as rejection sampling does, makes likely: exact, over all groups."""
    groups = Groups(where.start(), group_size, where.start().per_sequence(where.ref_n).exp())
    rewards_PG = where.rewards_S[groups.members_PG]
    weights_PG = weights(rewards_PG, torch.zeros_like(rewards_PG, dtype=torch.bool), config)
    share_PG = groups.probabilities_P[:, None] * weights_PG / weights_PG.sum(1, keepdim=True)
    return torch.zeros_like(where.rewards_S).index_add(0, groups.members_PG.flatten(), share_PG.flatten())


def few_samples_bound_how_far_weighted_sft_goes() -> Iterator[Check]:
    where, sharp = setting("bandit"), 0.05
    ref_S = where.start().per_sequence(where.ref_n).exp()
    best_S = (ref_S.log() + where.rewards_S / sharp).softmax(0)
    wanted = kl_divergence(best_S, ref_S).item()
    yield Check("1", f"KL of the optimum of beta = {sharp}, in nats, less log 2, bandit", 0, wanted - math.log(2), relation=">")
    for n in (2, 4, 6):
        reached_S = imitated(where, n, Config(keep="weighted", beta=sharp))
        claim = f"weighted SFT from groups of {n}, beta = {sharp}: KL to the reference, in nats, against log {n}, bandit"
        yield Check("1", claim, math.log(n), kl_divergence(reached_S, ref_S).item(), relation="<")
    for n in (2, 4, 6):
        reached_S = imitated(where, n, Config(keep="best"))
        claim = f"SFT on the best of {n}: KL to the reference, in nats, against log n - (n - 1) / n, bandit"
        yield Check("1", claim, math.log(n) - (n - 1) / n, kl_divergence(reached_S, ref_S).item(), relation="<")


def more_samples_bring_weighted_sft_nearer() -> Iterator[Check]:
    where = setting("bandit")
    apart = {n: total_variation(imitated(where, n, Config(keep="weighted", beta=BETA)), where.optimum_S) for n in (1, 2, 6)}
    ref_S = where.start().per_sequence(where.ref_n).exp()
    words = f"weighted SFT, beta = {BETA}, total variation from the optimum, bandit"
    yield Check("1", f"{words}: a group of one, which is plain SFT", total_variation(ref_S, where.optimum_S), apart[1], 1e-12)
    yield Check("1", f"{words}: groups of 2, over that of groups of one", 1, apart[2] / apart[1], relation="<")
    yield Check("1", f"{words}: groups of 6, over that of groups of 2", 0.6, apart[6] / apart[2], relation="<")


CHECKS = (
    ppo_ends_at_the_optimum,
    ppo_and_its_critic_end_together,
    weighted_sft_ends_at_the_optimum,
    rounds_of_weighted_sft_divide_beta,
    dpo_ends_at_the_optimum,
    the_four_roads_meet,
    along_the_frontier_a_nat_costs_beta,
    reinforced_success_is_likelihood_of_ones_own_successes,
    few_samples_bound_how_far_weighted_sft_goes,
    more_samples_bring_weighted_sft_nearer,
)
