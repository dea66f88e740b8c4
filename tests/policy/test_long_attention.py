"""Segments longer than a block of queries: recomputed in pieces, equal to the plain forward in value and gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from posttrain.batching import TokenSequence, pack
from posttrain.policy.attention import BLOCK, LONG
from posttrain.policy.hf import load_policy
from tests.small_models import LargestResult, eager_logprobs, eager_model, gradients, relative_error, text, write_model

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
         "max_position_embeddings": 2048}  # fmt: skip
WINDOWED = {"model_type": "mistral", "sliding_window": LONG - 100}


def long_texts() -> list[TokenSequence]:
    """A prompt of more than a block with two completions, one of them longer than a block too; and a short text."""
    prompt = text(LONG + 40, 1)
    return [TokenSequence(prompt, text(LONG + 70, 2)), TokenSequence(prompt, text(9, 3)), TokenSequence(text(4, 4), text(12, 5))]


CAPPED = {"model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
          "layer_types": ["sliding_attention"], "sliding_window": LONG - 100}  # fmt: skip
SINKS = {"model_type": "gpt_oss", "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "layer_types": ["full_attention"]}


@pytest.mark.parametrize("settings", [{}, WINDOWED, CAPPED, SINKS], ids=["full", "windowed", "capped", "with sinks"])
def test_long_segments_have_the_log_probs_and_gradients_of_the_plain_forward(settings, tmp_path):
    folder = write_model(tmp_path, **SIZES | settings)
    policy, reference = load_policy(str(folder), "float32"), eager_model(folder)
    expected = eager_logprobs(reference, long_texts())
    weights = torch.randn(len(expected))
    (expected * weights).sum().backward()
    assert_close(policy.score(long_texts())[0], expected.detach(), rtol=0, atol=1e-4)
    measured = gradients(policy, long_texts(), weights, 10_000)
    assert relative_error(measured, {name: p.grad for name, p in reference.named_parameters()}) < 1e-5


def largest_result(folder: Path, n: int) -> int:
    """Elements of the largest tensor in the forward and backward pass of one text of n tokens and one prediction."""
    policy = load_policy(str(folder), "float32")
    (batch,) = pack([TokenSequence((1,), text(n, 1), (False,) * (n - 1) + (True,))], 10_000)
    with LargestResult() as largest:
        policy.logprobs(batch).sum().backward()
    return largest.numel


def test_memory_of_attention_grows_with_the_length_and_not_with_its_square(tmp_path):
    folder = write_model(tmp_path, **SIZES)
    n = 3 * LONG
    assert largest_result(folder, n) <= SIZES["num_attention_heads"] * BLOCK * (n + 64) < SIZES["num_attention_heads"] * n * n
