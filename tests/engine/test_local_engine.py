"""The local engine: a sample is what it is in whatever company, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from posttrain.batching import TokenSequence
from posttrain.engine.local import MAX_COHORTS, LocalEngine
from posttrain.policy.attention import Attend
from posttrain.policy.hf import Policy, load_policy
from posttrain.types import Completion, Sampling, UserError
from tests.small_models import mismatch, text, write_model

PATIENCE_S = 60.0
"""A test that takes longer waits for something that will not come."""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE_S))


@dataclass(frozen=True)
class Ask:
    """One request, and after how many of the engine's steps it comes."""

    prompt: tuple[int, ...]
    n: int
    sampling: Sampling
    stops: tuple[int, ...] = ()
    after: int = 0


def sampled(policy: Policy, asks: Sequence[Ask], **engine: int) -> list[list[Completion]]:
    """What each request gets when all of them meet in one engine."""
    local = LocalEngine(policy, **engine)

    async def ask(one: Ask) -> list[Completion]:
        for _ in range(one.after):
            await asyncio.sleep(0)
        return await local.sample(one.prompt, one.n, one.sampling, one.stops)

    async def everyone() -> list[list[Completion]]:
        return await asyncio.gather(*map(ask, asks))

    return run(everyone())


def one(policy: Policy, prompt: Sequence[int], sampling: Sampling, stops: Sequence[int] = ()) -> Completion:
    return sampled(policy, [Ask(tuple(prompt), 1, sampling, tuple(stops))])[0][0]


def assert_same(measured: Sequence[Completion], expected: Sequence[Completion]) -> None:
    """The same tokens, and log-probs that are equal up to the rounding of products of other shapes."""
    for a, b in zip(measured, expected, strict=True):
        assert replace(a, sampling_logprobs=()) == replace(b, sampling_logprobs=())
        assert a.sampling_logprobs == pytest.approx(b.sampling_logprobs, abs=1e-5)


# ----------------------------------------------------------------------------------------------------------------- company


BUSY = [
    Ask(text(17, 1), 4, Sampling(max_tokens=40, seed=1)),
    Ask(text(3, 2), 7, Sampling(max_tokens=25, seed=2), stops=tuple(range(0, 256, 9))),
    Ask(text(90, 3), 1, Sampling(max_tokens=70, seed=3), after=2),
    Ask(text(17, 1), 2, Sampling(max_tokens=33, seed=4, temperature=0.7), after=3),
    Ask(text(16, 4), 3, Sampling(max_tokens=20, seed=5, top_p=0.8), after=5),
    Ask(text(1, 5), 2, Sampling(max_tokens=18, seed=6, temperature=0.0), after=8),
    Ask(text(33, 6), 5, Sampling(max_tokens=50, seed=7), stops=tuple(range(0, 256, 5)), after=9),
    Ask(text(8, 7), 1, Sampling(max_tokens=60, seed=8), after=30),
]
"""Requests of all kinds that come and go at different times: caches grow, shrink, are merged and retired."""


@pytest.fixture(scope="module")
def alone(policy) -> list[list[Completion]]:
    """What each request gets when it has an engine to itself."""
    return [sampled(policy, [ask])[0] for ask in BUSY]


@pytest.mark.parametrize("max_rows", [256, 12, 1])
def test_a_sample_is_the_same_alone_and_in_company_however_many_rows_there_are(policy, alone, max_rows):
    for measured, expected in zip(sampled(policy, BUSY, max_rows=max_rows), alone, strict=True):
        assert_same(measured, expected)


@pytest.mark.parametrize("prefill_tokens", [1, 60])
def test_how_prompts_are_read_together_does_not_show(policy, alone, prefill_tokens):
    for measured, expected in zip(sampled(policy, BUSY, prefill_tokens=prefill_tokens), alone, strict=True):
        assert_same(measured, expected)


def test_the_order_of_requests_does_not_show(policy, alone):
    for measured, expected in zip(sampled(policy, BUSY[::-1]), alone[::-1], strict=True):
        assert_same(measured, expected)


def test_one_sibling_is_the_same_without_the_others(policy, alone):
    fewer = sampled(policy, [replace(ask, n=1) for ask in BUSY])
    for measured, expected in zip(fewer, alone, strict=True):
        assert_same(measured, expected[:1])


def test_caches_are_merged_when_they_become_many(policy):
    engine, seen = LocalEngine(policy), []

    async def watch() -> None:
        asks = [asyncio.create_task(_late(engine, i)) for i in range(2 * MAX_COHORTS)]
        while not all(ask.done() for ask in asks):
            seen.append(len(engine._groups))
            await asyncio.sleep(0)

    run(watch())
    assert max(seen) == MAX_COHORTS


async def _late(engine: LocalEngine, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    await engine.sample(text(5, steps), 2, Sampling(max_tokens=30, seed=steps))


def test_after_the_weights_have_moved_nothing_stale_is_read(policy):
    """An engine keeps nothing of a prompt beyond its request."""
    engine = LocalEngine(policy)
    before = run(engine.sample(text(9, 1), 2, Sampling(max_tokens=8)))
    again = run(engine.sample(text(9, 1), 2, Sampling(max_tokens=8)))
    assert before == again
    moved = load_policy("tiny", "float32")
    with torch.no_grad():
        moved.base.get_input_embeddings().weight.mul_(1.5)
    engine.policy = moved
    assert_same(run(engine.sample(text(9, 1), 2, Sampling(max_tokens=8))), sampled(moved, [Ask(text(9, 1), 2, Sampling(max_tokens=8))])[0])


# ------------------------------------------------------------------------------------------------- sampler equals trainer


def full_draws(groups: Sequence[Sequence[Completion]]) -> list[Completion]:
    """The completions that were drawn from the whole distribution."""
    return [c for group in groups for c in group if not c.sampling.truncates and c.sampling.temperature]


def test_the_sampler_says_what_the_policy_says(policy):
    in_company = full_draws(sampled(policy, BUSY))
    assert len(in_company) > 15 and sum(len(c.token_ids) for c in in_company) > 300
    assert mismatch(policy, in_company).max() <= 1e-5


def test_with_heads_of_whole_lanes_sampler_and_policy_agree_to_the_bit_where_the_processor_lets_them(tmp_path):
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    policy = load_policy(str(write_model(tmp_path, **sizes)), "float32")
    q, k = torch.randn(8, 16, 16), torch.randn(8, 16, 16)
    small_products_stand_alone = torch.equal(q[:, :1].contiguous() @ k, (q @ k)[:, :1])
    assert mismatch(policy, full_draws(sampled(policy, BUSY))).max() <= (1e-6 if small_products_stand_alone else 2e-5)


def test_in_bf16_the_sampler_is_near_the_policy():
    policy = load_policy("tiny", "bfloat16")
    asks = [Ask(text(20, i), 8, Sampling(max_tokens=60, seed=i)) for i in range(4)]
    assert mismatch(policy, [c for group in sampled(policy, asks) for c in group]).max() < 0.1


@pytest.mark.parametrize("sizes", [{"hidden_size": 64, "intermediate_size": 1536}, {"hidden_size": 1536, "intermediate_size": 256}])
def test_a_completion_written_alone_is_to_the_bit_what_the_policy_says(tmp_path, sizes):
    """Libraries multiply a single row by kernels of its own, which for long rows add in another order."""
    policy = load_policy(str(write_model(tmp_path, max_position_embeddings=512, **sizes)), "bfloat16")
    (alone,) = sampled(policy, [Ask(text(40, 1), 1, Sampling(max_tokens=60, seed=1))])
    assert mismatch(policy, alone).max() == 0


def test_at_temperature_0_the_most_likely_token_is_taken_and_scored_at_temperature_1(policy):
    greedy = one(policy, text(11, 1), Sampling(temperature=0.0, max_tokens=12))
    assert mismatch(policy, [replace(greedy, sampling=Sampling())]).max() <= 1e-5
    seen = greedy.prompt_token_ids
    for token in greedy.token_ids:
        likelihoods = policy.score([TokenSequence(seen, (other,)) for other in range(258)])[0]
        assert likelihoods.argmax().item() == token
        seen = (*seen, token)


def test_of_equally_likely_tokens_the_lowest_is_taken(tmp_path):
    level = load_policy(str(write_model(tmp_path)), "float32")
    with torch.no_grad():
        level.head.weight.zero_()
    assert one(level, (5,), Sampling(temperature=0.0, max_tokens=3)).token_ids == (0, 0, 0)


def test_truncated_sampling_reports_log_probs_over_what_was_kept(policy):
    kept = one(policy, text(11, 1), Sampling(max_tokens=20, top_k=1, seed=5))
    assert kept.sampling_logprobs == (0.0,) * 20
    assert kept.token_ids == one(policy, text(11, 1), Sampling(max_tokens=20, temperature=0.0)).token_ids


def test_samples_follow_the_policys_distribution(policy):
    n = 4000
    (drawn,) = sampled(policy, [Ask(text(6, 1), n, Sampling(max_tokens=1, seed=3))], max_rows=n)
    expected = policy.score([TokenSequence(text(6, 1), (token,)) for token in range(258)])[0].exp()
    counts = torch.tensor([c.token_ids[0] for c in drawn]).bincount(minlength=258)
    errors = (counts / n - expected).abs() / (expected / n).sqrt()
    assert errors[expected * n > 5].max() < 4.5
    assert 0.5 < (errors[expected * n > 5] ** 2).mean() < 1.5


# ----------------------------------------------------------------------------------------------------------------- the seed


def test_siblings_differ_and_the_same_seed_gives_the_same(policy):
    asks = [Ask(text(9, 1), 6, Sampling(max_tokens=20, seed=seed)) for seed in (1, 1, 2)]
    first, again, other = sampled(policy, asks)
    assert first == again
    assert len({c.token_ids for c in first + other}) == 12
    assert [c.sample for c in first] == list(range(6))


def test_the_global_generator_is_neither_read_nor_moved(policy):
    sampling, state = Sampling(max_tokens=10, seed=1), torch.get_rng_state()
    first = one(policy, text(9, 1), sampling)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert one(policy, text(9, 1), sampling) == first


# -------------------------------------------------------------------------------------------------------------------- ends


def test_a_completion_ends_with_its_first_stop_token(policy):
    free = one(policy, text(9, 1), Sampling(max_tokens=30, seed=2))
    stop = free.token_ids[12]
    first = free.token_ids.index(stop)
    stopped = one(policy, text(9, 1), Sampling(max_tokens=30, seed=2), [stop, 257])
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert (stopped.stop_reason, free.stop_reason) == ("stop", "length")


def test_a_stop_token_at_the_limit_is_a_stop(policy):
    free = one(policy, text(9, 1), Sampling(max_tokens=30, seed=2))
    n = next(i for i in range(5, 30) if free.token_ids[i] not in free.token_ids[:i]) + 1
    assert one(policy, text(9, 1), Sampling(max_tokens=n, seed=2), [free.token_ids[n - 1]]).stop_reason == "stop"


@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_a_completion_is_never_longer_than_asked(policy, n):
    completion = one(policy, text(9, 1), Sampling(max_tokens=n))
    assert (len(completion.token_ids), len(completion.sampling_logprobs), completion.stop_reason) == (n, n, "length")


@pytest.mark.parametrize("room", [1, 5])
def test_a_completion_ends_with_the_models_context(policy, room):
    completion = one(policy, text(policy.max_context - room, 1), Sampling(max_tokens=50))
    assert (len(completion.token_ids), completion.stop_reason) == (room, "length")
    assert mismatch(policy, [completion]).max() <= 1e-5


def test_a_completion_tells_what_wrote_it(policy):
    later = replace(policy, version=7)
    sampling = Sampling(max_tokens=3, seed=4, temperature=0.5)
    completion = one(later, [5, 6], sampling)
    assert completion.weight_version == 7
    assert (completion.prompt_token_ids, completion.sampling, completion.sample) == ((5, 6), sampling, 0)


def test_tokens_are_counted(policy):
    engine = LocalEngine(policy)
    run(engine.sample((1, 2), 3, Sampling(max_tokens=5)))
    assert engine.n_tokens == 15


# ---------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("too_long", [0, 1, 100])
def test_a_prompt_without_room_for_an_answer_is_refused(policy, too_long):
    with pytest.raises(UserError, match=f"{policy.max_context + too_long} tokens .* holds {policy.max_context}: shorten"):
        one(policy, text(policy.max_context + too_long, 1), Sampling())


def test_an_empty_prompt_is_refused(policy):
    with pytest.raises(UserError, match="empty"):
        one(policy, (), Sampling())


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=0), Sampling(temperature=-1.0)])
def test_sampling_that_makes_no_sense_is_refused(policy, sampling):
    with pytest.raises(UserError, match="at least"):
        one(policy, (1,), sampling)


def test_a_refused_request_does_not_disturb_the_others(policy, alone):
    async def both() -> list[Any]:
        engine = LocalEngine(policy)
        return await asyncio.gather(
            engine.sample(text(600, 1), 1, Sampling()), engine.sample(BUSY[0].prompt, BUSY[0].n, BUSY[0].sampling), return_exceptions=True
        )

    refused, answered = run(both())
    assert isinstance(refused, UserError)
    assert_same(answered, alone[0])


# ---------------------------------------------------------------------------------------------------------------- failures


@dataclass
class FailsAt(Policy):
    """A policy whose forward fails once, at the call of this number."""

    call: int = 0
    calls: int = 0

    def hidden(self, token_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        self.calls += 1
        if self.calls == self.call:
            raise RuntimeError("no memory left")
        return super().hidden(token_ids, position_ids, attend)


@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_failing_forward_fails_every_caller_and_leaves_the_engine_usable(policy, alone, call):
    engine = LocalEngine(FailsAt(policy.model, policy.renderer, policy.path, call=call))
    ask = BUSY[0]

    async def three_and_one_more() -> None:
        failed = await asyncio.gather(*(engine.sample(ask.prompt, ask.n, ask.sampling) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in failed] == ["no memory left"] * 3
        assert_same(await engine.sample(ask.prompt, ask.n, ask.sampling), alone[0])

    run(three_and_one_more())


def test_a_token_that_the_model_has_not_fails_its_caller(policy):
    with pytest.raises(IndexError):
        one(policy, (1, 100_000), Sampling())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_numbers_are_an_error_and_not_a_text(temperature):
    broken = load_policy("tiny", "float32")
    with torch.no_grad():
        broken.base.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not numbers"):
        one(broken, (1, 2), Sampling(temperature=temperature))


def test_a_caller_who_leaves_is_forgotten_and_the_others_get_what_they_would(policy, alone):
    engine = LocalEngine(policy)

    async def one_leaves() -> list[Completion]:
        stays = asyncio.create_task(engine.sample(BUSY[0].prompt, BUSY[0].n, BUSY[0].sampling))
        leaves = [asyncio.create_task(engine.sample(text(7, i), 3, Sampling(max_tokens=400))) for i in range(2)]
        for _ in range(6):
            await asyncio.sleep(0)
        leaves[0].cancel()
        await asyncio.sleep(0)
        leaves[1].cancel()
        return await stays

    assert_same(run(one_leaves()), alone[0])
    assert engine.n_tokens < 200 + 40 * BUSY[0].n, "what nobody waits for is not written"


def test_a_caller_who_leaves_before_the_engine_begins_is_forgotten(policy, alone):
    engine = LocalEngine(policy)

    async def leave_at_once() -> list[Completion]:
        leaves = asyncio.create_task(engine.sample(text(7, 1), 3, Sampling(max_tokens=400)))
        await asyncio.sleep(0)
        leaves.cancel()
        return await engine.sample(BUSY[0].prompt, BUSY[0].n, BUSY[0].sampling)

    assert_same(run(leave_at_once()), alone[0])


def test_an_engine_serves_one_event_loop_after_another(policy, alone):
    engine = LocalEngine(policy)
    for _ in range(2):
        assert_same(run(engine.sample(BUSY[0].prompt, BUSY[0].n, BUSY[0].sampling)), alone[0])
