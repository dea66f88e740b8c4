"""A transformer that gives one number for each token: a reward model, a process reward model, or a critic.

On disk it is transformers' own `…ForSequenceClassification` with one label, whose forward (the head at a text's last
token) gives the same number; so other libraries can load it, and published reward models of that kind load here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.policy.attention import PackedAttention
from posttrain.policy.hf import SCORING_TOKENS
from posttrain.policy.loading import load_model
from posttrain.policy.lora import LoraConfig
from posttrain.policy.trunk import Trunk


@dataclass
class ScalarModel(Trunk):
    """One number for each token, computed in fp32 from the token's last hidden state."""

    def read(self, batch: Batch, at: Tensor) -> Tensor:
        """The number at tokens `at` (Long[N]) of a row, Float32[N], differentiable.

        `batch.places` are the predicted tokens themselves: a reward model judges what it has read. `batch.sources` are the
        tokens before them: a critic values a state before the action.
        """
        hidden = self.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))
        return self.base.score(hidden.index_select(0, at).float())[:, 0]

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], before: bool = False, max_tokens: int = SCORING_TOKENS) -> Tensor:
        """The number at (or, for a critic, before) every predicted token of many sequences, Float32, in their order."""
        values = torch.empty(sum(s.n_predicted for s in sequences))
        for batch in pack(sequences, max_tokens):
            values[batch.index] = self.read(batch, batch.sources if before else batch.places)
        return values


def load_scalar(model: str, dtype: str = "auto", lora: LoraConfig | None = None) -> ScalarModel:
    """A scalar model from anything `models.resolve` takes; a language model's trunk gets a new head, drawn from torch's generator."""
    return ScalarModel(*load_model(model, dtype, "scalar", lora), model)
