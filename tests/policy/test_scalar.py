"""One number for each token: equal to transformers' own classifier, and whole after a trip to disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posttrain.batching import TokenSequence, pack
from posttrain.policy.hf import load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.types import UserError

LAST = [
    TokenSequence((1, 2, 3), (4, 5, 6, 7), (False, False, False, True)),
    TokenSequence((1, 2, 3), (9, 5), (False, True)),
    TokenSequence((8, 2, 3, 4), (4,)),
]
"""The number of a text is read at its last token."""


def made(lora: LoraConfig | None = None) -> ScalarModel:
    torch.manual_seed(0)
    return load_scalar("tiny", "float32", lora)


def moved(model: ScalarModel) -> ScalarModel:
    """With every trained weight somewhere else, an adapter's B among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("lora", [None, LoraConfig(4)], ids=["all weights", "adapter"])
def test_packed_texts_get_the_numbers_of_transformers_own_classifier(lora: LoraConfig | None) -> None:
    model = moved(made(lora))
    ours = model.score(LAST)
    model.base.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = [model.base(input_ids=torch.tensor([s.prompt + s.tokens])).logits.item() for s in LAST]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-5)
    assert len(set(ours.tolist())) == 3


@pytest.mark.parametrize("lora", [None, LoraConfig(4)], ids=["all weights", "adapter"])
def test_a_saved_model_gives_the_same_numbers_to_the_bit(lora: LoraConfig | None, tmp_path: Path) -> None:
    model = moved(made(lora))
    model.save(tmp_path)
    assert torch.equal(load_scalar(str(tmp_path), "float32").score(LAST), model.score(LAST))


def test_a_critic_reads_before_a_token_and_a_reward_model_at_it() -> None:
    model, whole = made(), TokenSequence((1, 2), (3, 4, 5))
    at, before = model.score([whole]), model.score([whole], before=True)
    assert torch.allclose(at[:-1], before[1:], atol=1e-6)
    changed = TokenSequence((1, 2), (3, 4, 6))
    assert torch.equal(model.score([changed], before=True), before), "what comes after cannot be known"
    assert model.score([changed])[-1] != at[-1]


def test_gradients_reach_head_and_trunk() -> None:
    model = made()
    (batch,) = pack(LAST, 64)
    model.read(batch, batch.places).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


def test_a_new_head_is_small_and_follows_the_seed() -> None:
    weights = [load_seeded(seed).base.score.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx((weights[0].numel() + 1) ** -0.5, rel=0.5)


def load_seeded(seed: int) -> ScalarModel:
    torch.manual_seed(seed)
    return load_scalar("tiny", "float32")


@pytest.mark.parametrize("lora", [None, LoraConfig(4)], ids=["all weights", "adapter"])
def test_a_reward_model_is_not_taken_for_a_language_model(lora: LoraConfig | None, tmp_path: Path) -> None:
    made(lora).save(tmp_path)
    with pytest.raises(UserError, match="is a reward model"):
        load_policy(str(tmp_path))
