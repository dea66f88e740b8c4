"""The frozen model that a KL or a preference loss compares with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack, rollout_sequences
from posttrain.policy.head import Head
from posttrain.policy.hf import SCORING_TOKENS, Policy, load_policy
from posttrain.policy.models import resolve, revision
from posttrain.policy.trunk import Trunk
from posttrain.runs.folder import read_object
from posttrain.statistics import clustered_mean
from posttrain.types import Rollout, UserError


T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """A model that does not change: one of its own, or the trained policy with its adapter switched off."""

    policy: Policy
    shares_weights: bool
    """Whether `policy` is the one being trained."""

    @classmethod
    def of(cls, policy: Policy, model: str, dtype: str, adapter_is_new: bool) -> Reference:
        """The model that the run began with. Switching an adapter off gives it only where the run itself has put the adapter on."""
        if policy.has_adapter and adapter_is_new:
            return cls(policy, True)
        return cls(load_reference(policy, model, dtype), False)

    def logprobs(self, sequences: Sequence[TokenSequence]) -> list[Tensor]:
        """The log-probs (nats) of each sequence's predictions, without gradient."""
        with self.itself():
            flat = self.policy.score(sequences)[0]
        return list(flat.split([s.n_predicted for s in sequences]))

    def gaps(self, rollouts: Sequence[Rollout]) -> Tensor:
        """log(sampler / reference) of whole attempts, in nats, at the temperature they were drawn at: k1, whose mean is the KL."""
        stretches = [rollout_sequences(rollout) for rollout in rollouts]
        parts = iter(self.logprobs([s for sequences in stretches for s in sequences]))
        theirs = [sum(next(parts).sum().item() for _ in sequences) for sequences in stretches]
        ours = [sum(x for c in rollout.completions for x in c.sampling_logprobs) for rollout in rollouts]
        return torch.tensor(ours) - torch.tensor(theirs)

    @torch.no_grad()
    def states(self, sequences: Sequence[TokenSequence]) -> tuple[Head, Tensor]:
        """The head, and the hidden state [N, D] from which each prediction is made, in the order of the sequences; for a row or so."""
        with self.itself():
            pieces = [(batch.index, self.policy.states(batch)) for batch in pack(sequences, SCORING_TOKENS)]
        index, states = (torch.cat(column) for column in zip(*pieces, strict=True))
        return self.policy.head, states[index.argsort()]

    def inside(self, read: Callable[[Policy], T]) -> T:
        """What `read` makes of the frozen model."""
        with self.itself():
            return read(self.policy)

    def itself(self) -> AbstractContextManager[None]:
        """While entered, `policy` is the reference: without the adapter, where the weights are shared."""
        return self.policy.as_reference() if self.shares_weights else nullcontext()


def kl_metrics(gaps_PG: Sequence[Sequence[float]]) -> dict[str, float]:
    """The KL to the reference in nats of whole attempts, from log(sampler / reference) of each: its mean, with the 95% interval over problems."""
    kl = clustered_mean(gaps_PG, "nats")
    return {
        "policy/kl_ref_nats": kl.value, "policy/kl_ref_stderr": kl.stderr, "policy/kl_ref_low": kl.low, "policy/kl_ref_high": kl.high,
        "policy/kl_ref_n": kl.n,
    }  # fmt: skip


def is_ancestor(model: str, descendant: str) -> bool:
    """Whether `descendant` was trained from `model`, in one run or one after another, as the configurations beside its checkpoints tell."""
    wanted, folder = revision(resolve(model)), resolve(descendant)
    while (parent := _trained_from(folder)) is not None:
        if revision(parent) == wanted:
            return True
        folder = parent
    return False


def _trained_from(folder: Path) -> Path | None:
    """The folder of the model that a run's checkpoint began as; None where it is no run's, or that model is gone."""
    file = folder.parent.parent / "config.json"
    if folder.parent.name != "checkpoints" or not file.is_file():
        return None
    try:
        return resolve(read_object(file)["model"])
    except (UserError, KeyError):
        return None


def load_reference(policy: Policy, model: str, dtype: str) -> Policy:
    """A frozen model that reads the policy's tokens. Raises UserError where it has another vocabulary."""
    reference = load_policy(model, dtype)
    reference.model.requires_grad_(False)
    check_same_tokens(policy, reference, model)
    return reference


def check_same_tokens(policy: Trunk, other: Trunk, name: str) -> None:
    """Raises UserError unless both models mean the same text by the same token ids."""
    if policy.renderer.tokenizer.get_vocab() != other.renderer.tokenizer.get_vocab():
        raise UserError(f"'{name}' has another tokenizer than '{policy.path}' and cannot read its tokens: take a model of its family")
