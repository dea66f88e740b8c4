"""The policy: what is loaded, what is trained, what is saved, and what it must never do."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from posttrain.batching import TokenSequence, pack
from posttrain.policy.hf import load_policy
from posttrain.policy.models import resolve
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.types import UserError
from tests.small_models import EOS, eager_logprobs, eager_model, gradients, text, write_model

SEQUENCES = [TokenSequence(text(9, 1), text(14, 2)), TokenSequence(text(9, 1), text(5, 3)), TokenSequence(text(3, 4), text(20, 5))]


def test_a_saved_policy_is_a_plain_transformers_model(tmp_path):
    policy = load_policy("tiny", "float32")
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.01))
    before = policy.score(SEQUENCES)[0]
    policy.logprobs(pack(SEQUENCES, 1000)[0]).sum().backward()
    optimizer.step()
    policy.save(tmp_path)
    assert "posttrain" not in (tmp_path / "config.json").read_text()
    with torch.no_grad():
        saved = eager_logprobs(eager_model(tmp_path), SEQUENCES)
    assert (saved - before).abs().max() > 0.1
    assert_close(saved, policy.score(SEQUENCES)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_policy_loads_as_the_same_policy(dtype, tmp_path):
    policy = load_policy("tiny", dtype)
    policy.save(tmp_path)
    loaded = load_policy(str(tmp_path), dtype)
    assert loaded.dtype == getattr(torch, dtype)
    assert torch.equal(loaded.score(SEQUENCES)[0], policy.score(SEQUENCES)[0])
    assert loaded.renderer.stop_token_ids == policy.renderer.stop_token_ids
    assert loaded.renderer.template == policy.renderer.template


def test_the_embedding_of_the_end_of_turn_is_trained_even_where_it_is_the_padding_token(tmp_path):
    folder = write_model(tmp_path, tie_word_embeddings=False)
    policy = load_policy(str(folder), "float32")
    assert policy.base.config.pad_token_id == EOS
    sequence = TokenSequence((*text(3, 1), EOS, *text(3, 2)), text(4, 3))
    gradient = gradients(policy, [sequence], torch.ones(4), 100)["model.embed_tokens.weight"]
    assert gradient[EOS].abs().max() > 0
    used = set(sequence.prompt + sequence.tokens[:-1])
    assert set(gradient.abs().amax(1).nonzero()[:, 0].tolist()) == used


def test_dropout_is_off_in_training_too(tmp_path):
    dropouts = {"resid_pdrop": 0.9, "embd_pdrop": 0.9, "attn_pdrop": 0.9}
    policy = load_policy(str(write_model(tmp_path, "gpt2", n_positions=128, **dropouts)), "float32")
    (batch,) = pack(SEQUENCES, 1000)
    first, second = policy.logprobs(batch), policy.logprobs(batch)
    assert first.requires_grad and torch.equal(first, second)
    with torch.no_grad():
        assert_close(policy.score(SEQUENCES)[0], eager_logprobs(eager_model(tmp_path), SEQUENCES), rtol=0, atol=1e-4)


def test_padded_rows_of_the_output_are_no_tokens_and_are_not_trained(tmp_path):
    policy = load_policy(str(write_model(tmp_path, vocab_size=300, tie_word_embeddings=False)), "float32")
    assert policy.head.vocab_size == 258
    gradient = gradients(policy, SEQUENCES, torch.ones(39), 1000)["lm_head.weight"]
    assert gradient[258:].eq(0).all() and gradient[:258].ne(0).any(1).all()


def test_scoring_leaves_no_graph_and_training_does():
    policy = load_policy("tiny", "float32")
    assert not policy.score(SEQUENCES)[0].requires_grad
    assert policy.logprobs(pack(SEQUENCES, 1000)[0]).requires_grad


def test_scores_of_tokens_are_those_of_their_sequences():
    policy = load_policy("tiny", "float32")
    pairs = [(s.prompt, s.tokens) for s in SEQUENCES]
    logprobs, entropies = policy.score(SEQUENCES)
    measured = policy.score_tokens([*pairs, (text(4, 9), ())])
    assert [x for a, _ in measured for x in a] == logprobs.tolist()
    assert [x for _, b in measured for x in b] == entropies.tolist()
    assert [len(a) for a, _ in measured] == [14, 5, 20, 0]
    assert policy.score_tokens([]) == []


def test_entropies_are_those_of_the_next_tokens_distribution():
    policy = load_policy("tiny", "float32")
    ids = torch.tensor([SEQUENCES[0].prompt + SEQUENCES[0].tokens])
    with torch.no_grad():
        logp = eager_model(resolve("tiny"))(input_ids=ids).logits[0, 8:-1].log_softmax(-1)
    assert_close(policy.score(SEQUENCES[:1])[1], -(logp.exp() * logp).sum(-1), rtol=0, atol=1e-4)


def test_a_frozen_copy_stays_what_it_was():
    policy = load_policy("tiny", "float32")
    reference, before = policy.frozen_copy(), policy.score(SEQUENCES)[0]
    optimizer = Optimizer(policy.parameters(), AdamWConfig(learning_rate=0.01))
    policy.logprobs(pack(SEQUENCES, 1000)[0]).sum().backward()
    optimizer.step()
    assert reference.parameters() == []
    assert torch.equal(reference.score(SEQUENCES)[0], before)
    assert not torch.equal(policy.score(SEQUENCES)[0], before)


def test_bf16_log_probs_stay_near_those_in_fp32():
    gap = load_policy("tiny", "bfloat16").score(SEQUENCES)[0] - load_policy("tiny", "float32").score(SEQUENCES)[0]
    assert 0 < gap.abs().max() < 0.2


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UserError, match="auto, float32 or bfloat16"):
        load_policy("tiny", "float16")
