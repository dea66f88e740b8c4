"""Likelihood displacement (2410.08847): where the probability went when preference training made the chosen answers less likely.

A preference loss asks only that the gap between two answers grow. It may do so while both fall, and then what rises is
something that nobody chose. At the place where the two answers part the whole distribution is at hand: its mass on the
chosen token, on the rejected one and on all others, before and after, adds up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack
from posttrain.policy.attention import PackedAttention
from posttrain.policy.head import tempered_logprobs
from posttrain.policy.hf import SCORING_TOKENS, Policy
from posttrain.statistics import mean_over_problems
from posttrain.training.pairs import LabelledTokens, PairTokens, answer_sums, flat_labels, flat_sequences
from posttrain.training.reference import Reference
from posttrain.types import Measurement


@dataclass(frozen=True)
class Displacement:
    """What training did to the answers of some pairs, or to single labelled ones."""

    n_chosen: int
    displaced_frac: float
    """Share of the chosen (or good) answers that are less likely than under the reference."""
    chosen_change_nats: Measurement
    rejected_change_nats: Measurement
    at_the_fork: MassMoved | None
    """None for single answers, which part from nothing."""

    @property
    def is_likely(self) -> bool:
        """Whether most chosen answers fell, and by more than chance: their mean change lies below 0 with its whole interval."""
        return self.displaced_frac > 0.5 and self.chosen_change_nats.high < 0

    def __str__(self) -> str:
        change = self.chosen_change_nats
        return (
            f"{self.displaced_frac:.0%} of {self.n_chosen} chosen answers are less likely than before training (likelihood displacement), by"
            f" {-change.value:.2g} nats [{-change.high:.2g} {-change.low:.2g}] on the mean" + (f": {self.at_the_fork}" if self.at_the_fork else "")
        )


def displacement(policy: Policy, reference: Reference, examples: Sequence[PairTokens | LabelledTokens]) -> Displacement:
    """Compare the policy with its reference on a few dozen examples; one mean over chosen, one over rejected answers."""
    sequences, is_good = flat_sequences(examples), flat_labels(examples)
    changes = answer_sums(policy.score(sequences)[0] - torch.cat(reference.logprobs(sequences)), sequences)
    chosen, rejected = changes[is_good].tolist(), changes[~is_good].tolist()
    pairs = [example for example in examples if isinstance(example, PairTokens) and fork(example) is not None]
    moved = mass_moved(policy, reference.inside(lambda frozen: fork_distributions(frozen, pairs)), pairs) if pairs else None
    fell = sum(change < 0 for change in chosen) / len(chosen) if chosen else float("nan")
    return Displacement(len(chosen), fell, mean_over_problems(chosen, "nats"), mean_over_problems(rejected, "nats"), moved)


@dataclass(frozen=True)
class MassMoved:
    """Probability at the token where chosen and rejected part: how much each gained, on the mean over pairs."""

    chosen: Measurement
    rejected: Measurement
    others: Measurement
    gainers: list[tuple[str, float]]
    """The tokens, chosen and rejected ones left aside, that gained most: text and mean gain."""

    def __str__(self) -> str:
        listed = ", ".join(f"{text!r} {gain:+.3f}" for text, gain in self.gainers)
        return (
            f"where the answers part, probability moved by {self.chosen.value:+.3f} on the chosen token, {self.rejected.value:+.3f} on the"
            f" rejected one and {self.others.value:+.3f} on all others (n = {self.chosen.n}); the others that gained most: {listed}"
        )


def fork(pair: PairTokens) -> int | None:
    """The first place at which the answers differ, or None where one is the beginning of the other."""
    places = zip(pair.chosen.tokens, pair.rejected.tokens, strict=False)
    return next((i for i, (a, b) in enumerate(places) if a != b), None)


@torch.no_grad()
def mass_moved(policy: Policy, before: Sequence[Tensor], pairs: Sequence[PairTokens], n_gainers: int = 5) -> MassMoved:
    """Compare `fork_distributions` taken before with those of the policy now; `pairs` as they were given then."""
    after = fork_distributions(policy, pairs)
    ends = torch.tensor([[p.chosen.tokens[f], p.rejected.tokens[f]] for p in pairs if (f := fork(p)) is not None])
    gains_PV = torch.stack([a.exp() - b.exp() for a, b in zip(after, before, strict=True)])
    named = gains_PV.gather(1, ends)
    others = gains_PV.scatter(1, ends, 0.0)
    mean_V = others.mean(0)
    top = mean_V.topk(min(n_gainers, len(mean_V)))
    gainers = [(policy.renderer.decode([i]), g) for i, g in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
    measured = (mean_over_problems(x.tolist(), "probability") for x in (named[:, 0], named[:, 1], -named.sum(1)))
    return MassMoved(*measured, gainers)


@torch.no_grad()
def fork_distributions(policy: Policy, pairs: Sequence[PairTokens]) -> list[Tensor]:
    """Log-probs over the whole vocabulary, Float32[V], at the place where each pair's answers part; for a few dozen pairs."""
    forks = [(pair, f) for pair in pairs if (f := fork(pair)) is not None]
    marks = [tuple(i == f for i in range(f + 1)) for _, f in forks]
    sequences = [TokenSequence(p.chosen.prompt, p.chosen.tokens[: f + 1], m) for (p, f), m in zip(forks, marks, strict=True)]
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    for batch in pack(sequences, SCORING_TOKENS):
        hidden = policy.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))
        logp = tempered_logprobs(policy.head.logits(hidden.index_select(0, batch.sources)), batch.temperatures)
        for at, row in zip(batch.index.tolist(), logp, strict=True):
            found[at] = row
    return found
