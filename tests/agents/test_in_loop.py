"""A bare model taken into the loop is the same model, sampled in the same way, and may call tools."""

from __future__ import annotations

import asyncio

import pytest

from posttrain.agents.chat import ChatAgent, Reported
from posttrain.agents.in_loop import in_loop
from posttrain.agents.local import LocalSpeaker
from posttrain.agents.loop import ModelAgent
from posttrain.agents.scripted import ScriptedAgent
from posttrain.agents.server import ServerSpeaker
from posttrain.engine.endpoint import Endpoint, parse_address
from posttrain.types import Sampling
from tests.agents.test_tool_agent import ADD, PROBLEM, WORLD, WRITTEN, forced, policy  # noqa: F401

SAMPLING = Sampling(0.7, 50)


def test_the_bare_model_calls_its_tools_and_is_broken_off_after_so_many_turns(policy) -> None:  # noqa: F811
    speaker = forced(policy, [WRITTEN[0], "It is 5."]).speaker
    bare = ModelAgent(speaker.engine, speaker.renderer, Sampling(max_tokens=90))
    (alone,) = asyncio.run(bare.attempt(PROBLEM, 1))
    assert "<tool_call>" in alone.text and len(alone.messages) == 1
    (rollout,) = asyncio.run(in_loop(bare, WORLD, 3).attempt(PROBLEM, 1))
    assert [m.role for m in rollout.messages] == ["assistant", "tool", "assistant"] and rollout.text == "It is 5."
    assert (rollout.messages[0].tool_calls[0].name, rollout.messages[1].content) == (ADD.name, "5")
    (cut,) = asyncio.run(in_loop(bare, WORLD, 1).attempt(PROBLEM, 1))
    assert (cut.outcome, cut.error) == ("truncated", "the limit of 1 steps was reached")


def test_model_and_sampling_stay_what_they_were_wherever_the_model_is(policy) -> None:  # noqa: F811
    endpoint = Endpoint(parse_address("openai:http://127.0.0.1:9/v1#some"))
    local, chat = ModelAgent(object(), policy.renderer, SAMPLING), ChatAgent(endpoint, SAMPLING)  # type: ignore[arg-type]
    for bare, speaker in (
        (local, LocalSpeaker(local.engine, policy.renderer, SAMPLING)), (Reported(local, SAMPLING), LocalSpeaker(local.engine, policy.renderer, SAMPLING)),
        (chat, ServerSpeaker(endpoint, SAMPLING)), (Reported(chat, SAMPLING), ServerSpeaker(endpoint, SAMPLING)),
    ):  # fmt: skip
        agent = in_loop(bare, WORLD, 4)
        assert agent.speaker == speaker and agent.world == WORLD and (agent.limits.steps, agent.limits.tokens) == (4, 200)


def test_an_agent_that_is_no_bare_model_is_not_taken_into_the_loop() -> None:
    with pytest.raises(TypeError, match="ScriptedAgent is no bare model's agent"):
        in_loop(ScriptedAgent(lambda *_: "5"), WORLD, 4)
