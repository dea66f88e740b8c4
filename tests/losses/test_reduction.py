"""Reductions: what each token counts, and that cutting a step changes nothing."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from posttrain.advantages import group_mean, has_signal
from posttrain.losses.kl import k3
from posttrain.losses.policy import cispo, clipped_surrogate, gspo, reinforce
from posttrain.losses.reduction import Reduction, token_weights

REDUCTIONS = get_args(Reduction)


def test_each_reduction_by_hand():
    lengths = [1, 3, 0]
    assert token_weights(lengths, "token") == [1 / 4, 1 / 4, 0]
    assert token_weights(lengths, "sequence") == [1 / 3, 1 / 9, 0]
    assert token_weights(lengths, "constant", constant=10) == [1 / 30, 1 / 30, 0]


def test_the_token_mean_of_the_step_is_not_the_mean_of_the_minibatches():
    advantages, lengths = [1.0, -1.0], [1, 3]

    def mean_advantage(which: list[int], weights: list[float]) -> float:
        return sum(weights[i] * lengths[i] * advantages[i] for i in which)

    over_the_step = token_weights(lengths, "token")
    assert mean_advantage([0], over_the_step) + mean_advantage([1], over_the_step) == -0.5
    over_each = [token_weights([length], "token")[0] for length in lengths]
    assert (mean_advantage([0], over_each) + mean_advantage([1], over_each)) / 2 == 0


@pytest.mark.parametrize("over", REDUCTIONS)
def test_no_rollouts_have_no_weights_and_rollouts_without_tokens_weigh_nothing(over):
    assert token_weights([], over, constant=5) == []
    assert token_weights([0, 0], over, constant=5) == [0, 0]


def test_weights_of_all_tokens_sum_to_one_where_the_reduction_is_a_mean():
    lengths = [5, 1, 7, 2]
    for over in ("token", "sequence"):
        assert sum(w * n for w, n in zip(token_weights(lengths, over), lengths, strict=True)) == pytest.approx(1)


@pytest.mark.parametrize("constant", [None, 0, -1])
def test_the_constant_reduction_needs_its_constant(constant):
    with pytest.raises(ValueError, match="longest completion"):
        token_weights([1, 2], "constant", constant)


def test_what_makes_no_sense_is_refused():
    unchecked = inspect.unwrap(token_weights)  # outside tests nothing checks the annotation first
    with pytest.raises(ValueError, match="no reduction is called 'mean': choose one of token, sequence, constant"):
        unchecked([1], "mean")
    with pytest.raises(ValueError, match="negative"):
        token_weights([-1], "token")


class Step:
    """The flat tokens of an optimizer step: made-up log-probs of a policy with three parameters."""

    def __init__(self, lengths: list[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.lengths = lengths
        self.rollout_N = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long))
        self.features_NK = draw(len(self.rollout_N), 3)
        self.old_N, self.advantages_N = draw(len(self.rollout_N)), draw(len(lengths))[self.rollout_N]
        self.parameters_K = draw(3).requires_grad_()

    def losses(self, name: str, rollouts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses of the tokens of some rollouts, and which rollout each is of."""
        mine_N = torch.isin(self.rollout_N, torch.tensor(rollouts, dtype=torch.long))
        logprobs = self.features_NK[mine_N] @ self.parameters_K
        old, advantages, ids = self.old_N[mine_N], self.advantages_N[mine_N], self.rollout_N[mine_N]
        values = {
            "reinforce": lambda: reinforce(logprobs, advantages),
            "clipped": lambda: clipped_surrogate(logprobs, old, advantages, 0.2, 0.28),
            "cispo": lambda: cispo(logprobs, old, advantages, 1.0, 3.0),
            "gspo": lambda: gspo(logprobs, old, advantages, ids, len(self.lengths), 0.2, 0.28),
            "k3": lambda: k3(logprobs, old),
        }
        return values[name](), ids

    def gradient(self, name: str, over: Reduction, minibatches: list[list[int]]) -> torch.Tensor:
        """The gradient accumulated over minibatches, with the weights of the whole step."""
        weights = torch.tensor(token_weights(self.lengths, over, constant=7), dtype=torch.float64)
        total = torch.zeros(3, dtype=torch.float64)
        for rollouts in minibatches:
            values, ids = self.losses(name, rollouts)
            total += torch.autograd.grad((weights[ids] * values).sum(), self.parameters_K)[0]
        return total


@st.composite
def cut_steps(draw) -> tuple[list[int], list[list[int]]]:
    """Lengths of a step's rollouts, some of them empty, and a cutting of the step in any order; empty minibatches too."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    n_minibatches = draw(st.integers(1, len(lengths) + 1))
    where = draw(st.lists(st.integers(0, n_minibatches - 1), min_size=len(lengths), max_size=len(lengths)))
    order = draw(st.permutations(range(len(lengths))))
    return lengths, [[i for i in order if where[i] == m] for m in range(n_minibatches)]


@pytest.mark.parametrize("over", REDUCTIONS)
@pytest.mark.parametrize("name", ["reinforce", "clipped", "cispo", "gspo", "k3"])
@settings(max_examples=25)
@given(cut=cut_steps(), seed=st.integers(0, 10_000))
def test_any_cutting_of_a_step_into_minibatches_gives_the_same_gradient(name, over, cut, seed):
    lengths, minibatches = cut
    step = Step(lengths, seed)
    whole = step.gradient(name, over, [list(range(len(lengths)))])
    assert_close(step.gradient(name, over, minibatches), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("over", REDUCTIONS)
@settings(max_examples=25)
@given(cut=cut_steps(), seed=st.integers(0, 10_000), rewards=st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=8))
def test_leaving_out_groups_without_signal_leaves_the_gradient_as_it_was(over, cut, seed, rewards):
    lengths = (cut[0] * 8)[:8]
    step = Step(lengths, seed)
    advantages_PG = group_mean(torch.tensor(rewards, dtype=torch.float64).view(4, 2))
    step.advantages_N = advantages_PG.flatten()[step.rollout_N]
    live = [rollout for rollout in range(8) if has_signal(advantages_PG)[rollout // 2]]
    whole = step.gradient("clipped", over, [list(range(8))])
    assert_close(step.gradient("clipped", over, [live]), whole, rtol=1e-10, atol=1e-12)
