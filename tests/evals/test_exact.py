"""Exact success: it adds up over everything that can be said, agrees with sampling, and pass@k has no noise."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.evals.exact import exact_pass_at_k, logprobs_at, pass_at_k_of, success_probabilities
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.words import WordModelConfig, write_word_model
from posttrain.types import Sampling


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Five tokens: <unk>, <end>, a, b, c."""
    folder: Path = tmp_path_factory.mktemp("words")
    return load_policy(str(write_word_model(folder, ["a", "b", "c"], WordModelConfig(hidden=16, heads=2))), "float32")


def every(prompt: tuple[int, ...], longest: int) -> list[TokenSequence]:
    """All completions of at most so many tokens that end at the first <end>, or at the limit."""
    ended = [(*body, 1) for n in range(longest) for body in itertools.product((0, 2, 3, 4), repeat=n)]
    return [TokenSequence(prompt, tokens) for tokens in [*ended, *itertools.product((0, 2, 3, 4), repeat=longest)]]


def test_everything_that_can_be_said_has_the_chance_one(policy: Policy) -> None:
    chances = success_probabilities(policy, [every((2,), 3), every((3, 4), 2), []], (0.5, 1.0, 2.0))
    assert np.allclose(chances, [[1, 1, 0]] * 3, atol=1e-5)
    assert chances.max() <= 1


def test_the_chance_is_how_often_sampling_succeeds(policy: Policy) -> None:
    prompt, n = (2, 3), 4000
    successes = [s for s in every(prompt, 3) if s.tokens[0] in (2, 3) and s.tokens[-1] != 4]
    for temperature in (0.7, 1.0):
        (chance,) = success_probabilities(policy, [successes], (temperature,))[0]
        drawn = asyncio.run(LocalEngine(policy).sample(prompt, n, Sampling(temperature, 3), (1,)))
        share = np.mean([TokenSequence(prompt, c.token_ids) in successes for c in drawn])
        assert 0.05 < chance < 0.95 and abs(share - chance) < 4 * (chance * (1 - chance) / n) ** 0.5


def test_one_pass_of_the_transformer_serves_every_temperature(policy: Policy) -> None:
    sequences = every((4, 2), 2)
    both = logprobs_at(policy, sequences, (0.5, 1.5), max_tokens=20)
    for row, temperature in zip(both, (0.5, 1.5), strict=True):
        alone = policy.score([TokenSequence(s.prompt, s.tokens, None, temperature) for s in sequences])[0]
        assert np.allclose(row, alone, atol=1e-5)


def test_a_success_given_twice_is_refused(policy: Policy) -> None:
    once = TokenSequence((2,), (3, 1))
    with pytest.raises(ValueError, match="twice"):
        success_probabilities(policy, [[once, once]])


def test_pass_at_k_by_hand_and_where_chances_are_tiny() -> None:
    assert np.allclose(pass_at_k_of([0.5, 0, 1], 2), [0.75, 0, 1])
    assert pass_at_k_of([1e-12], 1000)[0] == pytest.approx(1e-9, rel=1e-6)
    measured = exact_pass_at_k([0.5, 0, 1, 0.5], 2)
    assert measured.value == pytest.approx(0.625) and measured.n == 4 and measured.low < 0.625 < measured.high
