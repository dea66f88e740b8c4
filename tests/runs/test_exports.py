"""Evaluations in others' formats: what Inspect's own reader finds in them, and that tables lose nothing."""

from __future__ import annotations

import asyncio
import json
import math
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.measure import Evaluation, measure
from posttrain.runs.attempt_rows import attempt_rows, read_rows, records_of, write_jsonl, write_parquet
from posttrain.runs.inspect_log import InspectLog
from posttrain.runs.records import read_kept
from posttrain.types import Message, Problem, Retrieval, Rollout, Sampling, Source, ToolCall, Usage, UserError
from tests.evals.echo_task import EchoTask

WHEN = datetime(2026, 11, 25, tzinfo=UTC)
SAMPLES = 3


def answer(problem: Problem, sample: int, seed: int) -> str:
    """Problem 0: always right; 1: right once; 2: cannot be judged; 3: the machinery fails; 4: cut off."""
    number = int(problem.answer)
    if number == 3:
        raise ConnectionError("the line is dead")
    return {0: "0", 1: "1" if sample == 1 else "naïve 日本", 2: "mumble", 4: "4" * 9}[number]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    task = EchoTask(5)
    return asyncio.run(measure(ScriptedAgent(answer, Sampling(0.5, 8, top_k=4)), task, task.problems("test"), SAMPLES, 7))


def written(evaluation: Evaluation, path: Path) -> Path:
    InspectLog(evaluation, "runs/a", WHEN, {"model": "0123", "split": "test"}).write(path)
    return path


# ------------------------------------------------------------------------------------------------------------- Inspect


@pytest.mark.parametrize("name", ["log.eval", "log.json"])
def test_inspects_own_reader_finds_the_scores_epochs_tokens_and_errors(name: str, evaluation: Evaluation, tmp_path: Path) -> None:
    reading = pytest.importorskip("inspect_ai.log")
    log = reading.read_eval_log(str(written(evaluation, tmp_path / name)))
    assert (log.version, log.status, log.eval.task, log.eval.model, log.eval.config.epochs) == (2, "success", "echo", "runs/a", SAMPLES)
    assert (log.eval.model_generate_config.temperature, log.eval.model_generate_config.top_k, log.eval.model_generate_config.seed) == (0.5, 4, 7)
    assert [(s.id, s.epoch) for s in log.samples] == [(f"test-{i}", epoch) for epoch in (1, 2, 3) for i in range(5)]
    by_id = {(sample.id, sample.epoch): sample for sample in log.samples}
    for record in evaluation.records:
        for epoch, attempt in enumerate(record.attempts, 1):
            sample = by_id[record.problem.id, epoch]
            assert (sample.target, sample.input[0].text, sample.output.completion) == (record.problem.answer, record.problem.messages[0].content, attempt.rollout.text)
            if attempt.failed:
                assert sample.scores is None and sample.error.message == "ConnectionError: the line is dead" and not sample.model_usage
                continue
            (completion,), usage = attempt.rollout.completions, sample.model_usage["runs/a"]
            assert (usage.input_tokens, usage.output_tokens) == (len(completion.prompt_token_ids), len(completion.token_ids))
            assert sample.output.metadata["completions"][0]["token_ids"] == list(completion.token_ids)
            assert sample.output.stop_reason == {"terminated": "stop", "truncated": "max_tokens"}[attempt.rollout.outcome]
            value = sample.scores["echo"].value
            assert math.isnan(value) if attempt.score.is_unscored else value == attempt.score.value
    assert by_id["test-2", 1].scores["echo"].reason == "scoring_failed"
    assert (by_id["test-4", 1].limit.type, by_id["test-4", 1].limit.limit) == ("token", 8)
    total = log.stats.model_usage["runs/a"]
    assert total.output_tokens == sum(a.rollout.n_tokens for r in evaluation.records for a in r.attempts) == total.total_tokens - total.input_tokens


@pytest.mark.parametrize("name", ["log.eval", "log.json"])
def test_inspects_metrics_are_ours_with_their_interval(name: str, evaluation: Evaluation, tmp_path: Path) -> None:
    reading = pytest.importorskip("inspect_ai.log")
    log = reading.read_eval_log(str(written(evaluation, tmp_path / name)))
    (score,), accuracy = log.results.scores, evaluation["accuracy"]
    found = {metric.name: metric.value for metric in score.metrics.values()}
    assert (found["accuracy"], found["stderr"]) == pytest.approx((accuracy.value, accuracy.stderr))
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((accuracy.low, accuracy.high))
    assert (score.scored_samples, score.unscored_samples, log.results.total_samples, log.results.completed_samples) == (3, 2, 15, 12)
    (reduction,) = log.reductions
    assert {s.sample_id: s.value for s in reduction.samples} == pytest.approx({"test-0": 1.0, "test-1": 1 / 3, "test-4": 0.0})
    assert sum(s.value for s in reduction.samples) / 3 == pytest.approx(accuracy.value), "what Inspect would make of the epochs"


def test_inspect_reads_summaries_headers_and_single_samples(evaluation: Evaluation, tmp_path: Path) -> None:
    reading = pytest.importorskip("inspect_ai.log")
    path = str(written(evaluation, tmp_path / "log.eval"))
    assert reading.read_eval_log(path, header_only=True).samples is None
    summaries = reading.read_eval_log_sample_summaries(path)
    assert len(summaries) == 15 and {s.id for s in summaries if s.error == "ConnectionError: the line is dead"} == {"test-3"}
    assert reading.read_eval_log_sample(path, "test-1", 2).scores["echo"].value == 1
    again = tmp_path / "again.eval"
    reading.write_eval_log(reading.read_eval_log(path), str(again))
    assert len(reading.read_eval_log(str(again)).samples) == 15


def test_tools_and_usage_of_a_server_reach_inspect(evaluation: Evaluation, tmp_path: Path) -> None:
    reading = pytest.importorskip("inspect_ai.log")
    first = evaluation.records[0]
    said = (Message("assistant", "", (ToolCall("look", {"at": "é"}, "c1"),)), Message("tool", "seen", (), "c1"), Message("assistant", "0"))
    attempt = replace(first.attempts[0], rollout=Rollout(first.problem, said, usage=Usage(100, 5)))
    with_tools = replace(evaluation, records=(replace(first, attempts=(attempt,)),))
    (sample,) = reading.read_eval_log(str(written(with_tools, tmp_path / "log.eval"))).samples
    call = sample.messages[1].tool_calls[0]
    assert (call.function, call.arguments, sample.messages[2].tool_call_id) == ("look", {"at": "é"}, "c1")
    assert (sample.model_usage["runs/a"].input_tokens, sample.model_usage["runs/a"].output_tokens) == (100, 5)


def test_an_eval_file_is_a_whole_zip_that_older_tools_can_open(evaluation: Evaluation, tmp_path: Path) -> None:
    with zipfile.ZipFile(written(evaluation, tmp_path / "log.eval")) as file:
        names = file.namelist()
        assert {"header.json", "summaries.json", "reductions.json", "_journal/start.json", "samples/test-4_epoch_3.json"} <= set(names) and file.testzip() is None
        assert len(json.loads(file.read("summaries.json"))) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["log.eval"]


# -------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_the_records_are_made_again_from_a_table_with_every_token(name: str, evaluation: Evaluation, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write = write_parquet if name.endswith("parquet") else write_jsonl
    rows = list(attempt_rows("echo", {"temperature": 0.5, "seed": 7}, evaluation.records))
    write(rows, tmp_path / name)
    read = read_rows(tmp_path / name)
    assert read == rows and records_of(read).keys() == {"echo"}
    again = records_of(read)["echo"]
    for record, found in zip(evaluation.records, again, strict=True):
        assert found.problem == record.problem and [a.rollout for a in found.attempts] == [a.rollout for a in record.attempts]
        assert repr(found.scores) == repr(record.scores)  # nan included
    assert rows[0]["token_ids"] == [list(evaluation.records[0].attempts[0].rollout.completions[0].token_ids)]
    assert [row["n_tokens"] for row in rows[9:12]] == [None] * 3 and rows[9]["score"] is None


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not those of an evaluation"):
        records_of([{"task": "a", "settings": {}, "id": "b"}])
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"a\.parquet.*no parquet file"):
        read_rows(tmp_path / "a.parquet")


# ------------------------------------------------------------------------------------------------------------- command

MEASURE = ("--task", "arithmetic:levels=1,n_test=3,facts", "--problems", "3", "--samples", "2", "--max-tokens", "5", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation")
    assert cli.run(["eval", "--model", "tiny", *MEASURE, "--out", str(path)]) == cli.DONE
    return path


def test_a_folder_is_exported_by_one_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(folder), "--to", "jsonl", "--out", str(tmp_path / "new" / "rows.jsonl")]) == cli.DONE
    assert "12 attempts at 6 problems" in capsys.readouterr().out
    rows = read_rows(tmp_path / "new" / "rows.jsonl")
    assert [row["task"] for row in rows] == ["arithmetic"] * 6 + ["facts"] * 6 and rows[0]["settings"]["samples"] == 2
    assert cli.run(["export", str(folder), "--to", "inspect", "--task", "facts", "--out", str(tmp_path / "log.json")]) == cli.DONE
    log = json.loads((tmp_path / "log.json").read_text())
    assert (log["eval"]["task"], len(log["samples"]), log["eval"]["metadata"]["settings"]["split"]) == ("facts", 6, "test")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--to", "inspect", "--out", "log.zip"), "ends in .eval or .json"),
        (("--to", "inspect", "--out", "log.eval"), "--task with one of arithmetic, facts"),
        (("--to", "jsonl", "--out", "rows.jsonl", "--task", "gsm8k"), "no evaluation of 'gsm8k': there are arithmetic, facts"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(argv: tuple[str, ...], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(["export", str(folder), *argv]) == cli.USAGE
    assert words in capsys.readouterr().err


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(tmp_path), "--to", "jsonl", "--out", str(tmp_path / "a.jsonl")]) == cli.USAGE
    assert "holds no evaluation" in capsys.readouterr().err


def test_what_was_read_of_options_is_exported_with_the_settings_of_its_own_task(tmp_path: Path) -> None:
    argv = ["eval", "--model", "tiny", "--task", "capitals,arithmetic:levels=1", "--choices", "byte", "--problems", "2", "--samples", "2", "--max-tokens", "3"]
    assert cli.run([*argv, "--out", str(tmp_path / "e")]) == cli.DONE
    kept = {e.task: e for e in read_kept(tmp_path / "e").evaluations}
    assert cli.run(["export", str(tmp_path / "e"), "--to", "jsonl", "--out", str(tmp_path / "rows.jsonl")]) == cli.DONE
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["settings"].get("asked") for row in rows] == ["likelihood"] * 2 + [None] * 4 and "temperature" not in rows[0]["settings"]
    for task, records in records_of(rows).items():
        assert [[a.rollout for a in r.attempts] for r in records] == [[a.rollout for a in r.attempts] for r in kept[task].records]
    assert cli.run(["export", str(tmp_path / "e"), "--to", "inspect", "--task", "capitals by text per byte", "--out", str(tmp_path / "log.json")]) == cli.DONE
    log = json.loads((tmp_path / "log.json").read_text())
    assert "temperature" not in log["eval"]["model_generate_config"] and len(log["samples"][0]["output"]["metadata"]["readings"]) == 4


def test_tables_keep_what_the_world_came_to_and_what_was_looked_up(evaluation: Evaluation, tmp_path: Path) -> None:
    first = evaluation.records[0]
    found = Retrieval("who", "", (Source("a", "b", 0, 1, "x", 0.5),))
    attempt = replace(first.attempts[0], rollout=replace(first.attempts[0].rollout, state={"done": [1, 2]}, retrievals=(found,)))
    write_jsonl(attempt_rows("echo", {}, [replace(first, attempts=(attempt,))]), tmp_path / "rows.jsonl")
    (again,) = records_of(read_rows(tmp_path / "rows.jsonl"))["echo"]
    assert again.attempts[0].rollout == attempt.rollout
