"""A GRPO step written out by hand: transformers' own logits in float64, one row for each attempt, and loops over formulas.

It shares nothing with what it is held against but the weights: no packing, no head, no attention, no losses, no
advantages, no reduction.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from posttrain.algorithms.grpo import Config
from posttrain.policy.hf import Policy
from posttrain.training.rounds import Round


@dataclass(frozen=True)
class DenseReading:
    """Log-probs and entropies of every attempt's tokens, attempt by attempt, with their graph."""

    parameters: list[Tensor]
    logprobs: list[Tensor]
    entropies: list[Tensor]

    @classmethod
    def of(cls, round: Round, policy: Policy) -> DenseReading:
        """Read with the policy's weights, as transformers computes it; a causal model does not see the padding behind a row."""
        model = AutoModelForCausalLM.from_config(copy.deepcopy(policy.base.config), attn_implementation="eager").double()
        model.load_state_dict(policy.base.state_dict())
        turns = [rollout.completions[0] for rollout in round.rollouts]
        rows = [torch.tensor(turn.prompt_token_ids + turn.token_ids) for turn in turns]
        logits = model(input_ids=pad_sequence(rows, batch_first=True), use_cache=False).logits
        logprobs, entropies = [], []
        for turn, row, values in zip(turns, rows, logits, strict=True):
            start = len(turn.prompt_token_ids)
            scaled = values[start - 1 : len(row) - 1] / turn.sampling.temperature
            log_softmax = scaled - scaled.exp().sum(-1, keepdim=True).log()
            logprobs.append(log_softmax[torch.arange(len(log_softmax)), row[start:]])
            entropies.append(-(log_softmax.exp() * log_softmax).sum(-1))
        return cls(list(model.parameters()), logprobs, entropies)

    def gradient(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.parameters, retain_graph=True))


def advantages(values: list[float], kind: str) -> list[float]:
    """Of one group; 0 for the unscored."""
    known = [v for v in values if not math.isnan(v)]
    n, mean = len(known), sum(known) / len(known)
    if max(known) == min(known):
        return [0.0] * len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in known) / (n - 1))
    formula = {
        "group_mean": lambda v: v - mean,
        "leave_one_out": lambda v: v - (n * mean - v) / (n - 1),
        "std_scaled": lambda v: (v - mean) / (std + 1e-6),
        "max_rl": lambda v: (v - mean) / mean,
    }[kind]
    return [0.0 if math.isnan(v) else formula(v) for v in values]


def token_losses(logprobs: Tensor, old: Tensor, advantage: float, config: Config) -> Tensor:
    """Of one attempt."""
    low, high = 1 - config.clip_low, 1 + config.clip_high
    ratio = (logprobs - old).exp()
    match config.loss:
        case "reinforce":
            return -advantage * logprobs
        case "clipped":
            pessimistic = [torch.min(r * advantage, r.clamp(low, high) * advantage) for r in ratio]
            return -torch.stack(pessimistic)
        case "cispo":
            return -ratio.detach().clamp(low, high) * advantage * logprobs
        case "gspo":
            whole = (logprobs - old).mean().exp()
            return -torch.min(whole * advantage, whole.clamp(low, high) * advantage).expand(len(logprobs))


def dense_loss(round: Round, reading: DenseReading, config: Config, reference: DenseReading | None = None) -> Tensor:
    """The loss of the whole step."""
    n_attempts, n_tokens = len(round.rollouts), round.n_tokens
    values = [[score.value for score in group] for group in round.scores_PG]
    flat = [(v, a) for group in values for v, a in zip(group, advantages(group, config.advantage), strict=True)]
    total = torch.zeros((), dtype=torch.float64)
    for i, (rollout, (value, advantage)) in enumerate(zip(round.rollouts, flat, strict=True)):
        if math.isnan(value):
            continue
        logprobs = reading.logprobs[i]
        losses = token_losses(logprobs, torch.tensor(rollout.completions[0].sampling_logprobs).double(), advantage, config)
        if reference is not None and config.kl_in != "reward":
            x = reference.logprobs[i].detach() - logprobs
            losses = losses + config.kl_coef * (x**2 / 2 if config.kl_in == "loss_k2" else x.exp() - 1 - x)
        losses = losses - config.entropy_coef * reading.entropies[i]
        divisor = {"token": n_tokens, "sequence": n_attempts * len(losses), "constant": n_attempts * config.max_tokens}
        total = total + losses.sum() / divisor[config.reduction]
    return total
