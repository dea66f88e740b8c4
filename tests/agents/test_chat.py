"""A model behind a server that takes messages: as exact as the local one where the server tells its tokens, and honest where it does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from posttrain.agents.chat import ChatAgent, Reported, message_json, replies
from posttrain.agents.loop import ModelAgent
from posttrain.engine.local import LocalEngine
from posttrain.engine.remote import RemoteEngine
from posttrain.evals.measure import measure
from posttrain.evals.records import record_from, record_row
from posttrain.policy.hf import Policy, load_policy
from posttrain.types import Message, Problem, Rollout, Sampling, ToolCall, Usage, UserError
from tests.evals.echo_task import EchoTask
from tests.serve.doubles import Script, run, served

PROBLEM = Problem("p", (Message("system", "Be brief."), Message("user", "hi")), "yo")
SAMPLING = Sampling(max_tokens=24)
WEATHER = {"type": "function", "function": {"name": "weather", "description": "…", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


def said(content: str | None = "yo", reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": content, **message}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "completion_tokens_details": None},
    }  # fmt: skip


def attempts(agent: Any, n: int = 1, seed: int = 0) -> list[Rollout]:
    return run(agent.attempt(PROBLEM, n, seed))


# --------------------------------------------------------------------------------------------- where tokens are known


def test_attempts_through_a_server_of_our_own_are_the_local_ones_to_the_last_bit(policy: Policy) -> None:
    local = attempts(ModelAgent(LocalEngine(policy), policy.renderer, SAMPLING), 30, seed=5)
    assert {rollout.outcome for rollout in local} == {"terminated", "truncated"}
    assert attempts(ChatAgent(served(policy), SAMPLING), 30, seed=5) == local
    assert attempts(ModelAgent(RemoteEngine(served(policy)), policy.renderer, SAMPLING), 30, seed=5) == local


# ------------------------------------------------------------------------------------------- where only words are known


def test_of_a_server_that_tells_no_tokens_the_attempts_have_none_and_count_what_it_counted() -> None:
    script = Script(lambda path, body: (200, said("yo", "length")))
    rollouts = attempts(ChatAgent(script.endpoint(), SAMPLING), 3)
    assert [(r.text, r.outcome, r.completions, r.sample) for r in rollouts] == [("yo", "truncated", (), i) for i in range(3)]
    assert [(r.usage, r.n_tokens) for r in rollouts] == [(Usage(11, 3), 3)] * 3
    assert [body["n"] for body in script.asked] == [1] * 3 and len({body["seed"] for body in script.asked}) == 3
    assert script.asked[0]["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert not {"return_token_ids", "logprobs", "top_p", "tools"} & set(script.asked[0]), "unknown settings make servers refuse"


def test_the_same_seed_asks_with_the_same_seeds_and_another_with_others() -> None:
    def seeds(seed: int) -> list[int]:
        script = Script(lambda path, body: (200, said()))
        attempts(ChatAgent(script.endpoint(), SAMPLING), 2, seed)
        return [body["seed"] for body in script.asked]

    assert seeds(1) == seeds(1) != seeds(2) and all(0 <= seed < 2**63 for seed in seeds(1))


def test_a_server_that_fails_for_some_makes_errors_and_not_wrong_answers() -> None:
    task = EchoTask(4)

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        number = body["messages"][0]["content"].split()[1].rstrip(".")
        return (503, "down") if number == "2" else (200, said(number))

    evaluation = run(measure(ChatAgent(Script(answer).endpoint()), task, task.problems("test"), 2))
    assert (evaluation["accuracy"].value, evaluation["accuracy"].n, evaluation["unscored_frac"].value) == (1.0, 3, 0.25)
    assert evaluation["length_tokens"].value == 3 and evaluation.sampling == {}
    broken = evaluation.records[2].attempts
    assert [a.rollout.outcome for a in broken] == ["error"] * 2 and "answered 503: down, 3 times" in broken[0].score.explanation
    for record in evaluation.records:
        assert record_from(record_row(record)).attempts[0].rollout == record.attempts[0].rollout


def test_an_engine_whose_server_fails_is_reported_by_its_wrapper_and_a_refusal_is_not(policy: Policy) -> None:
    agent = lambda answer: Reported(ModelAgent(RemoteEngine(Script(lambda *_: answer).endpoint()), policy.renderer))  # noqa: E731
    assert [(r.outcome, r.sample) for r in attempts(agent((500, "down")), 2)] == [("error", 0), ("error", 1)]
    with pytest.raises(UserError, match="refuses the key"):
        attempts(agent((401, {})))


@pytest.mark.parametrize("reply", [said(reason="content_filter"), {"choices": []}, {"choices": [{"finish_reason": "stop"}]}, {}])
def test_an_answer_that_is_none_is_an_error_of_the_machinery(reply: dict[str, Any]) -> None:
    (rollout,) = attempts(ChatAgent(Script(lambda *_: (200, reply)).endpoint()))
    assert rollout.outcome == "error" and rollout.error


# --------------------------------------------------------------------------------------------------------------- tools


def test_tools_go_out_and_calls_come_back_with_what_they_are_called() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
    script = Script(lambda *_: (200, said(None, "tool_calls", tool_calls=calls)))
    messages = (Message("user", "?"), Message("assistant", "", (ToolCall("weather", {"city": "é"}, "c0"),)), Message("tool", "sun", (), "c0"))
    (reply,) = run(replies(script.endpoint(), messages, 1, SAMPLING, (WEATHER,)))
    assert reply.message == Message("assistant", "", (ToolCall("weather", {"city": "Oslo"}, "c1"),)) and reply.ended == "stop"
    sent = script.asked[0]
    assert sent["tools"] == [WEATHER] and sent["messages"][2] == {"role": "tool", "content": "sun", "tool_call_id": "c0"}
    assert sent["messages"][1]["tool_calls"] == [{"id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "é"}'}}]


@pytest.mark.parametrize("arguments", ['{"city": ', "[1]", "null x"])
def test_a_call_that_cannot_be_read_stays_in_the_words_and_is_no_call(arguments: str) -> None:
    calls = [{"id": "c1", "function": {"name": "weather", "arguments": arguments}}]
    (rollout,) = attempts(ChatAgent(Script(lambda *_: (200, said("Hm.", tool_calls=calls))).endpoint()))
    assert rollout.messages[0].tool_calls == () and rollout.text.startswith("Hm.<tool_call>") and "weather" in rollout.text


def test_a_thought_that_is_kept_apart_stands_in_its_tags() -> None:
    (rollout,) = attempts(ChatAgent(Script(lambda *_: (200, said("4", reasoning_content="2+2"))).endpoint()))
    assert rollout.text == "<think>\n2+2\n</think>\n\n4"


def test_a_call_without_a_name_of_its_own_is_called_by_its_place() -> None:
    found = message_json(Message("assistant", "", (ToolCall("a", {}), ToolCall("b", {}, "x"))))
    assert [call["id"] for call in found["tool_calls"]] == ["call_0", "x"]


def test_problems_are_asked_at_the_same_time() -> None:
    script = Script(lambda *_: (200, said()))

    async def everyone() -> None:
        agent = ChatAgent(script.endpoint(concurrency=4))
        await asyncio.gather(*(agent.attempt(Problem(str(i), PROBLEM.messages, ""), 2) for i in range(5)))

    run(everyone())
    assert len(script.asked) == 10 and len({body["seed"] for body in script.asked}) == 10
