"""A conversation in the local engine: a turn costs its new tokens, and is to the bit what it would be computed anew, and in training."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from posttrain.batching import TokenSequence
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.types import Completion, Sampling, UserError
from tests.small_models import text, write_model


@dataclass(frozen=True)
class Talk:
    """A conversation: what it begins with, what is told after each turn, and how long a turn may be."""

    seed: int
    prompt: tuple[int, ...]
    told: tuple[tuple[int, ...], ...]
    turn: int

    async def held(self, engine: LocalEngine) -> list[Completion]:
        found: list[Completion] = []
        prompt = self.prompt
        for i, told in enumerate((*self.told, ())):
            (completion,) = await engine.sample(prompt, 1, Sampling(max_tokens=self.turn, seed=self.seed + i), begun=len(self.prompt))
            found.append(completion)
            prompt = completion.prompt_token_ids + completion.token_ids + told
        return found


TALKS = [
    Talk(1, text(17, 1), (text(5, 2), text(40, 3), text(1, 4)), 9),
    Talk(9, text(60, 5), (text(33, 6), text(2, 7)), 20),
    Talk(20, text(3, 8), (text(90, 9), text(16, 10), text(7, 11), text(20, 12)), 3),
    Talk(30, text(33, 13), (text(15, 14),), 31),
]


def wide(folder: Path, **settings: int) -> Policy:
    """Heads of whole lanes, in bf16: products there do not depend on their shape (`policy/numerics.py`)."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    return load_policy(str(write_model(folder, **sizes | settings)), "bfloat16")


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Policy:
    return wide(tmp_path_factory.mktemp("wide"))


def together(engine: LocalEngine, talks: Sequence[Talk]) -> list[list[Completion]]:
    async def all_of_them() -> list[list[Completion]]:
        return await asyncio.gather(*(talk.held(engine) for talk in talks))

    return asyncio.run(asyncio.wait_for(all_of_them(), 60))


def test_a_turn_reads_its_new_tokens_only_and_says_what_it_would_say_anew(policy: Policy) -> None:
    remembering, anew = LocalEngine(policy), LocalEngine(policy, memory_bytes=0)
    assert together(remembering, TALKS) == together(anew, TALKS)
    new = sum(len(t.prompt) + sum(map(len, t.told)) for t in TALKS)
    last_drawn = sum(len(t.told) for t in TALKS)  # which had been drawn and not read
    assert remembering.n_read == new + last_drawn < anew.n_read / 2


def test_company_rows_and_what_has_been_forgotten_do_not_show(policy: Policy) -> None:
    expected = [together(LocalEngine(policy), [talk])[0] for talk in TALKS]
    for engine in (LocalEngine(policy), LocalEngine(policy, max_rows=1), LocalEngine(policy, prefill_tokens=1), LocalEngine(policy, memory_bytes=40_000)):
        assert together(engine, TALKS) == expected
        assert engine.memory.n_bytes <= engine.memory_bytes


def test_the_sampler_says_of_a_conversation_what_the_trainer_says_of_its_row(policy: Policy) -> None:
    for talk in TALKS:
        turns = together(LocalEngine(policy), [talk])[0]
        said = torch.tensor([x for turn in turns for x in turn.sampling_logprobs])
        tokens, marks = (), ()
        for turn in turns:
            between = turn.prompt_token_ids[len(talk.prompt) + len(tokens) :]
            tokens += between + turn.token_ids
            marks += (False,) * len(between) + (True,) * len(turn.token_ids)
        assert torch.equal(policy.score([TokenSequence(talk.prompt, tokens, marks)])[0], said)


def test_a_history_longer_than_a_block_is_read_in_parts(policy: Policy) -> None:
    talk = Talk(3, text(20, 1), (text(700, 2), text(600, 3)), 4)
    remembering, anew = LocalEngine(policy), LocalEngine(policy, memory_bytes=0)
    for a, b in zip(together(remembering, [talk])[0], together(anew, [talk])[0], strict=True):
        assert a == b


@pytest.mark.parametrize("settings", [{"model_type": "mistral", "sliding_window": 20}, {"model_type": "qwen2"}])
def test_windows_and_other_architectures_are_the_same_anew(tmp_path: Path, settings: dict) -> None:
    policy = wide(tmp_path, **settings)
    assert together(LocalEngine(policy), TALKS) == together(LocalEngine(policy, memory_bytes=0), TALKS)


def test_in_fp32_what_is_remembered_differs_by_rounding_at_most() -> None:
    policy = load_policy("tiny", "float32")
    for a, b in zip(together(LocalEngine(policy), TALKS), together(LocalEngine(policy, memory_bytes=0), TALKS), strict=True):
        assert [turn.token_ids for turn in a] == [turn.token_ids for turn in b]
        for x, y in zip(a, b, strict=True):
            assert x.sampling_logprobs == pytest.approx(y.sampling_logprobs, abs=1e-5)


def sample(engine: LocalEngine, prompt: Sequence[int], n: int = 1, begun: int = 0, seed: int = 0, tokens: int = 6) -> list[Completion]:
    return asyncio.run(engine.sample(tuple(prompt), n, Sampling(max_tokens=tokens, seed=seed), begun=begun))


def test_siblings_share_the_beginnings_keys_and_each_goes_on_alone(policy: Policy) -> None:
    engine, begun = LocalEngine(policy), 64
    first = sample(engine, text(begun, 1), 4, begun)
    alone = LocalEngine(policy)
    sample(alone, text(begun, 1), 1, begun)
    assert len(engine.memory) == 4 and engine.memory.n_bytes < 2 * alone.memory.n_bytes
    before = engine.n_read
    for completion in first:
        sample(engine, completion.prompt_token_ids + completion.token_ids + (5, 6), 1, begun)
    assert engine.n_read - before == 4 * 3 and len(engine.memory) == 4, "each has taken the place of what it went on from"


def test_a_fork_of_several_reads_what_is_shared_from_the_longer_conversation(policy: Policy) -> None:
    engine, anew = LocalEngine(policy), LocalEngine(policy, memory_bytes=0)
    (first,) = sample(engine, text(20, 1), 1, 20)
    seen = first.prompt_token_ids + first.token_ids
    sample(engine, seen + (1, 2, 3), 1, 20)
    before = engine.n_read
    forks = sample(engine, seen + (1, 9), 5, 20, seed=8)
    assert engine.n_read - before == 1 and forks == sample(anew, seen + (1, 9), 5, 20, seed=8)
    assert len({fork.token_ids for fork in forks}) == 5 and len(engine.memory) == 6


def test_a_rewritten_history_is_read_from_where_it_departs_and_another_beginning_anew(policy: Policy) -> None:
    engine = LocalEngine(policy)
    (first,) = sample(engine, text(20, 1), 1, 20)
    before = engine.n_read
    sample(engine, first.prompt_token_ids + first.token_ids[:2] + (7,), 1, 20)
    assert engine.n_read - before == 1
    before = engine.n_read
    sample(engine, (9,) + text(30, 1), 1, 20)
    assert engine.n_read - before == 31


def test_what_other_weights_have_computed_is_not_read(tmp_path: Path) -> None:
    policy = wide(tmp_path)
    engine = LocalEngine(policy)
    (first,) = sample(engine, text(20, 1), 1, 20)
    with torch.no_grad():
        policy.base.model.norm.weight.mul_(1.5)
    then = first.prompt_token_ids + first.token_ids + (3,)
    assert sample(engine, then, 1, 20) == sample(LocalEngine(policy, memory_bytes=0), then, 1, 20)
    assert engine.n_read == 20 + len(then) and len(engine.memory) == 1
    moved = wide(tmp_path)
    engine.policy = moved
    sample(engine, then, 1, 20)
    assert engine.n_read == 20 + 2 * len(then)


def test_a_prompt_that_is_no_conversation_leaves_nothing_behind_and_what_has_ended_is_forgotten(policy: Policy) -> None:
    engine = LocalEngine(policy)
    sample(engine, text(20, 1), 3)
    assert len(engine.memory) == 0
    one, two = sample(engine, text(20, 1), 2, 20)
    asyncio.run(engine.forget(one.prompt_token_ids, one.token_ids))
    assert len(engine.memory) == 1
    asyncio.run(engine.forget(two.prompt_token_ids, two.token_ids))
    asyncio.run(engine.forget(two.prompt_token_ids, two.token_ids))
    assert len(engine.memory) == engine.memory.n_bytes == 0


def test_the_memory_keeps_to_its_bound_and_drops_what_was_used_longest_ago(policy: Policy) -> None:
    engine = LocalEngine(policy)
    sample(engine, text(20, 1), 1, 20)
    one = engine.memory.n_bytes
    engine = LocalEngine(policy, memory_bytes=2 * one)
    a, b, c = (sample(engine, text(20, i), 1, 20)[0] for i in (1, 2, 3))
    assert len(engine.memory) == 2 and engine.memory.n_bytes <= 2 * one
    before = engine.n_read
    sample(engine, (*c.prompt_token_ids, *c.token_ids), 1, 20, tokens=1)
    assert engine.n_read - before == 1
    sample(engine, (*a.prompt_token_ids, *a.token_ids), 1, 20, tokens=1)
    assert engine.n_read - before == 1 + 26


@pytest.mark.parametrize("begun", [-1, 21])
def test_a_beginning_longer_than_its_prompt_is_refused(policy: Policy, begun: int) -> None:
    with pytest.raises(UserError, match="cannot have begun"):
        sample(LocalEngine(policy), text(20, 1), 1, begun)
