"""Per-token estimators of KL(policy ‖ reference) from sampled tokens (Schulman 2020, joschu.net/blog/kl-approx.html).

With x = log(policy / reference) of a token that the policy itself drew, in nats:

|      | formula        | mean = the KL?   | spread | as a loss, its mean gradient (one token, freshly drawn) is that of |
| ---- | -------------- | ---------------- | ------ | ------------------------------------------------------------------ |
| `k1` | x              | yes              | wide   | nothing: it is 0                                                   |
| `k2` | x^2 / 2        | no, near it only | narrow | KL(policy ‖ reference): what is wanted                            |
| `k3` | e^-x - 1 + x   | yes, never < 0   | narrow | KL(reference ‖ policy): the other one, with another optimum       |

So: to *report* a KL take k1 or k3; to *penalise* it put k1, as a number, into the reward. Over several tokens that alone
is right: as a loss, k2 (and the ratio times k3) push each token by its own KL and forget that it decides which tokens
come after it. Both sides must speak of one distribution: the same temperature, the whole vocabulary.

Nothing is masked or averaged here. Computed in fp32 or wider; values and gradients stay finite for any finite log-probs a
model can give; an empty tensor gives an empty tensor, and nan stays nan.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from posttrain.losses.ratio import bounded_expm1, log_ratio


def k1(logprobs: Float[Tensor, " tokens"], ref_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """log(policy / reference): unbiased, of either sign. For rewards and reports; as a loss it teaches nothing."""
    return log_ratio(logprobs, ref_logprobs)


def k2(logprobs: Float[Tensor, " tokens"], ref_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Half the squared log-ratio: biased as a value, right as a loss where one token is the whole completion."""
    return 0.5 * log_ratio(logprobs, ref_logprobs).square()


def k3(logprobs: Float[Tensor, " tokens"], ref_logprobs: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """reference / policy - 1 - log(reference / policy): unbiased and not negative; as a loss it is the forward KL.

    Published GRPO (2402.03300, eq. 4) uses it as a loss. Deviation: where the reference is more than e^20 times likelier,
    it grows linearly in the log-ratio, so that neither it nor its gradient overflows or vanishes.
    """
    x = log_ratio(ref_logprobs, logprobs)
    return bounded_expm1(x) - x
