"""Exact pass@k: where the completions that succeed can be listed, a policy's chance of success is computed and not sampled.

The policy reads every successful completion once, in packed rows (a prompt is read once for all of its own), and their
probabilities add up to p, the chance that one attempt succeeds. That k attempts hold a success then has the chance
1 − (1 − p)^k, for any k and without noise: what is left to be unsure of is only the choice of problems.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack
from posttrain.policy.hf import SCORING_TOKENS, Policy
from posttrain.statistics import rate_over_problems
from posttrain.types import Measurement


@torch.no_grad()
def logprobs_at(policy: Policy, sequences: Sequence[TokenSequence], temperatures: Sequence[float], max_tokens: int = SCORING_TOKENS) -> Tensor:
    """Log-probs in nats of every marked token of every sequence, in their order, Float64[temperatures, tokens].

    The transformer runs once, whatever the number of temperatures; the sequences' own temperature is not looked at.
    """
    found = torch.empty(len(temperatures), sum(s.n_predicted for s in sequences), dtype=torch.float64)
    for batch in pack(sequences, max_tokens):
        states = policy.states(batch)
        for row, temperature in enumerate(temperatures):
            found[row, batch.index] = policy.head.logprobs(states, batch.targets, torch.full((len(states),), temperature))[0].double()
    return found


def success_probabilities(policy: Policy, successes: Sequence[Sequence[TokenSequence]], temperatures: Sequence[float] = (1.0,)) -> np.ndarray:
    """For each problem the chance that one attempt is among `successes`, its successful completions: [temperatures, problems].

    A completion is all that is sampled, its end of turn included, so that none begins with another. A problem without any
    has the chance 0. Raises ValueError where a completion is given twice, for it would be counted twice.
    """
    for completions in successes:
        if len({(s.prompt, s.tokens) for s in completions}) < len(completions):
            raise ValueError("a successful completion is given twice for one problem")
    flat = [s for completions in successes for s in completions]
    chances = np.zeros((len(temperatures), len(successes)))
    if flat:
        parts = logprobs_at(policy, flat, temperatures).split([s.n_predicted for s in flat], dim=1)
        owners = np.repeat(np.arange(len(successes)), [len(completions) for completions in successes])
        np.add.at(chances, (slice(None), owners), torch.stack([part.sum(1) for part in parts], 1).exp().numpy())
    return chances.clip(max=1.0)  # fp32 log-probs of all there is may add up to a little more


def pass_at_k_of(chances: Sequence[float] | np.ndarray, k: int) -> np.ndarray:
    """1 − (1 − p)^k elementwise, without loss where p is small."""
    with np.errstate(divide="ignore"):
        return -np.expm1(k * np.log1p(-np.asarray(chances, float)))


def exact_pass_at_k(chances: Sequence[float] | np.ndarray, k: int) -> Measurement:
    """pass@k of problems with these chances of success; the interval is over problems, and there is no other noise."""
    return rate_over_problems(pass_at_k_of(chances, k))
