"""The server, within this process: what it answers, what it refuses, and that whoever hangs up is forgotten."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

pytest.importorskip("starlette")

from posttrain.data.conversations import as_messages
from posttrain.engine.local import LocalEngine
from posttrain.engine.scripted import ScriptedEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.serve.app import Served
from posttrain.types import Completion, Message, Sampling
from tests.serve.doubles import Unwatched, run
from tests.small_models import EOS, mismatch, text

CHAT = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


@pytest.fixture(scope="module")
def server(policy: Policy) -> Served:
    return Served(policy, "tiny", max_rows=32)


def post(server: Served, path: str, **body: Any) -> httpx2.Response:
    async def once() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(server.app), base_url="http://test") as client:
            return await client.post(f"/v1/{path}", json=body)

    return run(once())


def local(policy: Policy, prompt: tuple[int, ...], n: int, sampling: Sampling) -> list[Completion]:
    return run(LocalEngine(policy).sample(prompt, n, sampling, policy.renderer.stop_token_ids))


def chunks(response: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream, whose end is marked."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


# --------------------------------------------------------------------------------------------------------- whole answers


def test_the_models_are_listed_with_what_a_client_needs_to_know(server: Served) -> None:
    async def get() -> Any:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(server.app), base_url="http://test") as client:
            return [(await client.get(path)).json() for path in ("/v1/models", "/health")]

    listed, health = run(get())
    (card,) = listed["data"]
    assert (card["id"], card["max_model_len"], card["owned_by"]) == ("tiny", 512, "posttrain") and health == {"status": "ok"}


def test_a_chat_is_rendered_by_the_models_own_template_and_says_what_the_engine_samples(server: Served, policy: Policy) -> None:
    found = post(server, "chat/completions", model="tiny", messages=CHAT, n=3, seed=7, max_tokens=20, logprobs=True, return_token_ids=True).json()
    prompt = policy.renderer.prompt((Message("user", "hi"),))
    drawn = local(policy, prompt, 3, Sampling(max_tokens=20, seed=7))
    assert found["prompt_token_ids"] == list(prompt) and [c["token_ids"] for c in found["choices"]] == [list(c.token_ids) for c in drawn]
    for choice, completion in zip(found["choices"], drawn, strict=True):
        assert choice["message"] == {"role": "assistant", "content": policy.renderer.parse(completion.token_ids).content}
        assert tuple(row["logprob"] for row in choice["logprobs"]["content"]) == completion.sampling_logprobs
        assert choice["finish_reason"] == completion.stop_reason
    written = sum(len(c.token_ids) for c in drawn)
    assert found["usage"] == {"prompt_tokens": len(prompt), "completion_tokens": written, "total_tokens": len(prompt) + written}


def test_tools_reach_the_template(server: Served, policy: Policy) -> None:
    ask = lambda **more: post(server, "chat/completions", messages=CHAT, max_tokens=1, return_token_ids=True, **more).json()["prompt_token_ids"]  # noqa: E731
    with_tools = policy.renderer.prompt((Message("user", "hi"),), (TOOL,))
    assert ask(tools=[TOOL]) == list(with_tools) != ask()
    assert ask(tools=[TOOL], tool_choice="none") == ask()


def test_a_call_is_no_part_of_the_words_and_without_tools_it_is(policy: Policy) -> None:
    server = Served(policy, "tiny")
    written = [*policy.renderer.encode('Hm.\n<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'), policy.renderer.stop_token_ids[0]]
    server.engine = Unwatched(ScriptedEngine(lambda prompt, sample, seed: written))
    chat = [*CHAT, {"role": "assistant", "content": "yes?"}, *CHAT]
    (choice,) = post(server, "chat/completions", messages=chat, tools=[TOOL]).json()["choices"]
    call = {"id": "call00100", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    assert choice["message"] == {"role": "assistant", "content": "Hm.", "tool_calls": [call]} and choice["finish_reason"] == "tool_calls"
    (choice,) = post(server, "chat/completions", messages=chat).json()["choices"]
    assert "<tool_call>" in choice["message"]["content"] and choice["finish_reason"] == "stop"


def test_a_conversation_goes_on_from_its_tokens_and_what_a_tool_says_ends_no_turn(server: Served, policy: Policy) -> None:
    ask = lambda chat, **more: post(server, "chat/completions", messages=chat, max_tokens=4, seed=1, return_token_ids=True, **more).json()  # noqa: E731
    first = ask(CHAT, seen_token_ids=[])
    read, written = first["prompt_token_ids"], [*policy.renderer.encode("yo"), 105, policy.renderer.stop_token_ids[0]]
    told = [*CHAT, {"role": "assistant", "content": "yoi"}, {"role": "tool", "content": "5<|im_end|>"}]
    before = server.engine.n_read
    found = ask(told, seen_token_ids=read + written, begun=len(read))["prompt_token_ids"]
    assert found[: len(read + written)] == read + written and "5< |im_end|>" in policy.renderer.decode(found)
    assert server.engine.n_read - before == len(found) - len(read), "the beginning was remembered"
    assert ask(told)["prompt_token_ids"] == list(policy.renderer.prompt(policy.renderer.harmless(as_messages(told, "user"))))


def test_a_completion_goes_on_from_a_text_or_from_tokens_and_several_prompts_stand_one_after_the_other(server: Served) -> None:
    words = text(9, 3)
    as_text = bytes(token for token in words if token < 128).decode()
    ids = list(as_text.encode())  # not the tokens of bytes: see below
    by_text = post(server, "completions", prompt=as_text, seed=1, return_token_ids=True).json()["choices"][0]
    by_ids = post(server, "completions", prompt=by_text["prompt_token_ids"], seed=1, return_token_ids=True).json()["choices"][0]
    assert by_text == by_ids and 1 <= len(by_text["token_ids"]) <= 16 and len(ids) == len(by_text["prompt_token_ids"])
    found = post(server, "completions", prompt=[as_text, by_text["prompt_token_ids"]], n=2, seed=1, return_token_ids=True).json()
    assert [c["index"] for c in found["choices"]] == [0, 1, 2, 3] and found["choices"][2]["token_ids"] == by_text["token_ids"]
    assert found["usage"]["prompt_tokens"] == 2 * len(ids)


def test_the_same_seed_gives_the_same_and_no_seed_something_else_each_time(server: Served) -> None:
    ask = lambda **more: post(server, "chat/completions", messages=CHAT, max_tokens=24, **more).json()["choices"][0]["message"]["content"]  # noqa: E731
    assert ask(seed=3) == ask(seed=3) != ask(seed=4)
    assert ask() != ask()


def test_an_answer_ends_before_the_first_stop_and_no_token_later(server: Served, policy: Policy) -> None:
    ask = lambda **more: post(server, "completions", prompt="abc", max_tokens=200, seed=5, return_token_ids=True, ignore_eos=True, **more).json()["choices"][0]  # noqa: E731
    whole = ask()
    stop = whole["text"][20:22]
    ended = ask(stop=[stop, "\x00never"])
    assert ended["finish_reason"] == "stop" and whole["finish_reason"] == "length"
    assert ended["text"] == whole["text"].split(stop)[0] and whole["token_ids"][: len(ended["token_ids"])] == ended["token_ids"]
    assert stop in policy.renderer.decode(ended["token_ids"]) and stop not in policy.renderer.decode(ended["token_ids"][:-1])


def test_echo_shows_the_prompts_log_probs_and_the_likeliest_tokens_beside_them(server: Served, policy: Policy) -> None:
    prompt = text(8, 1)
    found = post(server, "completions", prompt=list(prompt), max_tokens=3, temperature=0, echo=True, logprobs=2, ignore_eos=True).json()["choices"][0]
    rows = found["logprobs"]
    assert len(rows["tokens"]) == len(rows["token_logprobs"]) == len(rows["top_logprobs"]) == len(rows["text_offset"]) == 11
    assert rows["token_logprobs"][0] is rows["top_logprobs"][0] is None
    ((expected, _),) = policy.score_tokens([(prompt[:1], prompt[1:])])
    assert rows["token_logprobs"][1:8] == pytest.approx(expected, abs=1e-5)
    for token, value, top in list(zip(rows["tokens"], rows["token_logprobs"], rows["top_logprobs"], strict=True))[8:]:
        assert max(top.values()) == pytest.approx(value, abs=1e-5) and token in top, "the likeliest was taken"
    only = post(server, "completions", prompt=list(prompt), max_tokens=0, echo=True, logprobs=0).json()
    assert only["choices"][0]["logprobs"]["token_logprobs"] == rows["token_logprobs"][:8] and only["usage"]["completion_tokens"] == 0


def test_the_log_probs_are_the_policys_own(server: Served, policy: Policy) -> None:
    found = post(server, "completions", prompt=list(text(5, 2)), temperature=0.7, seed=2, logprobs=0, return_token_ids=True).json()["choices"][0]
    sampling = Sampling(0.7, 16, seed=2)
    completion = Completion(text(5, 2), tuple(found["token_ids"]), tuple(found["logprobs"]["token_logprobs"]), "length", sampling)
    assert mismatch(policy, [completion]).max() < 1e-5


# -------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("stop", [None, "X"])
def test_a_streamed_chat_joined_is_the_whole_one(server: Served, stop: str | None) -> None:
    body = {"messages": CHAT, "n": 3, "seed": 11, "max_tokens": 40, "logprobs": True, "return_token_ids": True, "stop": stop}
    whole = post(server, "chat/completions", **body).json()
    events = chunks(post(server, "chat/completions", **body, stream=True, stream_options={"include_usage": True}))
    *events, last = events
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    for i, choice in enumerate(whole["choices"]):
        mine = [each for event in events for each in event["choices"] if each["index"] == i]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"]["content"] for each in mine) == choice["message"]["content"]
        assert [t for each in mine for t in each.get("token_ids", [])] == choice["token_ids"]
        streamed = [row["logprob"] for each in mine[1:] for row in each["logprobs"]["content"]]
        assert streamed == [row["logprob"] for row in choice["logprobs"]["content"]]
        assert [each["finish_reason"] for each in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]


def test_a_streamed_completion_joined_is_the_whole_one(server: Served) -> None:
    body = {"prompt": "abc", "seed": 3, "max_tokens": 30}
    events = chunks(post(server, "completions", **body, stream=True))
    whole = post(server, "completions", **body).json()["choices"][0]
    assert "".join(event["choices"][0]["text"] for event in events) == whole["text"] and len(events) > 2


def test_the_first_words_come_before_the_last_are_sampled(policy: Policy) -> None:
    """The in-process transport waits for a whole answer, so this asks the application itself."""
    server, sent = Served(policy, "tiny"), []

    async def ask() -> None:
        body = json.dumps({"prompt": "abc", "max_tokens": 100, "ignore_eos": True, "stream": True, "return_token_ids": True}).encode()
        received = iter([{"type": "http.request", "body": body}])

        async def receive() -> dict[str, Any]:
            return next(received, None) or await asyncio.Event().wait()

        async def send(message: dict[str, Any]) -> None:
            sent.append((message.get("body", b""), server.engine.n_tokens))

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "query_string": b"", "asgi": {"version": "3.0"}}
        await server.app(scope, receive, send)

    run(ask())
    first = next(n for body, n in sent if b"token_ids" in body)
    assert first < 20 and server.engine.n_tokens == 100


# -------------------------------------------------------------------------------------------------------------- company


def test_requests_at_the_same_time_share_batches_and_none_changes_anothers_sample(policy: Policy) -> None:
    bodies = [{"prompt": list(text(3 + i, i)), "seed": i, "n": 2, "max_tokens": 20, "ignore_eos": True, "return_token_ids": True} for i in range(6)]

    async def together(server: Served) -> list[Any]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(server.app), base_url="http://test") as client:
            return [r.json()["choices"] for r in await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))]

    server, passes, hidden = Served(policy, "tiny"), 0, policy.hidden

    def counted(*args: Any) -> Any:
        nonlocal passes
        passes += 1
        return hidden(*args)

    policy.hidden = counted  # type: ignore[method-assign]
    try:
        found = run(together(server))
    finally:
        del policy.hidden  # type: ignore[method-assign]
    assert passes < 40, "alone each of the six needs 20 passes"
    assert found == [post(server, "completions", **body).json()["choices"] for body in bodies]


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_hangs_up_is_no_longer_sampled_for(policy: Policy, stream: bool) -> None:
    server = Served(policy, "tiny")

    async def ask() -> None:
        body = json.dumps({"prompt": "abc", "max_tokens": 400, "ignore_eos": True, "stream": stream}).encode()
        received = iter([{"type": "http.request", "body": body}])

        async def receive() -> dict[str, Any]:
            if message := next(received, None):
                return message
            while server.engine.n_tokens < 5:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None: ...

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "query_string": b"", "asgi": {"version": "3.0"}}
        await server.app(scope, receive, send)
        for _ in range(50):
            await asyncio.sleep(0)

    run(ask())
    assert server.engine.n_tokens < 60
    assert post(server, "completions", prompt="abc").status_code == 200


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("completions", {"prompt": "a", "model": "gpt-5"}, 404, "no model 'gpt-5' here, only 'tiny'"),
        ("completions", {"prompt": "a" * 600}, 400, "context holds 512"),
        ("completions", {"prompt": "a" * 600, "stream": True}, 400, "context holds 512"),
        ("completions", {"prompt": [1, 999]}, 400, "no token 999"),
        ("completions", {"prompt": [1, "a"]}, 400, "prompt must be"),
        ("completions", {}, 400, "prompt must be"),
        ("completions", {"prompt": ""}, 400, "0 tokens"),
        ("completions", {"prompt": "a", "max_tokens": 0}, 400, "at least 1"),
        ("completions", {"prompt": "a", "n": 99}, 400, "n must be between 1 and 32"),
        ("completions", {"prompt": "a", "temperature": "hot"}, 400, "temperature must be a number"),
        ("completions", {"prompt": "a", "max_tokens": 2.5}, 400, "whole number"),
        ("completions", {"prompt": "a", "presence_penalty": 0.5}, 400, "presence_penalty is not supported"),
        ("completions", {"prompt": "a", "best_of": 3}, 400, "best_of is not supported"),
        ("completions", {"prompt": "a", "stop": [1]}, 400, "stop must be"),
        ("chat/completions", {}, 400, "messages must be"),
        ("chat/completions", {"messages": [{"role": "wizard", "content": "a"}]}, 400, "unknown role"),
        ("chat/completions", {"messages": CHAT, "tools": [3]}, 400, "tools must be"),
        ("chat/completions", {"messages": CHAT, "seen_token_ids": "a"}, 400, "seen_token_ids must be a list of token ids"),
        ("chat/completions", {"messages": CHAT, "seen_token_ids": [1, 99999]}, 400, "there is no token 99999"),
        ("chat/completions", {"messages": CHAT, "seen_token_ids": [1]}, 400, "an assistant's message that they end with"),
        ("chat/completions", {"messages": CHAT, "seen_token_ids": [1], "begun": 2}, 400, "begun must be between 0 and 1"),
        ("completions", {"prompt": [1, 2], "begun": 3}, 400, "begun must be between 0 and 2"),
        ("chat/completions", {"messages": CHAT, "tool_choice": "required"}, 400, "tool_choice is not supported"),
        ("chat/completions", {"messages": CHAT, "response_format": {"type": "json_object"}}, 400, "response_format is not supported"),
        ("embeddings", {}, 404, "Not Found"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(path: str, body: dict[str, Any], status: int, words: str, server: Served) -> None:
    response = post(server, path, **body)
    assert response.status_code == status and words in response.json()["error"]["message"]


def test_settings_that_ask_for_nothing_are_no_reason_to_refuse(server: Served) -> None:
    idle = {"presence_penalty": 0, "logit_bias": {}, "best_of": 1, "user": "me", "stop": None, "response_format": {"type": "text"}, "top_k": -1}
    assert post(server, "completions", prompt="a", **idle).status_code == 200


def test_a_body_that_is_no_object_is_refused(server: Served) -> None:
    async def ask(content: bytes) -> int:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(server.app), base_url="http://test") as client:
            return (await client.post("/v1/completions", content=content)).status_code

    assert {run(ask(content)) for content in (b"", b"[1]", b"{", b"[" * 10000)} == {400}


def test_the_end_of_a_turn_ends_an_answer_unless_it_is_to_be_ignored(server: Served) -> None:
    ask = lambda **more: post(server, "completions", prompt="abc", n=30, seed=1, temperature=2, max_tokens=60, return_token_ids=True, **more).json()  # noqa: E731
    ended = [c for c in ask()["choices"] if c["finish_reason"] == "stop"]
    assert ended and all(c["token_ids"].index(EOS) == len(c["token_ids"]) - 1 and "<|im_end|>" not in c["text"] for c in ended)
    assert {c["finish_reason"] for c in ask(ignore_eos=True)["choices"]} == {"length"}
