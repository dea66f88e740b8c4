"""A server as an engine: what is sampled through HTTP is what is sampled here, and a server's failures are not the model's."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx2
import pytest

from posttrain.engine.endpoint import Address, Card, Endpoint, Unavailable, parse_address
from posttrain.engine.local import LocalEngine
from posttrain.engine.remote import RemoteEngine
from posttrain.policy.hf import Policy, load_policy
from posttrain.types import Completion, ContextFull, Sampling, UserError
from tests.serve.doubles import URL, Script, run, served
from tests.small_models import EOS, text

PROMPTS = [text(n, seed=n) for n in (3, 9, 20)]
SAMPLINGS = [Sampling(max_tokens=12, seed=3), Sampling(0.7, 12, top_k=9, seed=4), Sampling(1.3, 9, top_p=0.8, min_p=0.01, seed=2**63 - 1), Sampling(0, 8)]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("tiny", "float32")


# ---------------------------------------------------------------------------------------------- through HTTP as from here


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["plain", "top_k", "top_p", "greedy"])
def test_a_sample_through_http_is_the_local_one_token_for_token_and_log_prob_for_log_prob(policy: Policy, sampling: Sampling) -> None:
    ask = lambda engine: [engine.sample(prompt, 3, sampling, (EOS,)) for prompt in PROMPTS]  # noqa: E731

    async def both() -> tuple[list[list[Completion]], list[list[Completion]]]:
        return await asyncio.gather(*ask(RemoteEngine(served(policy)))), await asyncio.gather(*ask(LocalEngine(policy)))

    remote, local = run(both())
    assert remote == local
    assert all(math.isfinite(x) for group in remote for c in group for x in c.sampling_logprobs)


def test_without_stop_tokens_nothing_stops_there_either(policy: Policy) -> None:
    """An engine obeys its caller: a server that ends at its own end of turn would write less."""
    sampling = Sampling(2.0, 60, seed=1)
    remote = run(RemoteEngine(served(policy)).sample(PROMPTS[0], 40, sampling))
    assert remote == run(LocalEngine(policy).sample(PROMPTS[0], 40, sampling))
    assert any(EOS in c.token_ids[:-1] for c in remote) and {c.stop_reason for c in remote} == {"length"}


def test_a_prompt_without_room_is_refused_in_a_sentence_and_a_long_answer_ends_at_the_context(policy: Policy) -> None:
    engine = RemoteEngine(served(policy))
    with pytest.raises(ContextFull, match="600 tokens and the model's context holds 512"):
        run(engine.sample(text(600, 1), 1, Sampling()))
    (completion,) = run(engine.sample(text(505, 1), 1, Sampling(max_tokens=100)))
    assert len(completion.token_ids) <= 7


# ------------------------------------------------------------------------------------------------- what servers do not say


def choice(**more: Any) -> dict[str, Any]:
    return {"index": 0, "text": "hi", "finish_reason": "length", "token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0, -2.0]}, **more}


def test_log_probs_of_a_server_that_may_mean_others_are_nan_unless_both_are_the_same() -> None:
    script = Script(lambda path, body: (200, {"choices": [choice()]}), ({"id": "m", "owned_by": "vllm"},))
    sample = lambda sampling: run(RemoteEngine(script.endpoint()).sample((1, 2), 1, sampling))[0].sampling_logprobs  # noqa: E731
    assert sample(Sampling()) == sample(Sampling(0)) == (-1.0, -2.0)
    assert all(math.isnan(x) for x in (*sample(Sampling(0.5)), *sample(Sampling(top_k=3))))


@pytest.mark.parametrize("wrong", [{"token_ids": None}, {"logprobs": None}, {"token_ids": [5]}], ids=["no ids", "no log-probs", "too few"])
def test_a_server_that_gives_no_exact_tokens_is_no_engine(wrong: dict[str, Any]) -> None:
    script = Script(lambda path, body: (200, {"choices": [choice(**wrong)]}))
    with pytest.raises(UserError, match="no token ids"):
        run(RemoteEngine(script.endpoint()).sample((1, 2), 1, Sampling()))


def test_a_server_that_read_another_prompt_is_found_out() -> None:
    script = Script(lambda path, body: (200, {"choices": [choice(prompt_token_ids=[0, 1, 2])]}))
    with pytest.raises(UserError, match="other tokens"):
        run(RemoteEngine(script.endpoint()).sample((1, 2), 1, Sampling()))


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("failure", [(503, "busy"), (429, {"error": {"message": "slow down"}}), httpx2.ReadTimeout("late"), httpx2.ConnectError("gone")])
def test_what_may_be_well_in_a_moment_is_asked_for_again_and_then_reported_as_unavailable(failure: Any) -> None:
    script = Script(lambda path, body: failure if len(script.asked) < 3 else (200, {"fine": True}))
    assert run(script.endpoint().post("completions", {})) == {"fine": True} and len(script.asked) == 3
    script = Script(lambda path, body: failure)
    with pytest.raises(Unavailable, match="3 times"):
        run(script.endpoint().post("completions", {}))
    assert len(script.asked) == 3


def test_the_server_says_how_long_to_wait() -> None:
    waits: list[float] = []

    async def transport(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("models"):
            return httpx2.Response(200, json={"data": [{"id": "m"}]})
        waits.append(asyncio.get_running_loop().time())
        return httpx2.Response(200, json={}) if len(waits) == 2 else httpx2.Response(429, headers={"Retry-After": "0.2"})

    run(Endpoint(Address(URL), "", httpx2.MockTransport(transport), first_wait_s=0).post("completions", {}))
    assert waits[1] - waits[0] >= 0.2


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"message": "bad key"}}, "OPENAI_API_KEY"),
        (400, {"error": {"message": "too\nlong"}}, r"refuses the request \(400\): too long"),
        (404, {"error": {"message": "no model"}}, "no model"),
        (404, "nothing here", "does not speak OpenAI's protocol"),
        (200, "<html>", "does not speak OpenAI's protocol"),
    ],
)
def test_what_repeating_cannot_mend_is_said_at_once_in_a_sentence(status: int, body: Any, words: str) -> None:
    script = Script(lambda path, _: (status, body))
    with pytest.raises(UserError, match=words):
        run(script.endpoint().post("completions", {}))
    assert len(script.asked) == 1


def test_a_server_that_is_not_there_and_one_without_the_model_are_named() -> None:
    with pytest.raises(UserError, match="cannot be reached: start the server"):
        run(Endpoint(Address("http://127.0.0.1:9/v1", "m"), "").card())
    script = Script(lambda *_: (200, {}), ({"id": "a"}, {"id": "b"}))
    for wanted in ("c", ""):
        with pytest.raises(UserError, match=f"has no model '{wanted}': write #MODEL .* one of a, b"):
            run(script.endpoint(wanted).card())
    assert run(script.endpoint("b").card()) == Card("b", None, False, False)
    with pytest.raises(UserError, match="lists no models"):
        run(Script(lambda *_: (200, {}), ("a",)).endpoint().card())  # type: ignore[arg-type]


def test_no_more_requests_are_under_way_than_allowed_and_the_models_are_listed_once() -> None:
    under_way, most, listings = 0, 0, 0

    async def transport(request: httpx2.Request) -> httpx2.Response:
        nonlocal under_way, most, listings
        listings += request.url.path.endswith("models")
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return httpx2.Response(200, json={"data": [{"id": "m"}]})

    endpoint = Endpoint(Address(URL, concurrency=3), "", httpx2.MockTransport(transport))

    async def many() -> None:
        await asyncio.gather(*(endpoint.post("completions", {}) for _ in range(12)))

    run(many())
    run(many())  # in another event loop
    assert (most, listings) == (3, 1)


def test_the_key_is_sent_and_never_shown() -> None:
    script = Script(lambda path, body: (500, "down"))
    endpoint = script.endpoint(key="sk-secret")
    with pytest.raises(Unavailable) as failure:
        run(endpoint.post("completions", {}))
    assert {headers["authorization"] for headers in script.headers} == {"Bearer sk-secret"}
    assert "sk-secret" not in f"{endpoint!r} {failure.value}"


def test_an_address_is_read_and_what_is_wrong_with_it_is_said() -> None:
    assert parse_address("openai:http://h:1/v1/#a/b,tokenizer=tiny,concurrency=3,timeout_s=2.5") == Address("http://h:1/v1", "a/b", "tiny", 3, 2.5)
    for wrong, words in {
        "openai:gpt-5": "names no server", "openai:http://h/v1,k=1": "'k=1' .* no setting", "openai:http://h/v1,concurrency=x": "must be a number",
        "openai:http://h/v1,concurrency=0": "at least 1",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            parse_address(wrong)
