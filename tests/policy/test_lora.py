"""LoRA: it starts as the base, the base stays what it was, and the adapter can be kept, loaded and merged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from posttrain.batching import TokenSequence, pack
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.types import UserError
from tests.small_models import text, write_model

SEQUENCES = [TokenSequence(text(9, 1), text(14, 2)), TokenSequence(text(9, 1), text(5, 3)), TokenSequence(text(3, 4), text(20, 5))]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def with_lora(dtype: str = "float32", **config: float) -> Policy:
    return load_policy("tiny", dtype, LoraConfig(rank=4, **config))


def logprobs(policy: Policy) -> Tensor:
    return policy.score(SEQUENCES)[0]


def train(policy: Policy, steps: int = 3) -> Policy:
    """Make the texts more likely, step by step."""
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.01))
    for _ in range(steps):
        for batch in pack(SEQUENCES, 1000):
            (-policy.logprobs(batch).mean()).backward()
        optimizer.step()
    return policy


@DTYPES
def test_before_training_the_adapter_changes_no_bit(dtype):
    assert torch.equal(logprobs(with_lora(dtype)), logprobs(load_policy("tiny", dtype)))


@DTYPES
def test_after_training_the_reference_is_the_initial_model_to_the_bit(dtype):
    policy, initial = train(with_lora(dtype)), load_policy("tiny", dtype)
    trained = logprobs(policy)
    assert trained.mean() > logprobs(initial).mean() + 0.01
    with policy.as_reference():
        assert torch.equal(logprobs(policy), logprobs(initial))
    assert torch.equal(logprobs(policy), trained)


def test_training_goes_on_after_a_look_at_the_reference():
    policy = with_lora()
    before = [id(p) for p in policy.parameters()]
    with policy.as_reference():
        logprobs(policy)
    assert [id(p) for p in policy.parameters()] == before
    assert not torch.equal(logprobs(train(policy)), logprobs(load_policy("tiny", "float32")))


def test_every_frozen_weight_stays_and_every_adapter_weight_is_trained():
    policy = with_lora()
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    train(policy)
    moved = {name for name, p in policy.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}


def test_adapters_sit_on_every_linear_layer_of_the_blocks_and_nowhere_else():
    policy = with_lora()
    adapted = {name.split(".lora_")[0].split(".")[-1] for name, p in policy.model.named_parameters() if p.requires_grad}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_adapter_weights_are_fp32_in_a_bf16_model():
    policy = with_lora("bfloat16")
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert policy.dtype == torch.bfloat16


@DTYPES
def test_a_saved_adapter_is_the_same_policy_when_loaded_and_can_be_trained_on(dtype, tmp_path):
    policy = train(with_lora(dtype))
    policy.save(tmp_path)
    loaded = load_policy(str(tmp_path), dtype)
    assert loaded.has_adapter
    assert torch.equal(logprobs(loaded), logprobs(policy))
    assert torch.equal(logprobs(train(loaded)), logprobs(train(policy)))


def test_a_model_with_padded_rows_keeps_them_under_an_adapter(tmp_path):
    base = write_model(tmp_path / "base", vocab_size=300)
    policy = train(load_policy(str(base), "float32", LoraConfig(rank=2)))
    policy.save(tmp_path / "adapter")
    loaded = load_policy(str(tmp_path / "adapter"), "float32")
    assert loaded.base.get_input_embeddings().weight.shape[0] == 300
    assert torch.equal(logprobs(loaded), logprobs(policy))


def test_a_merged_adapter_gives_the_same_log_probs():
    policy = train(with_lora())
    expected = logprobs(policy)
    merged = Policy(policy.model.merge_and_unload(), policy.renderer, policy.path)
    assert not merged.has_adapter
    assert_close(logprobs(merged), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("config", "scale"), [({"alpha": 8.0}, 2.0), ({"alpha": 8.0, "rslora": True}, 4.0)])
def test_the_update_is_scaled_by_alpha_over_the_rank_or_its_root(config, scale):
    policy = train(with_lora(**config))
    layer = policy.base.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, a.shape[1])
    expected = x @ layer.base_layer.weight.T + scale * (x @ a.T @ b.T)
    assert b.abs().max() > 0
    assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_upon_an_adapter_is_refused(tmp_path: Path):
    with_lora().save(tmp_path)
    with pytest.raises(UserError, match="already is an adapter"):
        load_policy(str(tmp_path), "float32", LoraConfig())
