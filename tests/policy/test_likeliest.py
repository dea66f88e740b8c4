"""The likeliest tokens in each place: the head's own numbers, whatever shares the row."""

from __future__ import annotations

import pytest
import torch

from posttrain.batching import TokenSequence
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.likeliest import likeliest
from tests.small_models import eager_model, text, write_model

SEQUENCES = [TokenSequence(text(5, 1), text(7, 2)), TokenSequence(text(5, 1), text(3, 3)), TokenSequence(text(9, 4), text(4, 5), None, 0.5)]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    sizes = {} if request.param == "llama" else {"n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return write_model(tmp_path_factory.mktemp(request.param), request.param, **sizes)


@pytest.fixture(scope="module")
def policy(folder) -> Policy:
    return load_policy(str(folder), "float32")


def test_log_probs_and_the_likeliest_are_those_of_transformers_own_forward(policy: Policy, folder) -> None:
    model, rows = eager_model(folder), []
    for s in SEQUENCES:
        logits = model(input_ids=torch.tensor([s.prompt + s.tokens])).logits[0, len(s.prompt) - 1 : -1] / s.temperature
        rows.append((logits.log_softmax(-1), s.tokens))
    logprobs, top, ids = likeliest(policy, SEQUENCES, 3)
    expected = torch.cat([logp.gather(1, torch.tensor(tokens)[:, None])[:, 0] for logp, tokens in rows])
    best, places = torch.cat([logp for logp, _ in rows]).topk(3)
    torch.testing.assert_close(logprobs, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(top, best, atol=1e-4, rtol=0)
    assert torch.equal(ids, places)


def test_how_sequences_are_cut_into_rows_changes_nothing(policy: Policy) -> None:
    for found, expected in zip(likeliest(policy, SEQUENCES, 2, max_tokens=16), likeliest(policy, SEQUENCES, 2), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_token_behind_a_full_context_is_predicted_and_no_further_one(policy: Policy) -> None:
    whole = text(policy.max_context + 1, 6)
    logprobs, _, _ = likeliest(policy, [TokenSequence(whole[:-2], whole[-2:])], 1)
    shorter, _, _ = likeliest(policy, [TokenSequence(whole[:-2], whole[-2:-1])], 1)
    assert logprobs[0] == pytest.approx(float(shorter[0]), abs=1e-5) and logprobs.isfinite().all()
    with pytest.raises(ValueError, match="longer than the context"):
        likeliest(policy, [TokenSequence(whole, (1,))], 1)
