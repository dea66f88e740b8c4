"""A transformer that gives one number for each token: a reward model, a process reward model, or a critic.

On disk it is transformers' own `…ForSequenceClassification` with one label; so other libraries can load it, and published
reward models of that kind load here. Where a text is read is a matter of its length alone, here, and never of which token
ends or pads it. transformers' forward looks for the last token that is not the padding's: the same number, unless a text ends
in that token (as a turn does, where padding and end of turn share one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.policy.attention import PackedAttention
from posttrain.policy.hf import SCORING_TOKENS
from posttrain.policy.loading import load_model
from posttrain.policy.lora import LoraConfig
from posttrain.policy.models import resolve
from posttrain.policy.trunk import Trunk


STEPS_FILE = "steps.json"
"""Beside the weights of a process reward model."""


@dataclass
class ScalarModel(Trunk):
    """One number for each token, computed in fp32 from the token's last hidden state."""

    step_separator: str | None = None
    """What stands between the steps that a process reward model judges one by one; None for a model of whole texts."""

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

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.step_separator is not None:
            (folder / STEPS_FILE).write_text(json.dumps({"step_separator": self.step_separator}))


def load_scalar(model: str, dtype: str = "auto", lora: LoraConfig | None = None) -> ScalarModel:
    """A scalar model from anything `models.resolve` takes; a language model's trunk gets a new head, drawn from torch's generator."""
    file = resolve(model) / STEPS_FILE
    separator = json.loads(file.read_text())["step_separator"] if file.is_file() else None
    return ScalarModel(*load_model(model, dtype, "scalar", lora), model, step_separator=separator)
