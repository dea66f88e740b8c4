"""A run's logs as the report shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.runs.folder import RunFolder
from posttrain.runs.history import SHOWN_PROBLEMS, SHOWN_STEPS, training_history
from posttrain.types import UserError

RENDERER = Renderer(tiny_tokenizer())


def attempt(text: str, advantage: float) -> dict[str, Any]:
    ids = RENDERER.encode(text)
    turn = {"token_ids": ids, "sampling_logprobs": [-0.5] * len(ids)}
    return {"turns": [turn], "advantage": advantage, "score": 1.0, "outcome": "terminated", "explanation": "so it is"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.open({"algorithm": "grpo", "model": "tiny"})
    for step in range(1, 11):
        question = {"role": "user", "content": f"step {step}?"}
        row = {"problem_id": "p", "messages": [question], "answer": "4", "attempts": [attempt(f"{step}!", 0.5), attempt("no", -0.5)]}
        folder.append("rollouts.jsonl", [{"step": step, **row}] * 3)
        folder.append("timings.jsonl", [{"step": step, "time/step_s": step / 2}])
        folder.append("metrics.jsonl", [{"step": step, "reward/mean": step / 10}])
    return folder


def test_a_history_has_every_steps_metrics_and_timings(run: RunFolder) -> None:
    history = training_history(run.path, RENDERER)
    assert history is not None and (history["algorithm"], history["config"]["model"]) == ("grpo", "tiny")
    assert history["metrics"] == [{"step": s, "reward/mean": s / 10, "time/step_s": s / 2} for s in range(1, 11)]


def test_a_history_shows_attempts_of_the_first_and_last_steps_and_some_between(run: RunFolder) -> None:
    history = training_history(run.path, RENDERER)
    assert history is not None
    steps = [row["step"] for row in history["rollouts"]]
    assert steps == [step for step in (1, 4, 7, 10) for _ in range(SHOWN_PROBLEMS)] and len(set(steps)) == SHOWN_STEPS
    first = history["rollouts"][0]
    assert (first["prompt"], first["answer"]) == ("user: step 1?", "4")
    assert first["rollouts"][0] == {
        "tokens": ["1", "!"], "logprobs": [-0.5, -0.5], "advantage": 0.5, "score": 1.0, "outcome": "terminated", "explanation": "so it is",
    }  # fmt: skip


def test_a_run_that_has_no_step_yet_has_an_empty_history(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open({"algorithm": "grpo"})
    folder.append("metrics.jsonl", [])
    history = training_history(folder.path, RENDERER)
    assert history is not None and history["metrics"] == history["rollouts"] == []


def test_what_is_no_run_has_no_history(tmp_path: Path) -> None:
    assert training_history(tmp_path, RENDERER) is None
    assert training_history(Path("smollm2"), RENDERER) is None
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n")
    assert training_history(tmp_path, RENDERER) is None


def test_a_damaged_log_is_named_with_its_line(run: RunFolder) -> None:
    with (run.path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 10, "attem')
    with pytest.raises(UserError, match="line 31 of .*rollouts.jsonl"):
        training_history(run.path, RENDERER)
