"""Preference losses: for each pair, or each labelled answer, a value to minimise.

Flat tensors of log-probs in nats of whole answers: *sums* over an answer's tokens, but for ORPO and SimPO, which take
*means* per token as published. `beta` is reward per nat: the implicit reward of an answer is beta · log(policy /
reference). No averaging here. An empty tensor gives an empty one; nan passes through.

With exact preference probabilities σ(r_chosen − r_rejected) over all pairs, `dpo` has its minimum where the policy is
reference · exp(r / beta) / Z, the optimum of KL-regularised RL, and where weighted SFT with weights exp(r / beta) has its
own (tests/exact/optima.py).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def implicit_reward(logprobs: Float[Tensor, " answers"], ref_logprobs: Float[Tensor, " answers"], beta: float) -> Float[Tensor, " answers"]:
    """beta · log(policy / reference): the reward for which this policy would be optimal, up to a constant of the prompt (2305.18290, eq. 5)."""
    return beta * (logprobs - ref_logprobs)


def bradley_terry(
    chosen_rewards: Float[Tensor, " pairs"], rejected_rewards: Float[Tensor, " pairs"],
    margins: Float[Tensor, " pairs"] | None = None, centering: float = 0.0,
) -> Float[Tensor, " pairs"]:  # fmt: skip
    """−log σ(r_chosen − r_rejected − margin): minus the log-likelihood of the preference (Bradley and Terry 1952; the margin as in 2307.09288, eq. 2).

    `centering` adds its multiple of (r_chosen + r_rejected)² (2312.09244): a preference says nothing of a reward's level,
    and this keeps it near 0. Where each answer stands in one pair it leaves the gaps as they are; answers that stand in several
    it draws together, .01 by a tenth and more. With margin and centering 0 equal rewards cost ln 2.
    """
    gap = chosen_rewards - rejected_rewards if margins is None else chosen_rewards - rejected_rewards - margins
    loss = -logsigmoid(gap)
    return loss + centering * (chosen_rewards + rejected_rewards).square() if centering else loss


def dpo(
    chosen_log_ratios: Float[Tensor, " pairs"], rejected_log_ratios: Float[Tensor, " pairs"], beta: float, label_smoothing: float = 0.0
) -> Float[Tensor, " pairs"]:
    """Direct preference optimisation (2305.18290, eq. 7) on log(policy / reference) of both answers; ln 2 before training.

    With `label_smoothing` ε it is the conservative loss (its authors' note cDPO): labels are taken as right with
    probability 1 − ε, and the minimum lies at the finite margin log((1 − ε) / ε) instead of at infinity.
    """
    margin = beta * (chosen_log_ratios - rejected_log_ratios)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def robust_dpo(
    chosen_log_ratios: Float[Tensor, " pairs"], rejected_log_ratios: Float[Tensor, " pairs"], beta: float, flip_rate: float
) -> Float[Tensor, " pairs"]:
    """DPO made unbiased under labels flipped with probability `flip_rate` (2403.00409, eq. 12): its mean over flips is DPO on the true labels.

    Unbounded below; the loss of a single pair can be negative. Raises ValueError unless 0 ≤ flip_rate < 1/2.
    """
    if not 0 <= flip_rate < 0.5:
        raise ValueError("the rate of flipped labels must be at least 0 and below 1/2")
    margin = beta * (chosen_log_ratios - rejected_log_ratios)
    return (-(1 - flip_rate) * logsigmoid(margin) + flip_rate * logsigmoid(-margin)) / (1 - 2 * flip_rate)


def ipo(chosen_log_ratios: Float[Tensor, " pairs"], rejected_log_ratios: Float[Tensor, " pairs"], beta: float) -> Float[Tensor, " pairs"]:
    """(gap of the log-ratios − 1 / (2 beta))² (2310.12036, eq. 17): a gap that is regressed on, not pushed to infinity.

    On sums, as published; some implementations divide by the answers' lengths, which is another objective.
    """
    return (chosen_log_ratios - rejected_log_ratios - 1 / (2 * beta)).square()


def kto(
    log_ratios: Float[Tensor, " answers"], is_good: Bool[Tensor, " answers"], reference_point: Float[Tensor, ""] | float,
    beta: float, good_weight: float = 1.0, bad_weight: float = 1.0,
) -> Float[Tensor, " answers"]:  # fmt: skip
    """Kahneman–Tversky optimisation (2402.01306, eq. 8) on single labelled answers: weight · (1 − σ(±beta (log-ratio − z0))).

    `reference_point` z0 is the policy's KL to the reference as estimated from unmatched answers, in nats; it is cut at 0
    from below and gets no gradient, as published.
    """
    z0 = torch.as_tensor(reference_point, dtype=log_ratios.dtype).detach().clamp(min=0)
    sign = torch.where(is_good, 1.0, -1.0).to(log_ratios.dtype)
    weights = torch.where(is_good, good_weight, bad_weight).to(log_ratios.dtype)
    return weights * (1 - torch.sigmoid(sign * beta * (log_ratios - z0)))


def orpo(
    chosen_mean_logprobs: Float[Tensor, " pairs"], rejected_mean_logprobs: Float[Tensor, " pairs"], beta: float
) -> Float[Tensor, " pairs"]:
    """Odds-ratio preference optimisation without a reference (2403.07691, eq. 6–7): −mean log p(chosen) − beta · log σ(log odds ratio).

    odds(y) = p / (1 − p) with p = exp(mean log-prob). beta is the paper's λ.
    """
    log_odds = _log_odds(chosen_mean_logprobs) - _log_odds(rejected_mean_logprobs)
    return -chosen_mean_logprobs - beta * logsigmoid(log_odds)


def simpo(
    chosen_mean_logprobs: Float[Tensor, " pairs"], rejected_mean_logprobs: Float[Tensor, " pairs"], beta: float, gamma: float
) -> Float[Tensor, " pairs"]:
    """Simple preference optimisation (2405.14734, eq. 6): −log σ(beta · (mean log-prob gap) − gamma), without a reference.

    The reward is the mean, so that length earns nothing. `gamma` is the margin to be reached, in units of reward.
    """
    return -logsigmoid(beta * (chosen_mean_logprobs - rejected_mean_logprobs) - gamma)


def _log_odds(logp: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """log(p / (1 − p)) for p = exp(logp) < 1, without cancellation near either end."""
    small = logp < -math.log(2)
    below = torch.where(small, logp, -1.0)  # each branch is given numbers that it can differentiate
    above = torch.where(small, -0.5, logp)
    return logp - torch.where(small, torch.log1p(-below.exp()), torch.log(-torch.expm1(above)))
