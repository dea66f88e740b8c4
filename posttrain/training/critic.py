"""Critics: what a state is worth, from a head on the policy's own trunk or from a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.policy.attention import PackedAttention
from posttrain.policy.hf import SCORING_TOKENS, Policy
from posttrain.policy.optim import Optimizer
from posttrain.policy.scalar import ScalarModel
from posttrain.training.loop import Trained
from posttrain.types import UserError


class Critic(Protocol):
    """Values of states, in units of reward."""

    optimizer: Optimizer

    def values(self, batch: Batch, states: Tensor) -> Tensor:
        """Of the state before each predicted token, Float32[N], differentiable; `states` are the policy's own there, [N, D]."""
        ...

    def score(self, sequences: Sequence[TokenSequence], before: bool = True) -> Tensor:
        """Of the state before (or, with `before` False, after) each predicted token, without gradient."""
        ...

    def save(self, folder: Path) -> None: ...


class OwnCritic:
    """A scalar model beside the policy."""

    def __init__(self, model: ScalarModel, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def values(self, batch: Batch, states: Tensor) -> Tensor:
        return self.model.read(batch, batch.sources)

    def score(self, sequences: Sequence[TokenSequence], before: bool = True) -> Tensor:
        return self.model.score(sequences, before)

    def save(self, folder: Path) -> None:
        self.model.save(folder)


class SharedCritic:
    """A linear head on the policy's last hidden states; its loss trains the trunk too."""

    def __init__(self, policy: Policy, head: nn.Linear, optimizer: Optimizer) -> None:
        self.policy, self.head, self.optimizer = policy, head, optimizer

    @staticmethod
    def new_head(policy: Policy) -> nn.Linear:
        """Zero everywhere: the first values are 0, and the first advantages the returns."""
        head = nn.Linear(policy.base.get_output_embeddings().weight.shape[1], 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def values(self, batch: Batch, states: Tensor) -> Tensor:
        return self.head(states.float())[:, 0]

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], before: bool = True) -> Tensor:
        values = torch.empty(sum(s.n_predicted for s in sequences))
        for batch in pack(sequences, SCORING_TOKENS):
            hidden = self.policy.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))
            at = batch.sources if before else batch.places
            values[batch.index] = self.head(hidden.index_select(0, at).float())[:, 0]
        return values

    def save(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.head.state_dict(), folder / "head.pt")


@dataclass
class ActorCritic(Trained):
    """A policy and its critic, saved and taken up together."""

    critic: Critic = field(kw_only=True)
    kl_coef: float = 0.0
    """Of the adaptive controller, which moves it."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.critic.save(folder / "trainer" / "critic")
        with (folder / "trainer" / "critic_optimizer.pt").open("wb") as file:
            torch.save(self.critic.optimizer.state_dict(), file)

    def state(self) -> dict[str, Any]:
        return super().state() | {"kl_coef": self.kl_coef}

    def restore(self, state: dict[str, Any], checkpoint: Path) -> None:
        super().restore(state, checkpoint)
        self.kl_coef = state["kl_coef"]
        trainer = checkpoint / "trainer"
        try:
            if isinstance(self.critic, SharedCritic):
                self.critic.head.load_state_dict(torch.load(trainer / "critic" / "head.pt", weights_only=True))
            self.critic.optimizer.load_state_dict(torch.load(trainer / "critic_optimizer.pt", weights_only=True))
        except Exception as error:
            raise UserError(f"'{checkpoint}' is damaged (the critic's state cannot be read): give another --out") from error
