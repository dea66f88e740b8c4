"""Servers from the command line: `serve`, and a server's address where a model's name may stand."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from posttrain import cli
from posttrain.policy.hf import load_policy
from posttrain.serve.app import Served
from tests.ended import Ended

MEASURE = ("--task", "arithmetic:levels=1,n_test=3", "--samples", "4", "--max-tokens", "5")
SAMPLE = ("--n", 2, "--seed", 7, "--max-tokens", 5, "--json", "Hello")


@dataclass
class Running:
    """A real server on a real port, in a thread of this process."""

    url: str


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(Served(load_policy("tiny", "bfloat16"), "tiny").app, log_level="critical"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    running.should_exit = True
    thread.join(20)


class Grader(BaseHTTPRequestHandler):
    """A server of messages whose model grades by the first character of an answer, and prefers the greater; it answers in words."""

    def do_GET(self) -> None:
        self._send({"data": [{"id": "grader"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        first = [(part.split("\n")[0] or " ")[0] for part in re.split(r"\[Answer(?: [AB])?\]\n", asked)[1:]]
        said = f"{1 + ord(first[0]) % 5}, I should say." if len(first) == 1 else f"**{'A' if first[0] >= first[1] else 'B'}** is better"
        self._send({"choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]})

    def _send(self, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def grader() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Grader)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"openai:http://127.0.0.1:{running.server_port}/v1#grader"
    running.shutdown()


TRAINED = ("--model", "tiny", "--dtype", "float32", "--task", "arithmetic:levels=1,n_train=9", "--max-tokens", 8, "--steps", 1, "--warmup-steps", 0)


@pytest.mark.parametrize("kind", ["judge", "pairwise"])
@pytest.mark.parametrize("method", [("dpo", "--pairs-per-step", 3, "--group-size", 3), ("reject", "--problems-per-step", 3, "--group-size", 3, "--keep-truncated")])
def test_a_servers_model_is_the_judge_in_training(kind: str, method: tuple[object, ...], grader: str, posttrain, tmp_path: Path) -> None:
    ended = posttrain("train", *method, *TRAINED, "--reward", f"{kind}:{grader}", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["reward/unscored_frac"] == 0 and 0 <= row["reward/mean"] <= 1 and row["policy/grad_norm"] > 0
    attempts = [a for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines() for a in json.loads(line)["attempts"]]
    firsts = [[(a["text"] or " ")[0] for a in attempts[i : i + 3]] for i in range(0, 9, 3)]
    scores = [[a["score"] for a in attempts[i : i + 3]] for i in range(0, 9, 3)]
    for said, given in zip(firsts, scores, strict=True):
        if kind == "judge":
            assert given == [ord(c) % 5 / 4 for c in said]
        else:
            assert max(given) == given[said.index(max(said))], "the greatest wins most"


def test_a_servers_model_says_which_of_two_samples_is_preferred(grader: str, posttrain, tmp_path: Path) -> None:
    flags = ("--task", "arithmetic:levels=1,n_train=9", "--problems", 4, "--samples", 3, "--max-tokens", 8, "--keep-truncated", "--dtype", "float32")
    ended = posttrain("prefer", "--model", "tiny", *flags, "--judge", grader, "--out", tmp_path / "pairs.jsonl")
    assert ended.code == 0, ended.err
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert pairs and all(p["chosen"][0]["content"][0] > p["rejected"][0]["content"][0] for p in pairs)


def completions(ended: Ended) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    return ended.json["completions"]


@pytest.mark.parametrize("more", ["", ",tokenizer=tiny"], ids=["messages", "tokens"])
def test_sample_prints_through_a_server_what_it_prints_here(more: str, server: Running, posttrain) -> None:
    local = completions(posttrain("sample", "--model", "tiny", "--dtype", "bfloat16", *SAMPLE))
    ended = posttrain("sample", "--model", f"openai:{server.url}#tiny{more}", *SAMPLE)
    assert completions(ended) == local and ended.json["model_path"] == f"openai:{server.url}#tiny{more}"
    said = posttrain("sample", "--model", f"openai:{server.url}#tiny{more}", *(word for word in SAMPLE if word != "--json")).out
    assert all(f"{logprob:.2f}" in said for logprob in local[0]["logprobs"])


def test_reliability_asks_a_server_and_says_what_it_refuses(server: Running, posttrain) -> None:
    asked = ("--problems", 1, "--samples", 1, "--horizons", 1)
    for more in ("", ",tokenizer=tiny"):
        ended = posttrain("reliability", "--model", f"openai:{server.url}#tiny{more}", *asked)
        assert ended.code == 2 and "model's context holds 512" in ended.err and ended.err.count("\n") == 1
    ended = posttrain("reliability", "--model", "openai:http://127.0.0.1:9/v1", *asked)
    assert ended.code == 2 and "cannot be reached" in ended.err


def test_eval_measures_a_server_as_it_measures_the_model_and_goes_on(server: Running, posttrain, tmp_path: Path) -> None:
    local = posttrain("eval", "--model", "tiny", "--dtype", "bfloat16", *MEASURE, "--json", "--out", tmp_path / "a").json
    argv = ("eval", "--model", f"openai:{server.url}", *MEASURE, "--json", "--out", tmp_path / "b")
    remote = posttrain(*argv)
    assert remote.code == 0 and remote.json["problems"] == local["problems"]
    rows = lambda found: {row["name"]: row for row in found["rows"] if row["name"] != "entropy_per_token"}  # noqa: E731
    assert rows(remote.json) == rows(local)
    assert remote.json["settings"]["model"] == f"{server.url}#" and remote.json["settings"]["dtype"] == "remote"
    written = (tmp_path / "b" / "records.jsonl").read_bytes()
    assert posttrain(*argv).json == remote.json and (tmp_path / "b" / "records.jsonl").read_bytes() == written
    said = posttrain("compare", tmp_path / "a", tmp_path / "b")
    assert said.code == 0 and "verdict: tied" in said.out


def test_a_server_is_asked_choices_in_writing_and_may_tell_refusals(server: Running, posttrain, tmp_path: Path) -> None:
    argv = ("--task", "capitals", "--choices", "written", "--problems", "3", "--samples", "2", "--max-tokens", "5", "--json")
    local = posttrain("eval", "--model", "tiny", "--dtype", "bfloat16", *argv).json
    remote = posttrain("eval", "--model", f"openai:{server.url}#tiny", *argv).json
    assert remote["problems"] == local["problems"] and remote["chance"] == 0.25
    rows = [{"prompt": f"Say {label} {i}.", "label": label} for i in range(3) for label in ("safe", "unsafe")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = posttrain("eval", "--model", "tiny", "--task", f"xstest:path={tmp_path / 'x.jsonl'}", "--refusal-judge", f"openai:{server.url}#tiny")
    assert ended.code == cli.USAGE and "tells only 0 of 6 plain refusals" in ended.err, "random words are neither Yes nor No"


def test_compare_takes_servers(server: Running, posttrain) -> None:
    address = f"openai:{server.url}#tiny,concurrency=2"
    ended = posttrain("compare", "tiny", address, "--dtype", "bfloat16", *MEASURE, "--json")
    rows = {row["name"]: row for row in ended.json["rows"]}
    assert ended.code == 0 and rows["accuracy"]["difference"]["value"] == 0 and "entropy_per_token" not in rows
    assert ended.json["trained"]["model_path"] == address


@pytest.mark.parametrize("command", [("sample", "Hi"), ("eval", *MEASURE)], ids=["sample", "eval"])
def test_a_server_that_is_not_there_or_has_no_such_model_is_said_in_one_sentence(command: tuple[str, ...], server: Running, posttrain) -> None:
    for address, words in {
        "openai:http://127.0.0.1:9/v1": "cannot be reached", f"openai:{server.url}#gpt-5": "has no model 'gpt-5'",
        f"openai:{server.url.removesuffix('/v1')}/elsewhere": "does", "openai:gpt-5": "names no server",
    }.items():  # fmt: skip
        ended = posttrain(command[0], "--model", address, *command[1:])
        lines = [line for line in ended.err.strip().splitlines() if line.startswith("posttrain:")]
        assert ended.code == cli.USAGE and len(lines) == 1 and words in lines[0], ended.err


def test_a_port_that_is_taken_is_said_in_one_sentence(server: Running, posttrain) -> None:
    port = server.url.split(":")[2].split("/")[0]
    ended = posttrain("serve", "--model", "tiny", "--port", port)
    assert ended.code == cli.USAGE and f"port {port} of 127.0.0.1 cannot be had" in ended.err
    assert posttrain("serve", "--model", "tiny", "--port", "99999").code == cli.USAGE


def test_openais_own_client_reads_chats_streams_and_errors(server: Running) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "seed": 3, "max_tokens": 12, "n": 2}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    streamed = ["", ""]
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == [choice.message.content for choice in whole.choices] and chunk.usage == whole.usage
    for row in whole.choices[0].logprobs.content:
        assert len(row.top_logprobs) == 2 and row.logprob <= row.top_logprobs[0].logprob + 1e-5
    assert client.completions.create(model="tiny", prompt="ab", max_tokens=3).usage.completion_tokens <= 3
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match="at least 1"):
        client.chat.completions.create(**{**asked, "max_tokens": 0})
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.chat.completions.create(**{**asked, "model": "gpt-5"})


@pytest.mark.slow
def test_a_served_model_answers_until_it_is_interrupted() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    argv = [sys.executable, "-m", "posttrain.cli", "serve", "--model", "tiny", "--port", "0"]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = server.stderr.readline()  # type: ignore[union-attr]
        address = line.split("--model '")[1].split("'")[0]
        asked = subprocess.run(
            [sys.executable, "-m", "posttrain.cli", "sample", "--model", address, "--json", "--max-tokens", "3", "Hi"],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert len(json.loads(asked.stdout)["completions"]) == 1
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, cli.INTERRUPTED)
        assert "Traceback" not in server.stderr.read()  # type: ignore[union-attr]
    finally:
        server.kill()
