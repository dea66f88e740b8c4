"""Weights that are laid out for sampling give the numbers of the plain ones, and are given up when the plain ones change."""

from __future__ import annotations

import asyncio

import pytest
import torch

from posttrain.batching import TokenSequence, pack
from posttrain.engine.local import MANY_TOKENS, LocalEngine
from posttrain.policy.attention import PackedAttention
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.laid_out import LaidOut
from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.policy.products import can_lay_out, lay_out, multiply
from posttrain.types import Completion, Sampling

PROMPT = (5, 6, 7, 8)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def policy(request) -> Policy:
    return load_policy("tiny", request.param)


def hidden(policy: Policy) -> torch.Tensor:
    (batch,) = pack([TokenSequence(PROMPT, (9, 10, 11))], 64)
    with torch.no_grad():
        return policy.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_laid_out_product_is_the_plain_one_or_is_not_made(dtype):
    x, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((23, 64), (192, 64), (192,)))
    if can_lay_out(weight):
        torch.testing.assert_close(multiply(x, lay_out(weight), bias), torch.nn.functional.linear(x, weight, bias), rtol=0, atol=0)


def test_inside_the_layers_multiply_by_what_was_laid_out_and_outside_they_are_as_before(policy):
    laid_out = LaidOut.of(policy)
    before = hidden(policy)
    with laid_out.used():
        assert torch.equal(hidden(policy), before)
        assert all("forward" in vars(layer) for layer, _ in laid_out.layers)
    assert not any("forward" in vars(layer) for layer, _ in laid_out.layers)


def test_layers_that_read_the_same_states_share_a_product_and_others_get_their_own_numbers(policy):
    attention = policy.base.get_decoder().layers[0].self_attn
    query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
    if not can_lay_out(query.weight, key.weight, value.weight):
        pytest.skip("products of this dtype are not laid out here")
    one, other = torch.randn(2, 5, query.in_features).to(policy.dtype)
    plain = [[layer(x) for x in (one, other)] for layer in (query, key, value)]
    laid_out = LaidOut.of(policy)
    forwards = dict(laid_out.layers)
    assert len({id(forwards[layer].func.__self__) for layer in (query, key, value)}) == 1
    with laid_out.used(), torch.no_grad():
        assert torch.equal(query(one), plain[0][0]) and torch.equal(key(other), plain[1][1]) and torch.equal(value(other), plain[2][1])
        assert torch.equal(value(one), plain[2][0]) and torch.equal(query(other), plain[0][1]) and torch.equal(key(one), plain[1][0])


def test_the_heads_blocks_give_the_same_logits(policy):
    states = hidden(policy)
    ones = torch.ones(len(states))
    for ours, plain in zip(LaidOut.of(policy).head.distribution(states, ones), policy.head.distribution(states, ones), strict=True):
        assert torch.equal(ours, plain)


def test_an_optimizer_step_makes_what_was_laid_out_stale():
    for dtype, lora in (("float32", None), ("bfloat16", None), ("float32", LoraConfig(rank=2))):
        policy = load_policy("tiny", dtype, lora)
        optimizer, laid_out = Optimizer(policy.parameters(), AdamWConfig(learning_rate=1e-2)), LaidOut.of(policy)
        assert laid_out.is_current
        (batch,) = pack([TokenSequence(PROMPT, (9, 10, 11))], 64)
        policy.logprobs(batch).sum().backward()
        assert laid_out.is_current
        optimizer.step()
        assert not laid_out.is_current, (dtype, lora)


def test_weights_that_change_while_somebody_waits_are_laid_out_anew(policy):
    """Half-way the head is set to 0: from then on every token is as likely as any other."""

    async def sample() -> Completion:
        engine = LocalEngine(policy)
        waiting = asyncio.create_task(engine.sample(PROMPT, 1, Sampling(max_tokens=2 * MANY_TOKENS)))
        while engine.n_tokens < 4:
            await asyncio.sleep(0)
        with torch.no_grad():
            saved = policy.head.weight.clone()
            policy.head.weight.zero_()
        (completion,) = await waiting
        with torch.no_grad():
            policy.head.weight.copy_(saved)
        return completion

    logprobs = torch.tensor(asyncio.run(sample()).sampling_logprobs)
    uniform = -torch.tensor(float(policy.head.size)).log()
    assert torch.allclose(logprobs[4:], uniform.expand(len(logprobs) - 4), atol=1e-5)
    assert not torch.allclose(logprobs[:4], uniform.expand(4), atol=1e-5)
