"""What the steps that algorithms share are tried on: attempts of random tokens at four prompts, and their logits in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import Tensor

from posttrain.batching import TokenSequence, rollout_sequences
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.policy.trunk import Trunk
from posttrain.training.rounds import Round
from tests.algorithms.dense import DenseReading
from tests.algorithms.gradient import LENGTHS, VALUES
from tests.algorithms.toy import gradients, made_round, tiny

ONE_ROW = 10_000
ROW_TOKENS = (1, 60, 128, 250)
"""Tokens in a packed row: from an attempt in each to nearly all in one."""


@cache
def setting() -> tuple[Policy, Round, DenseReading]:
    """A policy, attempts at temperature 1, and every token's log-prob as transformers computes it."""
    policy = tiny()
    round = made_round(policy, LENGTHS, VALUES, temperature=1.0)
    return policy, round, DenseReading.of(round, policy)


def sequences() -> list[TokenSequence]:
    """All attempts, four to a prompt."""
    return [s for rollout in setting()[1].rollouts for s in rollout_sequences(rollout)]


def still(model: Trunk) -> Optimizer:
    """An optimizer that collects gradients and moves nothing."""
    return Optimizer(model.parameters(), AdamWConfig(learning_rate=0.0))


def collected(model: Trunk, step: Callable[[], object]) -> list[Tensor]:
    """What a step adds up for the optimizer."""
    with gradients(model) as found:
        step()
    return found
