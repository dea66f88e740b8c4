"""What the steps that algorithms share are tried on: attempts of random tokens at four prompts, and their logits in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
ORDER = (0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)
"""A prompt's attempts two by two and apart, so that packing, which brings siblings together, changes the order."""


@cache
def setting() -> tuple[Policy, Round, DenseReading]:
    """A policy, attempts at temperature 1, and every token's log-prob as transformers computes it."""
    policy = tiny()
    round = made_round(policy, LENGTHS, VALUES, temperature=1.0)
    reading = DenseReading.of(round, policy)
    return policy, round, replace(reading, **{name: [getattr(reading, name)[i] for i in ORDER] for name in ("logprobs", "entropies")})


def sequences() -> list[TokenSequence]:
    """All attempts, in the order of the reading."""
    rollouts = setting()[1].rollouts
    return [s for i in ORDER for s in rollout_sequences(rollouts[i])]


def still(model: Trunk) -> Optimizer:
    """An optimizer that collects gradients and moves nothing."""
    return Optimizer(model.parameters(), AdamWConfig(learning_rate=0.0))


def collected(model: Trunk, step: Callable[[], object]) -> list[Tensor]:
    """What a step adds up for the optimizer."""
    with gradients(model) as found:
        step()
    return found
