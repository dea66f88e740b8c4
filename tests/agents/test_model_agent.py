"""The bare model as an agent: one turn of exact tokens for each attempt."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from posttrain.agents.loop import ModelAgent
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import load_policy
from posttrain.types import Message, Problem, Rollout, Sampling

PROBLEM = Problem("one", (Message("user", "hi"),), "yo")
OTHER = Problem("two", (Message("user", "hi"),), "yo")


@pytest.fixture(scope="module")
def agent() -> ModelAgent:
    policy = load_policy("tiny", "float32")
    return ModelAgent(LocalEngine(policy), policy.renderer, Sampling(max_tokens=24))


@pytest.fixture(scope="module")
def many(agent) -> list[Rollout]:
    """So many attempts that some stop and some run out of tokens."""
    return attempts(agent, PROBLEM, 100)


def attempts(agent: ModelAgent, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
    return asyncio.run(agent.attempt(problem, n, seed))


def test_a_prompt_that_comes_with_tools_is_read_with_them_and_a_call_is_told_from_words(agent):
    told = replace(PROBLEM, data={"tools": [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}}]})
    for rollout in attempts(agent, told, 2):
        (completion,) = rollout.completions
        assert completion.prompt_token_ids == agent.renderer.prompt(PROBLEM.messages, told.tools) != agent.renderer.prompt(PROBLEM.messages)
        assert rollout.messages == (agent.renderer.parse(completion.token_ids, told.tools),)


def test_an_attempt_holds_the_exact_tokens_read_and_written(agent):
    for rollout in attempts(agent, PROBLEM, 3):
        (completion,) = rollout.completions
        assert completion.prompt_token_ids == agent.renderer.prompt(PROBLEM.messages)
        assert rollout.messages == (agent.renderer.parse(completion.token_ids),)
        assert rollout.n_tokens == len(completion.token_ids)


def test_an_attempt_that_ran_out_of_tokens_is_truncated_and_one_that_stopped_is_not(many):
    outcomes = {(r.outcome, r.completions[0].stop_reason) for r in many}
    assert outcomes == {("terminated", "stop"), ("truncated", "length")}


def test_what_was_said_ends_before_the_end_of_turn(agent, many):
    stopped = [r for r in many if r.outcome == "terminated"]
    assert stopped
    for rollout in stopped:
        assert rollout.completions[0].token_ids[-1] in agent.renderer.stop_token_ids
        assert "<|im_end|>" not in rollout.text


def test_attempts_depend_on_seed_problem_and_place_and_on_nothing_else(agent):
    first = attempts(agent, PROBLEM, 4, seed=3)
    assert attempts(agent, PROBLEM, 4, seed=3) == first
    assert [r.sample for r in first] == [0, 1, 2, 3]
    everything = [*first, *attempts(agent, PROBLEM, 4, seed=4), *attempts(agent, OTHER, 4, seed=3)]
    assert len({r.completions[0].token_ids for r in everything}) == 12


def test_attempts_at_several_problems_at_once_are_those_at_each(agent):
    async def both() -> list[list[Rollout]]:
        return await asyncio.gather(agent.attempt(PROBLEM, 2, 1), agent.attempt(OTHER, 2, 1))

    together = asyncio.run(both())
    for group, problem in zip(together, (PROBLEM, OTHER), strict=True):
        assert [r.messages for r in group] == [r.messages for r in attempts(agent, problem, 2, 1)]
