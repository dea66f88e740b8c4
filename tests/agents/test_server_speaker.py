"""A server's model with tools: its calls, its failures and its counts, and the same attempts as here where it is ours."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from posttrain.agents.conversation import Limits, Spoken, Transcript
from posttrain.agents.server import ServerSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.batching import rollout_sequences
from posttrain.engine.local import LocalEngine
from posttrain.engine.remote import RemoteEngine
from posttrain.policy.hf import load_policy
from posttrain.runs.attempts import AttemptLog, read_attempts
from posttrain.types import ContextFull, Message, Rollout, Sampling, Usage
from tests.agents.test_tool_agent import PROBLEM, WORLD, WRITTEN, Counting, GoesOn, forced
from tests.serve.doubles import Script, Unwatched, run, served
from tests.small_models import write_model

SAMPLING = Sampling(max_tokens=24)


def choice(content: str | None, *calls: tuple[str, str, str], reason: str = "stop") -> tuple[int, Any]:
    asked = [{"id": id, "type": "function", "function": {"name": name, "arguments": arguments}} for id, name, arguments in calls]
    message = {"role": "assistant", "content": content} | ({"tool_calls": asked} if asked else {})
    return 200, {"choices": [{"index": 0, "finish_reason": reason, "message": message}], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}


def attempt(*answers: Any, **limits: Any) -> tuple[Rollout, list[dict[str, Any]]]:
    """The server's answers one after the other, and what it was asked."""
    script = Script(lambda path, body: answers[len(script.asked) - 1])
    (rollout,) = run(ToolAgent(ServerSpeaker(script.endpoint(), SAMPLING), WORLD, Limits(**limits)).attempt(PROBLEM, 1))
    return rollout, script.asked


def test_calls_are_run_and_their_answers_sent_under_the_servers_own_names() -> None:
    rollout, asked = attempt(choice(None, ("abc", "add", '{"a": 2, "b": 3}'), reason="tool_calls"), choice("It is 5."))
    assert (rollout.text, rollout.outcome, rollout.completions, rollout.usage) == ("It is 5.", "terminated", (), Usage(20, 8))
    assert [m["role"] for m in asked[1]["messages"]] == ["user", "assistant", "tool"]
    assert asked[1]["messages"][2] == {"role": "tool", "content": "5", "tool_call_id": "abc"}
    assert asked[0]["tools"][0]["function"]["name"] == "add" and asked[0]["seed"] != asked[1]["seed"]


def test_calls_that_the_server_left_in_the_words_are_read_there() -> None:
    rollout, asked = attempt(choice('Hm.\n<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'), choice("5"))
    assert rollout.messages[0].content == "Hm." and rollout.messages[1] == Message("tool", "5", (), "call00000")
    assert asked[1]["messages"][1]["tool_calls"][0]["id"] == "call00000"


def test_a_call_whose_arguments_are_no_json_is_complained_of_by_the_user() -> None:
    rollout, asked = attempt(choice(None, ("abc", "add", "{a: 2}"), reason="tool_calls"), choice("5"))
    assert asked[1]["messages"][2]["role"] == "user" and "Your call could not be read" in asked[1]["messages"][2]["content"]
    assert rollout.outcome == "terminated" and not rollout.messages[0].tool_calls


def test_what_the_server_counts_is_counted_towards_the_limit() -> None:
    again = choice(None, ("abc", "add", '{"a": 2, "b": 3}'), reason="tool_calls")
    rollout, asked = attempt(*[again] * 9, tokens=10)
    assert (rollout.outcome, rollout.error) == ("truncated", "the limit of 10 sampled tokens was reached") and len(asked) == 3
    assert [body.get("max_tokens", body.get("max_completion_tokens")) for body in asked] == [10, 6, 2]


def test_a_server_that_fails_for_good_ends_the_attempt_as_an_error_with_what_was_said() -> None:
    rollout, _ = attempt(choice(None, ("abc", "add", '{"a": 2, "b": 3}'), reason="tool_calls"), *[(500, "down")] * 9)
    assert rollout.outcome == "error" and rollout.error.startswith("Unavailable") and [m.role for m in rollout.messages] == ["assistant", "tool"]


@pytest.mark.parametrize(
    "refusal", [{"message": "too long", "code": "context_length_exceeded"}, {"message": "This model's maximum context length is 512 tokens."}]
)
def test_a_context_that_is_full_truncates_what_was_begun(refusal: dict[str, str]) -> None:
    rollout, _ = attempt(choice(None, ("abc", "add", '{"a": 2, "b": 3}'), reason="tool_calls"), (400, {"error": refusal}))
    assert rollout.outcome == "truncated" and refusal["message"] in rollout.error and len(rollout.messages) == 2
    with pytest.raises(ContextFull, match=refusal["message"]):
        attempt((400, {"error": refusal}))


def test_a_turn_that_ran_into_the_limit_truncates() -> None:
    rollout, _ = attempt(choice("so f", reason="length"))
    assert rollout.outcome == "truncated"


def test_the_record_keeps_the_counts_and_an_attempt_goes_on_from_it(tmp_path: Path) -> None:
    answers = [choice(None, ("abc", "add", '{"a": 2, "b": 3}'), reason="tool_calls"), choice("It is 5.")]

    def made(answers: list[Any], path: Path) -> ToolAgent:
        script = Script(lambda route, body: answers[len(script.asked) - 1])
        return ToolAgent(ServerSpeaker(script.endpoint(), SAMPLING), WORLD, Limits(), AttemptLog(path).journal)

    (whole,) = run(made(answers, tmp_path / "a.jsonl").attempt(PROBLEM, 1))
    assert read_attempts(tmp_path / "a.jsonl")[0].rollout == whole
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[1])["usage"] == {"prompt_tokens": 10, "completion_tokens": 4}
    (tmp_path / "b.jsonl").write_text("".join(lines[:3]))
    (kept,) = read_attempts(tmp_path / "b.jsonl")
    assert run(made(answers[1:], tmp_path / "b.jsonl").go_on(kept.transcript, kept.seed)) == whole


@dataclass(frozen=True)
class ServerGoesOn(ServerSpeaker):
    """As `GoesOn`."""

    async def speak(self, *asked: Any) -> list[Spoken]:
        return [replace(spoken, finished=True) for spoken in await super().speak(*asked)]


def test_attempts_through_a_server_of_ours_are_those_made_here_and_cost_no_more() -> None:
    policy = load_policy("tiny", "bfloat16")

    def attempts(speaker: Any) -> list[Rollout]:
        return run(ToolAgent(speaker, Counting(), Limits(steps=3)).attempt(PROBLEM, 6, 5))

    engines = [LocalEngine(policy) for _ in range(3)]
    here = attempts(GoesOn(engines[0], policy.renderer, SAMPLING))
    assert attempts(GoesOn(RemoteEngine(served(policy, engines[1])), policy.renderer, SAMPLING)) == here
    assert attempts(ServerGoesOn(served(policy, engines[2]), SAMPLING)) == here and all(len(r.completions) == 3 for r in here)
    assert len({engine.n_read for engine in engines}) == 1 and len(rollout_sequences(here[0])) == 1


def test_calls_through_a_server_of_ours_are_told_from_the_words_and_its_attempts_are_one_row_as_here(tmp_path: Path) -> None:
    policy = load_policy(str(write_model(tmp_path, max_position_embeddings=2048)), "float32")
    here = forced(policy, WRITTEN)
    engine = here.speaker.engine
    there = ToolAgent(ServerSpeaker(served(policy, Unwatched(engine)), here.speaker.sampling), here.world)
    assert run(there.attempt(PROBLEM, 2)) == (expected := run(here.attempt(PROBLEM, 2)))
    assert len(expected[0].completions) == 3 and expected[0].messages[0].tool_calls[0].id == "call00000"
    assert len(rollout_sequences(expected[0])) == 1


def test_what_has_ended_is_forgotten_by_a_server_of_ours(tmp_path: Path) -> None:
    policy = load_policy(str(write_model(tmp_path, max_position_embeddings=2048)), "float32")
    for speaker in (ServerGoesOn, lambda endpoint, sampling: GoesOn(RemoteEngine(endpoint), policy.renderer, sampling)):
        engine = LocalEngine(policy)
        agent = ToolAgent(speaker(served(policy, engine), SAMPLING), Counting(), Limits(steps=3))
        rollouts = run(agent.attempt(PROBLEM, 2))
        assert [len(r.completions) for r in rollouts] == [3, 3] and len(engine.memory) == 0


@pytest.mark.parametrize("answer", [(404, "no such place"), (500, "down"), httpx2.ReadTimeout("slow")])
def test_a_server_that_knows_no_end_of_conversations_ends_no_attempt(answer: Any) -> None:
    said = {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "finish_reason": "stop", "token_ids": [3], "message": {"content": "a"},
                                                      "logprobs": {"content": [{"logprob": -1.0}]}}]}  # fmt: skip
    script = Script(lambda path, body: answer if path.endswith("/ended") else (200, said), models=({"id": "m", "owned_by": "posttrain"},))
    (rollout,) = run(ToolAgent(ServerSpeaker(script.endpoint(), SAMPLING), WORLD, Limits()).attempt(PROBLEM, 1))
    assert rollout.outcome == "terminated" and script.asked[-1]["seen_token_ids"] == [1, 2, 3] and len(script.asked) == 2


def test_a_server_that_does_not_go_on_from_tokens_is_not_sent_any() -> None:
    answer = (200, {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "finish_reason": "stop", "token_ids": [3], "message": {"content": "a"},
                                                              "logprobs": {"content": [{"logprob": -1.0}]}}]})  # fmt: skip
    script = Script(lambda path, body: answer, models=({"id": "m", "owned_by": "vllm"},))
    (rollout,) = run(ToolAgent(ServerSpeaker(script.endpoint(), Sampling()), Counting(), Limits(steps=2)).attempt(PROBLEM, 1))
    assert [c.token_ids for c in rollout.completions] == [(3,), (3,)] and not any("seen_token_ids" in body for body in script.asked)
    assert len(rollout_sequences(rollout)) == 2, "a turn that was read anew is a row of its own"


def test_a_speaker_of_words_begins_from_any_transcript() -> None:
    script = Script(lambda path, body: choice("more"))
    begun = Transcript(PROBLEM, 2)
    (first,) = run(ServerSpeaker(script.endpoint(), SAMPLING).speak(begun, 1, 0, 9))
    going = begun.spoke(first).answered((Message("user", "and?"),), 0.0)
    run(ServerSpeaker(script.endpoint(), SAMPLING).speak(going, 1, 0, 9))
    assert [m["content"] for m in script.asked[-1]["messages"]] == ["What is 2+3?", "more", "and?"]
