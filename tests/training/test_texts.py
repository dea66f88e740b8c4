"""From messages to what is learned: nothing cut, nothing twice, and each refusal with the name of what it is about."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from posttrain.algorithms.reward_model import Read
from posttrain.batching import TokenSequence
from posttrain.data.conversations import Conversation
from posttrain.data.pairs import Pair
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.models import tiny_tokenizer
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.policy.scalar import load_scalar
from posttrain.renderer import Renderer
from posttrain.training.likelihood import likelihood_step
from posttrain.training.pairs import PairTokens
from posttrain.training.rewards import ConversationReader
from posttrain.training.texts import completion, fit, sequences
from posttrain.types import Message, UserError
from tests.golden_masks.formats import TEMPLATES

CHATML = Renderer(tiny_tokenizer())


def with_template(name: str) -> Renderer:
    """The tiny model's tokenizer with another model's template, in which ChatML's marks are the same."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text()
    return Renderer(tokenizer)


def talk(*said: str, name: str = "c", system: str = "") -> Conversation:
    """The user and the assistant in turn."""
    first = (Message("system", system),) if system else ()
    return Conversation(name, first + tuple(Message(("user", "assistant")[i % 2], words) for i, words in enumerate(said)))


@pytest.fixture
def policy() -> Policy:
    return load_policy("tiny", "float32")


# ---------------------------------------------------------------------------------------------------------- the whole loss


@pytest.mark.parametrize("template", ["smollm2", "qwen2_5", "qwen3"])
def test_the_loss_counts_every_token_of_the_assistants_once_each_behind_what_it_will_read(template: str, policy: Policy) -> None:
    renderer = with_template(template)
    conversation = talk("hi", "<think>\nhm\n</think>\n\nyo", "more", "no", "and?", "  well")
    made = sequences(renderer, conversation)
    alone = [completion(renderer, conversation.messages[:i], conversation.messages[i : i + 1]) for i in (1, 3, 5)]
    assert len(made) == (3 if template == "qwen3" else 1)
    expected = policy.score(alone)[0]
    metrics = likelihood_step(policy, Optimizer(policy.parameters(), AdamWConfig()), made, tokens_per_batch=200)
    assert metrics["data/trained_tokens"] == len(expected) == sum(s.n_predicted for s in alone)
    assert_close(torch.tensor(metrics["loss/nll_nats"]), -expected.mean(), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- never cut


def fitted(items, context: int, **how):
    return fit(items, partial(sequences, CHATML), lambda made: made, context, **how)


def test_a_conversation_that_is_too_long_is_left_out_and_counted_and_never_cut() -> None:
    short, long = talk("hi", "yo", name="short"), talk("hi", "yo" * 40, name="long")
    found = fitted([long, short], context=30)
    assert found.items == [short] and found.made == [sequences(CHATML, short)]
    assert found.dropped == {"longer than 30 tokens": 1}
    with pytest.raises(UserError, match="long has 103 tokens, the context holds 30"):
        fitted([short, long], context=30, when_too_long="error")


def test_a_conversation_that_just_fits_is_whole() -> None:
    (made,) = sequences(CHATML, talk("hi", "yo"))
    n = len(made.prompt) + len(made.tokens)
    assert fitted([talk("hi", "yo")], context=n).made == [[made]]
    with pytest.raises(UserError, match=f"1 longer than {n - 1} tokens"):
        fitted([talk("hi", "yo")], context=n - 1)


def test_answers_that_differ_only_behind_the_contexts_end_are_left_out_and_not_made_alike() -> None:
    prompt, same = (Message("user", "hi"),), "la " * 30
    answers = {"far": same, "near": same[:9]}
    pairs = [Pair(end, prompt, (Message("assistant", start + end),), (Message("assistant", start + "!"),)) for end, start in answers.items()]
    found = fit(pairs, partial(PairTokens.of, CHATML), lambda pair: pair.sequences, 60)
    assert [pair.id for pair in found.items] == ["near"] and found.dropped == {"longer than 60 tokens": 1}
    (both,) = found.made
    assert both.chosen.tokens != both.rejected.tokens and both.chosen.prompt == both.rejected.prompt


def test_what_the_template_refuses_is_named_or_left_out_and_counted() -> None:
    gemma2 = with_template("gemma2")
    told, plain = talk("hi", "yo", name="line 1", system="s"), talk("hi", "yo", name="line 2")
    make = partial(sequences, gemma2)
    with pytest.raises(UserError, match="^line 1: .*System role not supported"):
        fit([told, plain], make, lambda made: made, 100)
    found = fit([told, plain, told], make, lambda made: made, 100, when_bad="drop")
    assert found.items == [plain] and list(found.dropped.values()) == [2]
    with pytest.raises(UserError, match="none of the 1 texts can be used .*System role"):
        fit([told], make, lambda made: made, 100, when_bad="drop")


# ------------------------------------------------------------------------------------------------- where a reward is read


@pytest.mark.parametrize("template", ["smollm2", "qwen2_5", "qwen3"])
def test_a_reward_model_is_read_where_it_has_been_trained_to_be(template: str) -> None:
    model = load_scalar("tiny", "float32")
    model.renderer = with_template(template)
    prompt = (Message("user", "hi"), Message("assistant", "yo"), Message("user", "more"))
    pair = Pair("", prompt, (Message("assistant", "good"),), (Message("assistant", "bad"),))
    trained = Read.pair(model.renderer, pair).sequences
    reader = ConversationReader(model)
    judged = [reader.tokens((*prompt, *answer)) for answer in (pair.chosen, pair.rejected)]
    assert [whole(s) for s in judged] == [whole(s) for s in trained]
    assert all(s.tokens[-1] == model.renderer.stop_token_ids[0] for s in judged)
    assert_close(torch.tensor(reader([(*prompt, *pair.chosen)])), model.score(trained[:1]), rtol=0, atol=1e-6)


def whole(sequence: TokenSequence) -> tuple[tuple[int, ...], list[int]]:
    """All tokens, and the places that are read."""
    return sequence.prompt + sequence.tokens, [len(sequence.prompt) + i for i, mark in enumerate(sequence.predicted) if mark]


def test_a_conversation_that_a_reward_model_cannot_read_is_not_judged_and_its_neighbour_is() -> None:
    model = load_scalar("tiny", "float32")
    model.renderer = with_template("gemma2")
    good = (Message("user", "hi"), Message("assistant", "yo"))
    refused, number, long = ConversationReader(model)([(Message("system", "s"), *good), good, (good[0], Message("assistant", "la" * 400))])
    assert "System role not supported" in refused and isinstance(number, float) and "context of 512 tokens" in long
