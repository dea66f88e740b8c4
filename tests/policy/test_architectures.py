"""One attention for every architecture: packed and decoded, it gives what transformers' own plain forward gives."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

from posttrain.batching import TokenSequence, pack
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.recomputed import recompute_layers
from posttrain.types import Completion, Sampling, UserError
from tests.small_models import eager_logprobs, eager_model, gradients, text, write_model

WINDOW = 8
"""Shorter than any text here."""
BOTH_KINDS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}

SUPPORTED = {
    "cohere": {"logit_scale": 0.25},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, **BOTH_KINDS},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, **BOTH_KINDS},
    "gpt2": {"n_positions": 128},
    "gpt_neox": {},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **BOTH_KINDS},
    "granite": {"attention_multiplier": 0.2, "logits_scaling": 3.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {},
    "olmo3": BOTH_KINDS,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {"sliding_window": WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "smollm3": {"no_rope_layers": [1, 0], "use_sliding_window": True, **BOTH_KINDS},
    "starcoder2": {"sliding_window": WINDOW},
}

REFUSED = {
    "bloom": ({"n_layer": 2, "n_head": 4}, "attends by itself"),
    "deepseek_v3": (
        {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16, "first_k_dense_replace": 2},
        "keys and values of different sizes",
    ),
    "diffllama": ({}, "attends twice in a layer"),
    "falcon_h1": ({"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}, "a recurrence beside each attention"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "a convolution in place of an attention"),
    "mamba": ({}, "no attention"),
    "qwen2_moe": (
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
         "use_sliding_window": True, **BOTH_KINDS},
        "a window that our attention is not told of",
    ),
}  # fmt: skip
"""Each would give wrong log-probs, or let one text see another, without an error; with the reason."""


def texts() -> list[TokenSequence]:
    """Siblings of one prompt, a lone text, a prompt of one token; most of them longer than the window."""
    return [
        TokenSequence(text(13, 1), text(20, 2)), TokenSequence(text(13, 1), text(7, 3)),
        TokenSequence(text(5, 4), text(31, 5)), TokenSequence(text(1, 6), text(40, 7)),
    ]  # fmt: skip


def decode(policy: Policy) -> list[Completion]:
    """Two completions of each of three prompts, sampled together."""

    async def sample() -> list[Completion]:
        engine = LocalEngine(policy)
        groups = await asyncio.gather(*(engine.sample(text(n, n), 2, Sampling(max_tokens=30, seed=n)) for n in (13, 5, 1)))
        return [completion for group in groups for completion in group]

    return asyncio.run(sample())


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_packed_and_decoded_texts_have_the_log_probs_of_the_plain_forward(model_type, tmp_path):
    folder = write_model(tmp_path, model_type, **SUPPORTED[model_type])
    policy, reference = load_policy(str(folder), "float32"), eager_model(folder)
    assert len(pack(texts(), 1000)) == 1
    decoded = decode(policy)
    sampled = torch.tensor([x for c in decoded for x in c.sampling_logprobs])
    as_written = [TokenSequence(c.prompt_token_ids, c.token_ids) for c in decoded]
    with torch.no_grad():
        assert (policy.score(texts(), 1000)[0] - eager_logprobs(reference, texts())).abs().max() < 1e-4
        assert (sampled - eager_logprobs(reference, as_written)).abs().max() < 1e-4
    assert (sampled - policy.score(as_written)[0]).abs().max() < 1e-4
    assert load_policy(str(folder), "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("model_type", REFUSED)
def test_an_architecture_that_would_go_silently_wrong_is_refused_in_one_sentence(model_type, tmp_path):
    folder = write_model(tmp_path, model_type, **REFUSED[model_type][0])
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(UserError, match=f"the architecture {name} ") as refusal:
            load_policy(str(folder), dtype)
        assert "\n" not in str(refusal.value)


def test_a_window_shorter_than_the_text_hides_what_lies_before_it(tmp_path):
    policy = load_policy(str(write_model(tmp_path, "mistral", sliding_window=4, num_hidden_layers=1)), "float32")
    whole, changed = ([TokenSequence(text(6, seed) + text(6, 9), text(10, 8))] for seed in (1, 2))
    assert torch.equal(policy.score(whole)[0], policy.score(changed)[0])
    reaches = TokenSequence(text(6, 9) + text(4, 1) + text(2, 9), text(10, 8))
    assert not torch.equal(policy.score(whole)[0], policy.score([reaches])[0])


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_layers_that_are_computed_again_give_the_same_gradients_to_the_last_bit(model_type, tmp_path):
    folder = write_model(tmp_path, model_type, **SUPPORTED[model_type])
    weights = torch.linspace(-1, 1, sum(s.n_predicted for s in texts()))
    for lora in (None, LoraConfig(rank=2, alpha=4)):
        torch.manual_seed(0)
        policy = load_policy(str(folder), "float32", lora)
        kept = gradients(policy, texts(), weights, 64)
        recompute_layers(policy.base)
        again = gradients(policy, texts(), weights, 64)
        assert all(torch.equal(again[name], kept[name]) for name in kept)
        assert any(gradient.any() for gradient in kept.values())
