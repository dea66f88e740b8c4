"""Expectations over every completion, or every group of completions, and derivatives by finite differences.

An estimator's expected gradient is the gradient of its expected loss with the samples' probabilities held fixed, as they
are when a trainer draws samples and then differentiates. It runs through the same advantages, losses and weights as
training does; the exact objective that it is held against shares none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from posttrain.losses.policy import reinforce
from posttrain.losses.reduction import Reduction, token_weights
from tests.exact.policies import EnumerablePolicy

STEP = 1e-4
"""Of the five-point finite differences: their error is of order STEP^4, as small as rounding / STEP."""
MAX_DIRECTIONS = 24


@dataclass(frozen=True)
class Groups:
    """Every group of `size` completions that could be drawn, and the flat tokens of all their members.

    P groups, G members, S completions of the policy; N tokens of all members of all groups; n tokens of all completions.
    """

    policy: EnumerablePolicy
    size: int
    probabilities_S: Tensor
    """With which each completion is drawn; groups with an impossible member are left out."""

    @cached_property
    def members_PG(self) -> Tensor:
        possible = self.probabilities_S.nonzero().flatten()
        return torch.cartesian_prod(*[possible] * self.size).view(-1, self.size)

    @cached_property
    def probabilities_P(self) -> Tensor:
        return self.probabilities_S[self.members_PG].prod(1)

    @cached_property
    def lengths_R(self) -> Tensor:
        """Tokens of each member of each group."""
        return self.policy.lengths[self.members_PG.flatten()]

    @cached_property
    def rollout_N(self) -> Tensor:
        """Which member of which group each token belongs to."""
        return torch.arange(self.members_PG.numel()).repeat_interleave(self.lengths_R)

    @cached_property
    def token_N(self) -> Tensor:
        """Which of the policy's n tokens each one is."""
        first_S = self.policy.lengths.cumsum(0) - self.policy.lengths
        first_R = self.lengths_R.cumsum(0) - self.lengths_R
        within_N = torch.arange(len(self.rollout_N)) - first_R[self.rollout_N]
        return first_S[self.members_PG.flatten()][self.rollout_N] + within_N

    def expectation(self, losses_N: Tensor, over: Reduction = "constant", constant: int = 1) -> Tensor:
        """The expected loss of a group. By default a completion's loss is the sum over its tokens."""
        weights_R = torch.tensor(token_weights(self.lengths_R.tolist(), over, constant), dtype=torch.float64)
        # The weights divide by all rollouts of all groups; every group is an optimizer step of its own, with its probability.
        weights_N = weights_R[self.rollout_N] * (self.probabilities_P * len(self.probabilities_P))[self.rollout_N // self.size]
        return (weights_N * losses_N).sum()


TokenLoss = Callable[[Tensor, Tensor, Tensor, Groups], Tensor]
"""(logprobs, old_logprobs, advantages, groups) -> losses, all over the N tokens."""


def as_reinforce(logprobs_N: Tensor, old_N: Tensor, advantages_N: Tensor, groups: Groups) -> Tensor:
    """REINFORCE, which asks for no old log-probs."""
    return reinforce(logprobs_N, advantages_N)


def itself(rewards_PG: Tensor) -> Tensor:
    """The reward as its own advantage."""
    return rewards_PG


def expected_loss(
    policy: EnumerablePolicy,
    rewards_S: Tensor,
    advantage: Callable[[Tensor], Tensor] = itself,
    loss: TokenLoss = as_reinforce,
    group_size: int = 1,
    over: Reduction = "constant",
    sampling_n: Tensor | None = None,
    old_n: Tensor | None = None,
) -> Tensor:
    """The expectation, over groups drawn with `sampling_n` (by default the policy's own log-probs), of their loss.

    `old_n` are the log-probs that the loss is told the samples were drawn with; by default the truth.
    """
    logprobs_n = policy.logprobs()
    sampling_n = logprobs_n.detach() if sampling_n is None else sampling_n
    old_n = sampling_n if old_n is None else old_n
    groups = Groups(policy, group_size, policy.per_sequence(sampling_n).exp())
    advantages_N = advantage(rewards_S[groups.members_PG]).flatten()[groups.rollout_N]
    return groups.expectation(loss(logprobs_n[groups.token_N], old_n[groups.token_N], advantages_N, groups), over)


def gradient(value: Tensor, policy: EnumerablePolicy) -> Tensor:
    """The gradient of a number, as one flat vector over the policy's parameters."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(policy.parameters()))])


@torch.no_grad()
def slopes(objective: Callable[[], Tensor], policy: EnumerablePolicy) -> Tensor:
    """Finite differences of the objective along each of `directions`."""
    start = parameters_to_vector(policy.parameters()).clone()

    def at(shift: Tensor) -> Tensor:
        vector_to_parameters(start + shift, policy.parameters())
        return objective()

    found = [
        (8 * (at(STEP * d) - at(-STEP * d)) - (at(2 * STEP * d) - at(-2 * STEP * d))) / (12 * STEP) for d in directions(policy)
    ]
    vector_to_parameters(start, policy.parameters())
    return torch.stack(found)


def expected(policy: EnumerablePolicy, values_S: Tensor) -> Callable[[], Tensor]:
    """The expected value of a completion, as a function of the policy's parameters."""
    return lambda: policy.probabilities() @ values_S


def directions(policy: EnumerablePolicy) -> Tensor:
    """Every parameter; where they are many, random orthonormal directions, to which no fixed error is orthogonal."""
    n = sum(parameter.numel() for parameter in policy.parameters())
    if n <= MAX_DIRECTIONS:
        return torch.eye(n, dtype=torch.float64)
    return torch.linalg.qr(torch.randn(n, MAX_DIRECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].T


def gradient_error(value: Tensor, true_slopes: Tensor, policy: EnumerablePolicy) -> float:
    """How far the gradient of `value` is from the true one: the norm of the difference over the norm of the truth."""
    measured = directions(policy) @ gradient(value, policy)
    return ((measured - true_slopes).norm() / true_slopes.norm()).item()


def cosine(value: Tensor, true_slopes: Tensor, policy: EnumerablePolicy) -> float:
    """The cosine between the gradient of `value` and the true one."""
    measured = directions(policy) @ gradient(value, policy)
    return torch.nn.functional.cosine_similarity(measured, true_slopes, dim=0).item()


def to_go(policy: EnumerablePolicy, values_n: Tensor) -> Tensor:
    """For each token, the sum from it to the end of its completion."""
    total_n = policy.per_sequence(values_n)[policy.sequence_ids]
    before_n = torch.cat([values.cumsum(0) - values for values in values_n.split(policy.lengths.tolist())])
    return total_n - before_n


def given_state(policy: EnumerablePolicy, values_n: Tensor, probabilities_S: Tensor) -> Tensor:
    """For each token, the expectation of `values_n` over what is drawn behind the same prefix."""
    chance_n = probabilities_S[policy.sequence_ids]
    sums_X = [torch.zeros(policy.n_states, dtype=torch.float64).index_add(0, policy.state_ids, x) for x in (chance_n * values_n, chance_n)]
    return (sums_X[0] / sums_X[1])[policy.state_ids]


def minimise(loss: Callable[[], Tensor], parameters: Iterable[Tensor]) -> None:
    """Go down to where the gradient is 0, by L-BFGS: for losses whose samples do not come from what is trained."""
    optimizer = torch.optim.LBFGS(
        list(parameters), max_iter=1000, tolerance_grad=1e-13, tolerance_change=1e-18, history_size=50, line_search_fn="strong_wolfe"
    )

    def value() -> Tensor:
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found

    optimizer.step(value)


def kl_divergence(p_S: Tensor, q_S: Tensor) -> Tensor:
    """KL(p, q) in nats of two distributions over the same completions."""
    return (p_S * (p_S / q_S).log()).sum()


def total_variation(p_S: Tensor, q_S: Tensor) -> float:
    """Half the summed absolute difference of two distributions."""
    return 0.5 * (p_S - q_S).abs().sum().item()
