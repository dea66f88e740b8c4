"""The embedded real model: its tokenizer is the published one, and sampler and trainer agree on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch

from posttrain.agents.loop import ModelAgent
from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.types import Completion, Message, Problem, Rollout, Sampling
from tests.small_models import mismatch

pytestmark = pytest.mark.slow

SYSTEM = (1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198)
"""The system message that SmolLM2's template begins with, as its published tokenizer reads it."""

TEXTS = [
    "a  12", "   8", "\t7", "1\n\n  3", "x = 2024", "Jan.  1,  1999", "  0  00  000", "3.14159", "No. 5\n\n\n    6", "٣ and ²",
    "A farmer has   17 sheep;\n\n  all but  9 die.  How many are left?\n  #### 9", "def f(x):\n        return x  + 10",
]  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("smollm2", "float32")


# --------------------------------------------------------------------------------------------------------------- tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_every_token_with_a_digit_is_that_digit_alone(policy, text):
    pieces = policy.renderer.pieces(policy.renderer.encode(text))
    assert [piece for piece in pieces if any(c in "0123456789" for c in piece) and len(piece) > 1] == []
    assert "".join(c for c in pieces if c in list("0123456789")) == "".join(c for c in text if c in "0123456789")
    assert policy.renderer.decode(policy.renderer.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0123456789", [32, 33, 34, 35, 36, 37, 38, 39, 40, 41]),
        ("Hello world", [19556, 905]),
        ("a  12", [81, 256, 33, 34]),
        ("x = 2024", [104, 446, 216, 34, 32, 34, 36]),
        ("<|im_start|>assistant\n", [1, 520, 9531, 198]),
        ("<|im_end|>", [2]),
    ],
)
def test_token_ids_are_the_published_ones(policy, text, ids):
    assert policy.renderer.encode(text) == ids


def test_the_prompt_is_the_published_one(policy):
    prompt = policy.renderer.prompt((Message("user", "hi"),))
    assert prompt == (*SYSTEM, 1, *policy.renderer.encode("user\nhi"), 2, 198, 1, 520, 9531, 198)
    assert policy.renderer.stop_token_ids == (2,)
    assert (policy.renderer.vocab_size, policy.max_context) == (49152, 8192)


@pytest.mark.parametrize("answer", ["    return x", "\n\n  so", "  two", " one", "\nnext"])
def test_an_answer_that_begins_with_blanks_stands_behind_the_tokens_that_the_sampler_reads(policy, answer):
    messages = (Message("user", "hi"), Message("assistant", answer))
    read, rendered = policy.renderer.prompt(messages[:1]), policy.renderer.render(messages)
    assert rendered.token_ids[: len(read)] == read and rendered.trained.index(True) == len(read)
    assert policy.renderer.decode(rendered.token_ids[len(read) :]) == f"{answer}<|im_end|>\n"


# ------------------------------------------------------------------------------------------------------ sampler and trainer


QUESTIONS = ["What is 17+25?", "Name a colour.", "Tell me about  3 cats."]


def sample(policy: Policy, sampling: Sampling, n: int = 4) -> list[Completion]:
    """Completions of several questions that come one after the other."""
    engine, render = LocalEngine(policy), policy.renderer

    async def ask(i: int, question: str) -> list[Completion]:
        for _ in range(5 * i):
            await asyncio.sleep(0)
        return await engine.sample(render.prompt((Message("user", question),)), n, replace(sampling, seed=i), render.stop_token_ids)

    async def everyone() -> list[Completion]:
        return [c for group in await asyncio.gather(*(ask(i, q) for i, q in enumerate(QUESTIONS))) for c in group]

    return asyncio.run(everyone())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_in_fp32_sampler_and_trainer_agree(policy, temperature):
    completions = sample(policy, Sampling(temperature=temperature, max_tokens=40))
    assert sum(len(c.token_ids) for c in completions) > 200
    assert mismatch(policy, completions).max() <= 1e-4


def test_in_bf16_sampler_and_trainer_are_near():
    policy = load_policy("smollm2", "bfloat16")
    gaps = mismatch(policy, sample(policy, Sampling(max_tokens=40)))
    assert gaps.mean() < 0.05 and gaps.max() < 1.0


# -------------------------------------------------------------------------------------------------------------- generation


def answer(policy: Policy, question: str) -> Rollout:
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(temperature=0.0, max_tokens=48))
    return asyncio.run(agent.attempt(Problem("q", (Message("user", question),), ""), 1))[0]


def test_it_speaks_and_stops(policy):
    rollout = answer(policy, "What is the capital of France? Answer in one short sentence.")
    assert "Paris" in rollout.text
    assert rollout.outcome == "terminated"
    assert rollout.completions[0].token_ids[-1] == 2


def test_it_expects_language_rather_than_a_shuffle_of_it(policy):
    ids = policy.renderer.encode("The sun rises in the east and sets in the west, and the moon follows it across the sky.")
    order = torch.randperm(len(ids) - 1, generator=torch.Generator().manual_seed(0)).tolist()
    text = TokenSequence(tuple(ids[:1]), tuple(ids[1:]))
    shuffled = TokenSequence(tuple(ids[:1]), tuple(ids[1 + i] for i in order))
    likely, unlikely = policy.score([text, shuffled])[0].split(len(ids) - 1)
    assert likely.mean() > -3.5 and unlikely.mean() < likely.mean() - 3
