"""What is worth knowing of a policy-gradient update, added up over its rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from posttrain.losses.kl import k3
from posttrain.losses.policy import clip_fraction


class Watch:
    """Sums over the tokens of an optimizer step."""

    def __init__(self) -> None:
        self.n = 0
        self.mismatch = 0.0
        self.sums: dict[str, float] = {}

    def add(self, logprobs: Tensor, old: Tensor, ratios: Tensor, advantages: Tensor, entropies: Tensor, clip_low: float, clip_high: float) -> None:
        """One row's tokens; call it without gradient."""
        low, high = clip_fraction(ratios, advantages, clip_low, clip_high)
        new = {
            "policy/entropy_nats": entropies.sum().item(),
            "policy/clip_low_frac": low.item() * len(logprobs),
            "policy/clip_high_frac": high.item() * len(logprobs),
            "policy/kl_old_nats": k3(logprobs, old).sum().item(),
        }
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in new.items()}
        self.n += len(logprobs)
        self.mismatch = max(self.mismatch, (logprobs - old).abs().max().item())

    def metrics(self) -> dict[str, float]:
        """Means over tokens; of the distance between the policy and the sampler the maximum."""
        return {name: value / max(1, self.n) for name, value in self.sums.items()} | {"sampling/mismatch_nats_max": self.mismatch}


def over_updates(seen: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean over a round's updates; of the mismatch only the first, where the policy still is the sampler."""
    seen = [row for row in seen if row]
    if not seen:
        return {}
    means = {name: sum(row[name] for row in seen) / len(seen) for name in seen[0]}
    return means | {"sampling/mismatch_nats_max": seen[0]["sampling/mismatch_nats_max"]}
