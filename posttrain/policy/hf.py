"""The policy: any causal language model of transformers, with one forward for training, scoring and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.policy.attention import PackedAttention
from posttrain.policy.forward_check import check_forward
from posttrain.policy.head import Head
from posttrain.policy.loading import load_model
from posttrain.policy.lora import LoraConfig
from posttrain.policy.trunk import Trunk

SCORING_TOKENS = 4096
"""Tokens in a row when only scoring, which keeps no activations."""


@dataclass
class Policy(Trunk):
    """A causal language model being trained, or measured."""

    @property
    def head(self) -> Head:
        config = self.base.config.get_text_config()
        layer = self.base.get_output_embeddings()
        size = min(self.renderer.vocab_size, len(layer.weight))
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return Head(layer.weight, getattr(layer, "bias", None), size, scale, getattr(config, "final_logit_softcapping", None))

    def logprobs(self, batch: Batch) -> Tensor:
        """Log-prob in nats of each prediction, Float32[N], differentiable, at the temperature it was drawn at."""
        return self.logprobs_and_entropies(batch)[0]

    def logprobs_and_entropies(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-prob of each prediction and entropy of its distribution over the vocabulary, in nats, Float32[N] each."""
        return self.head.logprobs(self.states(batch), batch.targets, batch.temperatures)

    def states(self, batch: Batch) -> Tensor:
        """The last hidden state from which each prediction is made, [N, D]."""
        return self.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout)).index_select(0, batch.sources)

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], max_tokens: int = SCORING_TOKENS) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of every prediction of many sequences, in their order; no gradient."""
        total = sum(s.n_predicted for s in sequences)
        logprobs, entropies = torch.empty(total), torch.empty(total)
        for batch in pack(sequences, max_tokens):
            logprobs[batch.index], entropies[batch.index] = self.logprobs_and_entropies(batch)
        return logprobs, entropies

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        """Per (prompt, completion): log-probs and entropies of the completion's tokens at temperature 1, in nats."""
        sequences = [TokenSequence(tuple(prompt), tuple(tokens)) for prompt, tokens in pairs]
        sizes = [s.n_predicted for s in sequences]
        logprobs, entropies = (x.split(sizes) for x in self.score(sequences))
        return [(a.tolist(), b.tolist()) for a, b in zip(logprobs, entropies, strict=True)]


def load_policy(model: str, dtype: str = "auto", lora: LoraConfig | None = None) -> Policy:
    """A policy from anything `models.resolve` takes. `dtype`: auto, float32 or bfloat16.

    auto is bf16 where the processor has units for it and fp32 elsewhere. Dropout is off for good (a ratio must start at
    1), and the embedding's padding row is trained like any other: often it is the token that ends a turn.
    """
    policy = Policy(*load_model(model, dtype, "causal", lora), model)
    check_forward(policy)
    return policy
