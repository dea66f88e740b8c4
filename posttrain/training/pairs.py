"""Preference pairs as training sequences, and the log-probs of whole answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack
from posttrain.data.pairs import Labelled, Pair
from posttrain.policy.hf import Policy
from posttrain.policy.optim import Optimizer
from posttrain.renderer import Renderer
from posttrain.training.likelihood import prompt_tokens
from posttrain.training.texts import completion
from posttrain.types import UserError


@dataclass(frozen=True)
class PairTokens:
    """Both answers to one prompt, as tokens; they share the prompt, so that it is computed once."""

    chosen: TokenSequence
    rejected: TokenSequence
    margin: float = 0.0

    @classmethod
    def of(cls, renderer: Renderer, pair: Pair) -> PairTokens:
        """Raises UserError where the chat template cannot mark the answers, or writes both as the same tokens."""
        chosen, rejected = (completion(renderer, pair.prompt, answer, pair.tools) for answer in (pair.chosen, pair.rejected))
        if chosen == rejected:
            raise UserError("the chat template writes the chosen and the rejected answer as the same tokens (blanks cut off?): leave the pair out")
        return cls(chosen, rejected, pair.margin)

    @property
    def sequences(self) -> tuple[TokenSequence, TokenSequence]:
        return self.chosen, self.rejected

    @property
    def labels(self) -> tuple[bool, bool]:
        return True, False


@dataclass(frozen=True)
class LabelledTokens:
    """One answer as tokens, called good or bad."""

    answer: TokenSequence
    is_good: bool

    @classmethod
    def of(cls, renderer: Renderer, labelled: Labelled) -> LabelledTokens:
        """Raises UserError where the chat template cannot mark the answer."""
        return cls(completion(renderer, labelled.prompt, labelled.answer, labelled.tools), labelled.is_good)

    @property
    def sequences(self) -> tuple[TokenSequence]:
        return (self.answer,)

    @property
    def labels(self) -> tuple[bool]:
        return (self.is_good,)


def flat_sequences(examples: Sequence[PairTokens | LabelledTokens]) -> list[TokenSequence]:
    """Of pairs: chosen, rejected, chosen, rejected …"""
    return [s for example in examples for s in example.sequences]


def flat_labels(examples: Sequence[PairTokens | LabelledTokens]) -> Tensor:
    """Bool[answers]: which of `flat_sequences` are good, or chosen."""
    return torch.tensor([label for example in examples for label in example.labels], dtype=torch.bool)


def answer_sums(flat: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
    """The sum over each sequence's predictions, differentiable: [predictions] → [sequences]."""
    lengths = torch.tensor([s.n_predicted for s in sequences], dtype=torch.long)
    owners = torch.arange(len(sequences)).repeat_interleave(lengths)
    return flat.new_zeros(len(sequences)).index_add(0, owners, flat)


@dataclass(frozen=True)
class AnswerLogprobs:
    """Of each answer: its log-prob in nats under the policy, under the reference, and how many tokens that is."""

    policy: Tensor
    reference: Tensor
    lengths: Tensor

    @property
    def log_ratios(self) -> Tensor:
        return self.policy - self.reference

    @property
    def means(self) -> Tensor:
        """Per token, of the policy."""
        return self.policy / self.lengths


def answers_step(
    policy: Policy, optimizer: Optimizer, sequences: Sequence[TokenSequence], ref_sums: Tensor, loss: Callable[[AnswerLogprobs, Tensor], Tensor],
    tokens_per_batch: int, together: int = 2,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """One optimizer step on a loss of whole answers; returns each answer's log-prob before the step, and metrics.

    `loss(answers, which)` gives the losses of the answers in one row; `which` are their places among `sequences`. Their sum
    over all rows is divided by the number of units (pairs, or single answers), so that cutting into rows changes nothing.
    """
    n_units = len(sequences) // together
    lengths = torch.tensor([s.n_predicted for s in sequences], dtype=torch.long)
    owners = torch.arange(len(sequences)).repeat_interleave(lengths)
    sums, total, entropy = torch.zeros(len(sequences)), 0.0, 0.0
    for batch in pack(sequences, tokens_per_batch, together):
        logprobs, entropies = policy.logprobs_and_entropies(batch)
        which, local = owners[batch.index].unique(return_inverse=True)
        row = logprobs.new_zeros(len(which)).index_add(0, local, logprobs)
        loss_row = loss(AnswerLogprobs(row, ref_sums[which], lengths[which]), which).sum() / n_units
        loss_row.backward()
        sums[which] = row.detach()
        total += loss_row.item()
        entropy += entropies.detach().sum().item()
    norm = optimizer.step()
    policy.version += 1
    metrics = {
        "loss/mean": total, "policy/entropy_nats": entropy / max(1, len(owners)), "policy/grad_norm": norm,
        "policy/learning_rate": optimizer.learning_rate, "data/trained_tokens": len(owners),
        "data/tokens": sum(len(s.tokens) for s in sequences) + prompt_tokens(sequences),
    }  # fmt: skip
    return sums, metrics
