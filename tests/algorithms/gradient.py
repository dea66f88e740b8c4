"""A round on which the gradient of an optimizer step is measured, as `descend` collects it and by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from posttrain.algorithms.grpo import ADVANTAGES, Config, ReferenceLogprobs, Tokens, descend, rewards
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.training.reference import Reference
from posttrain.training.rounds import Round
from tests.algorithms.dense import DenseReading, dense_loss
from tests.algorithms.toy import gradients, made_round, tiny

NAN = math.nan
LENGTHS = ((3, 9, 1, 5), (16, 2, 7, 7), (4, 4, 4, 4), (1, 1, 12, 6))
VALUES = ((1.0, 0.0, 0.0, 0.5), (1.0, NAN, 1.0, 0.0), (1.0, 1.0, 1.0, 1.0), (0.0, 0.25, 0.0, 0.0))
"""Degrees of success, an attempt that could not be scored, and a group in which all did equally well."""

LOSSES = ("reinforce", "clipped", "cispo", "gspo")
REDUCTIONS = ("token", "sequence", "constant")
CLOSE = 2e-5
"""Of the largest entry: fp32 against float64."""


@cache
def setting() -> tuple[Policy, Policy, Round]:
    """A policy that has moved away from its reference, the reference, and a round."""
    policy = tiny()
    reference = policy.frozen_copy()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy, reference, made_round(policy, LENGTHS, VALUES)


@cache
def readings() -> tuple[DenseReading, DenseReading]:
    policy, reference, round = setting()
    return DenseReading.of(round, policy), DenseReading.of(round, reference)


def config(**changes: Any) -> Config:
    return replace(Config(max_tokens=16, group_size=4, tokens_per_batch=128), **changes)


def gradient(config: Config, round: Round | None = None) -> list[Tensor]:
    """What `descend` collects for the optimizer; the weights are left as they were."""
    policy, frozen, made = setting()
    round = round or made
    still = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.0))
    reference = ReferenceLogprobs.of(round, Reference(frozen, False) if config.kl_coef else None)
    gap_PG = reference.gap(round) if reference else None
    advantages_PG = ADVANTAGES[config.advantage](rewards(round, gap_PG, config))
    with gradients(policy) as found:
        descend(policy, still, Tokens.of(round, advantages_PG, reference, config), config)
    return found


def by_hand(config: Config) -> list[Tensor]:
    policy, _, round = setting()
    reading, reference = readings()
    return reading.gradient(dense_loss(round, reading, config, reference if config.kl_coef else None))
