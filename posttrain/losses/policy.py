"""Policy-gradient losses: for each predicted token a value to minimise.

Flat tensors over N predicted tokens; log-probs in nats; advantages are constants (no gradient flows into them), one per
token, so that a rollout's advantage is repeated over its tokens or varies along it. Nothing is masked or averaged here:
`reduction.token_weights` says what each token counts. Every function takes an empty tensor to an empty tensor, gives 0
where the advantage is 0, and passes nan on: a nan is a fault upstream, and hiding it would train on it.

Where the policy has not moved since sampling (`logprobs == old_logprobs`) all of them have the gradient of `reinforce`;
the *value* of the ratio losses is then minus the mean advantage, which is 0 for centred groups: a loss of 0 says nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from posttrain.losses.ratio import importance_ratio, sequence_ratio


def reinforce(logprobs: Float[Tensor, " tokens"], advantages: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Minus advantage times log-prob: its expected gradient is minus that of the expected reward (Williams 1992)."""
    return -advantages * logprobs


def clipped_surrogate(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """PPO's pessimistic surrogate (1707.06347, eq. 7), with separate bounds (DAPO's clip-higher, 2503.14476, section 3.1).

    The gradient stops only where a step has already gone far enough: above 1 + clip_high for a positive advantage, below
    1 - clip_low for a negative one. PPO: clip_low = clip_high = .2; DAPO: .2 and .28; `math.inf` switches a bound off.
    Deviation: a ratio beyond e^20 grows linearly in the log-ratio, so that neither it nor its gradient overflows.
    Raises ValueError for a negative bound.
    """
    low, high = _interval(clip_low, clip_high)
    ratio = importance_ratio(logprobs, old_logprobs)
    clipped = ratio.clamp(low, high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def cispo(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """REINFORCE weighted by the clipped ratio, which is a constant to the gradient (CISPO, 2506.13585, section 3.1).

    No token is ever silenced: the clip bounds its weight, and the gradient flows through the log-prob alone. The paper
    switches the lower bound off; clip_low = 1 does, ratios being positive, and makes this truncated importance sampling.
    Raises ValueError for a negative bound.
    """
    low, high = _interval(clip_low, clip_high)
    ratio = importance_ratio(logprobs, old_logprobs).detach()
    weight = ratio.clamp(low, high)
    return -weight * advantages * logprobs


def gspo(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    sequence_ids: Int[Tensor, " tokens"],
    n_sequences: int,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """The clipped surrogate with the whole sequence's ratio, exp(mean log-ratio), in every token (GSPO, 2507.18071).

    This is the paper's token form (section 4.3): with one advantage per sequence and the reduction `sequence`, value and
    gradient are those of its sequence objective (eq. 5), and the tokens of a sequence share one weight and one clip; with
    advantages that vary along a sequence each token keeps its own. A sequence must not be cut between two calls.
    The paper clips at 3e-4 and 4e-4. Raises ValueError for a negative bound.
    """
    low, high = _interval(clip_low, clip_high)
    ratio = sequence_ratio(logprobs, old_logprobs, sequence_ids, n_sequences)
    clipped = ratio.clamp(low, high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clip_fraction(
    ratios: Float[Tensor, " tokens"], advantages: Float[Tensor, " tokens"], clip_low: float, clip_high: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The share of tokens whose gradient the clip stops: (too unlikely already, too likely already).

    Counted by the advantage's sign, as the clip acts: the first holds tokens of negative advantage below 1 - clip_low, the
    second tokens of positive advantage above 1 + clip_high; a token without advantage is in neither. Both are shares of
    all tokens given, and 0 where there are none; weigh minibatches by their tokens. `ratios` as the loss used them:
    `importance_ratio`, or `sequence_ratio` for GSPO. For CISPO this is the share whose weight is bounded, not stopped.
    """
    low, high = _interval(clip_low, clip_high)
    too_low = (advantages < 0) & (ratios < low)
    too_high = (advantages > 0) & (ratios > high)
    n = max(1, len(ratios))
    return too_low.float().sum() / n, too_high.float().sum() / n


def _interval(clip_low: float, clip_high: float) -> tuple[float, float]:
    """The bounds of the ratio."""
    if not (clip_low >= 0 and clip_high >= 0):
        raise ValueError(f"clip bounds are distances from a ratio of 1 and not negative, got {clip_low} and {clip_high}")
    return 1 - clip_low, 1 + clip_high
