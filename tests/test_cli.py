"""The command line: what each command prints, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from posttrain import __version__, cli
from posttrain.commands import base
from posttrain.policy.models import resolve, tiny_tokenizer
from posttrain.renderer import Renderer
from tests.ended import Ended

SMALL = ("--max-tokens", "5", "--dtype", "float32")
TRAIN = (
    "train", "grpo", "--model", "tiny", "--task", "arithmetic:levels=1,n_train=8", "--steps", "2", "--problems-per-step", "2",
    "--group-size", "3", *SMALL,
)  # fmt: skip
MEASURE = ("--task", "arithmetic:levels=1,n_test=3", "--samples", "4", *SMALL)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    path = tmp_path_factory.mktemp("runs") / "a"
    assert cli.run([*TRAIN, "--out", str(path), "--kl-coef", "0.01", "--learning-rate", "1e-2"]) == cli.DONE
    return path


def assert_refused(ended: Ended, *words: str) -> None:
    """Bad input: code 2, nothing on stdout, one sentence on stderr that holds the words."""
    assert (ended.code, ended.out) == (cli.USAGE, "")
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("posttrain: "), ended.err
    for word in words:
        assert word in ended.err, ended.err


# ------------------------------------------------------------------------------------------------------------------ help

COMMANDS: Sequence[tuple[str, ...]] = ((), ("train",), ("train", "grpo"), ("sample",), ("eval",), ("compare",), ("show-mask",))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words) or "nothing")
def test_every_help_runs_and_says_what_the_command_is_for(command: tuple[str, ...], posttrain) -> None:
    ended = posttrain(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "posttrain" in ended.out and len(ended.out.split()) > 10
    if command in (("train", "grpo"), ("sample",), ("eval",), ("compare",)):
        assert "--model" in ended.out or command == ("compare",)
        assert "--seed" in ended.out and "--dtype" in ended.out


def test_the_help_of_training_explains_every_setting_and_names_the_presets(posttrain) -> None:
    from dataclasses import fields

    from posttrain.algorithms.grpo import PRESETS, Config

    said = posttrain("train", "grpo", "--help").out
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')}" in said or field.name == "optim"
    assert "--learning-rate" in said and all(name in said for name in PRESETS)


def test_no_command_is_a_cry_for_help(posttrain) -> None:
    assert posttrain().out == posttrain("--help").out == cli.help_text()


def test_the_version_is_the_packages(posttrain) -> None:
    assert posttrain("--version").out.split() == ["posttrain", __version__]


# ---------------------------------------------------------------------------------------------------------------- sample


def test_samples_as_json_have_exactly_the_shape_that_is_promised(posttrain) -> None:
    ended = posttrain("sample", "--model", "tiny", "--n", 3, "--seed", 7, "--json", *SMALL, "What is 17+25?")
    renderer = Renderer(tiny_tokenizer())
    assert ended.code == 0
    assert set(ended.json) == {"model_path", "completions"} and ended.json["model_path"] == str(resolve("tiny"))
    assert len(ended.json["completions"]) == 3
    for completion in ended.json["completions"]:
        assert set(completion) == {"text", "prompt_token_ids", "token_ids", "logprobs", "stop_reason"}
        assert 1 <= len(completion["token_ids"]) == len(completion["logprobs"]) <= 5
        assert all(logprob < 0 for logprob in completion["logprobs"])
        assert completion["stop_reason"] in ("stop", "length")
        assert "What is 17+25?" in renderer.decode(completion["prompt_token_ids"])
        assert completion["text"] == renderer.parse(completion["token_ids"]).content
    assert len({tuple(c["token_ids"]) for c in ended.json["completions"]}) == 3


def test_the_same_seed_gives_the_same_samples_and_another_gives_others(posttrain) -> None:
    ask = lambda seed: posttrain("sample", "--model", "tiny", "--n", 2, "--seed", seed, "--json", *SMALL, "Hello").out  # noqa: E731
    assert ask(7) == ask(7) != ask(8)


def test_temperature_0_takes_the_most_likely_tokens_whatever_the_seed(posttrain) -> None:
    greedy = ("sample", "--model", "tiny", "--temperature", 0, "--json", *SMALL, "Hello")
    assert posttrain(*greedy, "--seed", 1).json == posttrain(*greedy, "--seed", 2).json


def test_a_system_message_comes_before_the_prompt(posttrain) -> None:
    prompt = lambda *more: posttrain("sample", "--model", "tiny", "--json", *SMALL, *more, "Hi").json["completions"][0]["prompt_token_ids"]  # noqa: E731
    plain, told = prompt(), prompt("--system", "Be brief.")
    assert told[-len(plain) :] == plain and len(told) > len(plain)


def test_samples_as_text_show_each_tokens_log_prob(posttrain) -> None:
    ended = posttrain("sample", "--model", "tiny", "--n", 2, *SMALL, "Hello")
    as_json = posttrain("sample", "--model", "tiny", "--n", 2, "--json", *SMALL, "Hello").json
    assert ended.code == 0
    for completion in as_json["completions"]:
        assert all(f"{logprob:.2f}" in ended.out for logprob in completion["logprobs"])
        assert f"{sum(completion['logprobs']):.2f} nats" in ended.out


# ----------------------------------------------------------------------------------------------------------------- train


def test_training_leaves_a_run_and_says_where(posttrain, tmp_path: Path) -> None:
    ended = posttrain(*TRAIN, "--out", tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000002"
    assert ended.code == 0 and str(checkpoint) in ended.out
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "timings.jsonl", "rollouts.jsonl", "checkpoints",
    }  # fmt: skip
    assert (checkpoint / "model.safetensors").is_file() and (checkpoint / "tokenizer.json").is_file()


def test_training_as_json_gives_the_run_the_model_and_the_last_steps_metrics(posttrain, tmp_path: Path) -> None:
    found = posttrain(*TRAIN, "--out", tmp_path / "run", "--json").json
    assert found["run"] == str(tmp_path / "run")
    assert found["model_path"] == str(tmp_path / "run" / "checkpoints" / "step_000002")
    assert found["last_step"]["step"] == 2 and "reward/mean" in found["last_step"]


def test_a_preset_gives_defaults_that_flags_change(posttrain, tmp_path: Path) -> None:
    posttrain(*TRAIN, "--preset", "dapo", "--clip-high", "0.5", "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["advantage"], config["extra_rounds"], config["clip_high"]) == ("std_scaled", 3, 0.5)


def test_a_runs_config_file_repeats_the_run_elsewhere(posttrain, a_run: Path, tmp_path: Path) -> None:
    ended = posttrain("train", "grpo", "--config", a_run / "config.json", "--out", tmp_path / "b")
    assert ended.code == 0
    for log in ("metrics.jsonl", "rollouts.jsonl"):
        assert (tmp_path / "b" / log).read_bytes() == (a_run / log).read_bytes()


def test_the_same_command_again_finds_its_work_done(posttrain, a_run: Path) -> None:
    before = (a_run / "metrics.jsonl").read_bytes()
    ended = posttrain("train", "grpo", "--config", a_run / "config.json")
    assert ended.code == 0 and (a_run / "metrics.jsonl").read_bytes() == before


# ------------------------------------------------------------------------------------------------------ eval and compare


def test_an_evaluation_as_json_has_accuracy_with_its_interval(posttrain, tmp_path: Path) -> None:
    ended = posttrain("eval", "--model", "tiny", *MEASURE, "--json", "--out", tmp_path / "out")
    assert ended.code == 0
    rows = {row["name"]: row for row in ended.json["rows"]}
    assert rows["accuracy"]["n"] == ended.json["n_problems"] == 3 and rows["accuracy"]["low"] <= rows["accuracy"]["value"]
    assert (ended.json["samples"], ended.json["split"], ended.json["model_path"]) == (4, "test", str(resolve("tiny")))
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == ended.json


def test_a_runs_folder_is_a_model(posttrain, a_run: Path) -> None:
    ended = posttrain("eval", "--model", a_run, *MEASURE, "--json")
    assert (ended.code, ended.json["model_path"]) == (0, str(a_run / "checkpoints" / "step_000002"))


def test_an_evaluation_keeps_the_exact_tokens_and_the_same_command_attempts_nothing_again(posttrain, tmp_path: Path) -> None:
    argv = ("eval", "--model", "tiny", *MEASURE, "--json", "--out", tmp_path)
    first = posttrain(*argv).json
    written = (tmp_path / "records.jsonl").read_bytes()
    assert posttrain(*argv).json == first and (tmp_path / "records.jsonl").read_bytes() == written
    rows, renderer = [json.loads(line) for line in written.splitlines()], Renderer(tiny_tokenizer())
    assert [row["id"] for row in rows] == [problem["id"] for problem in first["problems"]] and len({row["key"] for row in rows}) == 3
    assert rows[0]["settings"] == {**first["settings"], "samples": 4, "seed": 0} and len(first["settings"]["model"]) == 16
    for row in rows:
        (completion,) = row["attempts"][0]["completions"]
        assert row["problem"]["messages"][0]["content"] in renderer.decode(completion["prompt_token_ids"])
        assert renderer.parse(completion["token_ids"]).content == row["attempts"][0]["messages"][0]["content"]


def test_several_tasks_are_measured_in_one_call(posttrain, tmp_path: Path) -> None:
    tasks = ("--task", "arithmetic:levels=1,n_test=3,facts", "--problems", 3, "--samples", 2, *SMALL)
    found = posttrain("eval", "--model", "tiny", *tasks, "--json", "--out", tmp_path / "a").json
    assert [e["task"] for e in found["evaluations"]] == ["arithmetic", "facts"]
    said = posttrain("eval", "--model", "tiny", *tasks, "--out", tmp_path / "a").out
    assert "arithmetic × 2" in said and "facts × 2" in said
    said = posttrain("compare", tmp_path / "a", tmp_path / "a", "--out", tmp_path / "b").out
    assert "accuracy on 2 tasks" in said and "verdict on facts: tied" in said
    assert [c["task"] for c in json.loads((tmp_path / "b" / "comparison.json").read_text())["comparisons"]] == ["arithmetic", "facts"]
    assert {page.name for page in (tmp_path / "b").glob("*.html")} == {"report-arithmetic.html", "report-facts.html"}
    assert_refused(posttrain("eval", "--model", "tiny", "--task", "facts,facts"), "two of the tasks are called facts")
    assert_refused(posttrain("compare", tmp_path / "a", "tiny"), "two folders")


def test_an_evaluation_as_text_is_a_table(posttrain) -> None:
    ended = posttrain("eval", "--model", "tiny", *MEASURE)
    assert ended.code == 0 and "accuracy" in ended.out.lower() and "pass@4" in ended.out


class Scripts(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith(("#", "data:"))]


def test_a_comparison_writes_its_page_and_its_json_and_shows_the_training(posttrain, a_run: Path, tmp_path: Path) -> None:
    ended = posttrain("compare", "tiny", a_run, *MEASURE, "--json", "--out", tmp_path / "compare")
    assert ended.code == 0
    assert json.loads((tmp_path / "compare" / "comparison.json").read_text()) == ended.json
    rows = {row["name"]: row for row in ended.json["rows"]}
    assert {"accuracy", "unscored_frac"} <= set(rows) and rows["accuracy"]["difference"]["n"] == 3
    assert [row["step"] for row in ended.json["training"]["metrics"]] == [1, 2]
    page = (tmp_path / "compare" / "report.html").read_text()
    reader = Scripts()
    reader.feed(page)
    assert reader.fetched == [] and page.startswith("<!")


def test_a_comparison_as_text_says_where_the_page_is_and_a_model_equals_itself(posttrain, tmp_path: Path) -> None:
    ended = posttrain("compare", "tiny", "tiny", *MEASURE, "--out", tmp_path)
    assert ended.code == 0 and f"report: {tmp_path / 'report.html'}" in ended.out
    assert "verdict: tied. Accuracy: tied at this n" in ended.out
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert all(row["difference"]["value"] == 0 for row in rows if row["difference"])


def test_an_evaluation_asks_how_sure_the_model_is_and_a_comparison_of_two_says_what_became_of_it(posttrain, a_run: Path, tmp_path: Path) -> None:
    for name, model in (("a", "tiny"), ("b", a_run)):
        said = posttrain("eval", "--model", model, *MEASURE, "--calibration", "agreement", "p_true", "--out", tmp_path / name).out
        assert "calibration, 95% intervals" in said and "P(True)" in said
    assert "<svg" in (tmp_path / "a" / "reliability-arithmetic-p_true.svg").read_text()
    found = posttrain("compare", tmp_path / "a", tmp_path / "b", "--json").json
    kept = json.loads((tmp_path / "b" / "evaluation.json").read_text())["calibration"][-1]
    assert found["calibration"][-1]["form"] == "p_true" and found["calibration"][-1]["trained"] == kept
    assert {"ece_p_true", "brier_p_true", "auroc_p_true"} <= {row["name"] for row in found["rows"]}
    assert_refused(posttrain("compare", tmp_path / "a", tmp_path / "b", "--matched-temperature", "entropy"), "has to sample the base")


def test_a_comparison_sets_the_trained_model_against_the_base_at_a_matched_temperature(posttrain, a_run: Path, tmp_path: Path) -> None:
    measure = ("--task", "arithmetic:levels=1,n_test=6", "--samples", "2", *SMALL, "--matched-temperature", "entropy")
    said = posttrain("compare", "tiny", a_run, *measure, "--out", tmp_path).out
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["matched"]["by"] == "entropy" and found["matched"]["rows"][0]["difference"]["n"] == 3
    assert len(found["findings"]) == 2 and found["crossover"]["largest_k"] == 2
    assert "verdict: tied." in said and found["findings"][1] in said
    kept = [json.loads(line)["settings"]["temperature"] for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert kept.count(1.0) == 2 * 6 and kept.count(found["matched"]["temperature"]) >= 3, "the base's attempts at each temperature are kept as well"
    assert_refused(posttrain("compare", "tiny", "tiny", *MEASURE, "--matched-temperature", "entropy"), "at least four problems")
    assert_refused(posttrain("compare", "tiny", "tiny", *measure, "--temperature", "0"), "--temperature above 0")
    assert_refused(posttrain("compare", "openai:http://127.0.0.1:9/v1", "tiny", *measure), "--matched-temperature", "server's")


def test_attempts_that_could_not_be_scored_make_work_done_in_part() -> None:
    assert (base.completeness(0.01), base.completeness(0.0), base.PARTIAL) == (base.PARTIAL, base.DONE, 3)


# -------------------------------------------------------------------------------------------------------------- bad input


def test_unknown_words_are_named(posttrain) -> None:
    assert_refused(posttrain("trian"), "no command 'trian'", "train, sample, eval, ", " compare, ")
    assert_refused(posttrain("agent", "fly"), "no command 'agent fly'", "posttrain agent run", "posttrain agent fork")
    for asked in (("agent",), ("agent", "--help")):
        listed = posttrain(*asked)
        assert listed.code == cli.DONE and [line.split()[:3] for line in listed.out.splitlines()] == [
            ["posttrain", "agent", verb] for verb in ("run", "resume", "replay", "fork")
        ]
    assert_refused(posttrain("train", "ppo2"), "no algorithm 'ppo2'", "grpo")
    assert_refused(posttrain(*TRAIN, "--preset", "drgrpo"), "no preset 'drgrpo'", "dr_grpo")
    assert_refused(posttrain("train", "grpo", "--preset"), "--preset needs a value")
    assert_refused(posttrain("sample", "--model", "gpt5", "Hi"), "no model 'gpt5'")
    assert_refused(posttrain("eval", "--model", "tiny", "--task", "arithmetics"), "arithmetics", "arithmetic")
    assert_refused(posttrain("eval", "--model", "tiny", "--task", "arithmetic:level=1"), "level", "levels")
    assert_refused(posttrain("eval", "--model", "nobody/no-such-model"), "nobody/no-such-model")
    assert_refused(posttrain("compare", "tiny"), "two models")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("train", "grpo", "--group-sise", "4"), "--group-sise"),
        (("train", "grpo", "--steps", "many"), "--steps"),
        (("train", "grpo", "--loss", "ppo"), "--loss"),
        (("sample",), "STR"),
        (("eval", "--split", "dev"), "--split"),
    ],
)
def test_bad_flags_end_with_2_and_are_named_on_stderr(argv: tuple[str, ...], named: str, posttrain) -> None:
    ended = posttrain(*argv)
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err and "--help" in ended.err and "Traceback" not in ended.err


def test_settings_that_cannot_work_are_refused(posttrain, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert_refused(posttrain(*TRAIN, *out, "--group-size", "1"), "--group-size", "2")
    assert_refused(posttrain(*TRAIN, *out, "--clip-low", "-1"), "--clip-low")
    assert_refused(posttrain(*TRAIN, *out, "--learning-rate", "-1"), "learning")
    assert_refused(posttrain("sample", "--model", "tiny", "--n", "0", "Hi"), "at least 1")
    assert_refused(posttrain("eval", "--model", "tiny", "--samples", "0"), "--samples")
    assert_refused(posttrain(*TRAIN, *out, "--mirrors", "carrier-pigeon"), "carrier-pigeon", "wandb")


def test_folders_that_are_no_models_are_refused(posttrain, tmp_path: Path) -> None:
    assert_refused(posttrain("sample", "--model", tmp_path, "Hi"), str(tmp_path), "no model")
    assert_refused(posttrain("sample", "--model", tmp_path / "missing", "Hi"), "missing")
    (tmp_path / "config.json").write_text('{"algorithm": "grpo"}')
    assert_refused(posttrain("sample", "--model", tmp_path, "Hi"), "no model")


def test_a_corrupt_checkpoint_is_named(posttrain, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(resolve("tiny"), tmp_path / "model"))
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        weights.write_bytes(damaged)
        assert_refused(posttrain("sample", "--model", folder, "Hi"), str(folder))
    weights.unlink()
    assert_refused(posttrain("sample", "--model", folder, "Hi"), "no weights")


@pytest.mark.parametrize("content", [b"nonsense", b"", b"GGUF\x03\0\0\0" + b"\xff" * 64], ids=["text", "empty", "torn"])
def test_a_corrupt_gguf_file_is_named(content: bytes, posttrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert_refused(posttrain("sample", "--model", file, "Hi"), str(file))
    assert not any((tmp_path / "cache").glob("*"))


def test_a_corrupt_line_of_problems_is_named_by_its_number(posttrain, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    file.write_text('{"question": "1+1?", "answer": "#### 2"}\n{"question": "1+2?", "ans\n')
    assert_refused(posttrain("eval", "--model", "tiny", "--task", f"gsm8k:path_test={file}"), "line 2", str(file))
    file.write_text("")
    assert_refused(posttrain("eval", "--model", "tiny", "--task", f"gsm8k:path_test={file}"), "no test problems")
    assert_refused(posttrain(*TRAIN, "--task", f"gsm8k:path_train={file}", "--out", tmp_path / "run"), "no train problems")


def test_a_corrupt_log_is_found_before_the_measuring_and_not_after(posttrain, a_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(a_run, tmp_path / "run"))
    with (run / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 2, "prob')
    ended = posttrain("compare", "tiny", run, *MEASURE)
    assert_refused(ended, "line 5", "rollouts.jsonl")


def test_a_prompt_longer_than_the_context_is_refused(posttrain, tmp_path: Path) -> None:
    assert_refused(posttrain("sample", "--model", "tiny", "la " * 300), "context holds 512", "shorten")
    file = tmp_path / "problems.jsonl"
    file.write_text(json.dumps({"question": "la " * 300, "answer": "#### 2"}) + "\n")
    train = (*TRAIN, "--task", f"gsm8k:path_train={file}")
    assert_refused(posttrain(*train, "--out", tmp_path / "run"), "none of the 1 texts can be used (1 longer than 512 tokens)")
    assert_refused(posttrain(*train, "--when-too-long", "error", "--out", tmp_path / "another"), "the context holds 512", "--when-too-long drop")
    assert_refused(posttrain("eval", "--model", "tiny", "--task", f"gsm8k:path_test={file}", *SMALL), "context holds 512")


def test_a_run_of_another_configuration_is_refused_and_kept(posttrain, a_run: Path) -> None:
    before = (a_run / "metrics.jsonl").read_bytes()
    ended = posttrain("train", "grpo", "--config", a_run / "config.json", "--seed", "9")
    assert_refused(ended, "another configuration", "seed (0 there, 9 now)")
    assert (a_run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"stepz": 3}', ["stepz"]),
        ('{"optim": {"lr": 3}}', ["lr"]),
        ('{"steps": "three"}', ["steps", "'three'"]),
        ('{"steps": 2.5}', ["steps", "2.5"]),
        ('{"optim": 3}', ["no settings"]),
        ('{"loss": "ppo"}', ["loss", "ppo"]),
        ("[]", ["no settings"]),
        ("{", ["not valid JSON"]),
    ],
)
def test_a_config_file_with_something_wrong_is_named_with_it(text: str, words: list[str], posttrain, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert_refused(posttrain("train", "grpo", "--config", file, "--out", tmp_path / "run"), str(file), *words)
    assert not (tmp_path / "run").exists()


def test_a_config_file_that_is_not_there_is_named(posttrain, tmp_path: Path) -> None:
    assert_refused(posttrain("train", "grpo", "--config", tmp_path / "no.json"), "no.json")


def test_an_output_folder_that_cannot_be_made_is_named(posttrain, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert_refused(posttrain(*TRAIN, "--out", out), str(out))
    assert_refused(posttrain("eval", "--model", "tiny", *MEASURE, "--out", out), str(out))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_with_1_in_one_sentence_and_the_run_goes_on_afterwards(posttrain, a_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(a_run / "config.json", run)
    (run / "timings.jsonl").symlink_to("/dev/full")
    argv = ("train", "grpo", "--config", a_run / "config.json", "--out", run)
    ended = posttrain(*argv)
    assert (ended.code, ended.out) == (cli.FAILED, "")
    assert ended.err.splitlines()[-1].startswith("posttrain: no space left") and "Traceback" not in ended.err
    (run / "timings.jsonl").unlink()
    assert posttrain(*argv).code == 0
    assert (run / "metrics.jsonl").read_bytes() == (a_run / "metrics.jsonl").read_bytes()


# ------------------------------------------------------------------------------------------------------- a real process


def test_the_program_ends_with_the_commands_code_and_writes_no_traceback() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-m", "posttrain.cli", "trian"], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("posttrain: there is no command 'trian'") and ended.stderr.count("\n") == 1
