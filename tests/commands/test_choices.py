"""Tasks of choice, suites and abilities in use through the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from posttrain import cli
from posttrain.agents.scripted import ScriptedAgent
from posttrain.commands.measuring import Measured, SuiteArgs, subject
from posttrain.evals.choices import ByLikelihood
from posttrain.evals.measure import measure
from posttrain.tasks.capitals import Capitals
from posttrain.tasks.facts import Facts
from posttrain.types import Sampling
from tests.small_models import write_model

SMALL = ("--problems", "4", "--samples", "2", "--max-tokens", "4", "--dtype", "float32")


def test_choices_and_what_is_written_are_measured_and_kept_in_one_call(posttrain, tmp_path: Path) -> None:
    argv = ("eval", "--model", "tiny", "--task", "arithmetic:levels=1,sycophancy:of=capitals", *SMALL, "--out", tmp_path / "a", "--json")
    first = posttrain(*argv).json
    names = [f"sycophancy on capitals {form}" for form in ("by letter", "by text", "by text per byte")]
    assert [e["task"] for e in first["evaluations"]] == ["arithmetic", *names]
    rows = [{row["name"]: row for row in e["rows"]} for e in first["evaluations"]]
    assert all(row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"] for row in rows)
    assert [e["chance"] for e in first["evaluations"]] == [0.0] + [0.25] * 3 and [e["samples"] for e in first["evaluations"]] == [2] + [1] * 3
    assert "aspect/right_pressed_versus_right_alone" in rows[1]
    kept = (tmp_path / "a" / "records.jsonl").read_bytes()
    assert posttrain(*argv).json == first and (tmp_path / "a" / "records.jsonl").read_bytes() == kept
    reading = json.loads(kept.splitlines()[-1])["attempts"][0]["readings"][0]
    assert len(reading["token_ids"]) == len(reading["logprobs"]) > 0 and reading["prompt_token_ids"]
    warmer = posttrain(*argv, "--temperature", "0.5").json
    assert warmer["evaluations"][1:] == first["evaluations"][1:], "a likelihood does not depend on how one would sample"

    said = posttrain("compare", tmp_path / "a", tmp_path / "a", "--json", "--out", tmp_path / "b").json
    assert "report-sycophancy-on-capitals-by-letter.html" in {page.name for page in (tmp_path / "b").glob("*.html")}
    assert said["tasks"] == ["arithmetic", *names]
    row = next(r for r in said["comparisons"][1]["rows"] if r["name"] == "aspect/right_pressed_versus_right_alone")
    assert row["difference"]["value"] == 0 and row["title"] == "change in accuracy by the opinion"


def test_two_models_are_compared_on_choices_and_no_kl_is_made_of_what_was_not_sampled(posttrain) -> None:
    found = posttrain("compare", "tiny", "tiny", "--task", "capitals", "--choices", "letter+written", *SMALL, "--json").json
    assert found["tasks"] == ["capitals by letter", "capitals"]
    by_letter, written = ({row["name"] for row in c["rows"]} for c in found["comparisons"])
    assert "kl_trained_base_per_token" in written and not any(name.startswith(("kl", "length", "entropy")) for name in by_letter)


def test_a_suite_runs_what_is_there_and_says_what_it_left_out(posttrain, tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["a", "b"], "answer": 0}
    (tmp_path / "mmlu.jsonl").write_text("".join(json.dumps({**row, "question": f"Which is {i}?"}) + "\n" for i in range(4)))
    ended = posttrain("eval", "--model", "tiny", "--suite", "capability", "--data", tmp_path, "--choices", "byte", *SMALL, "--json")
    assert ended.err.count("posttrain: left out gsm8k") == 1 and "left out mmlu" not in ended.err
    assert [e["task"] for e in ended.json["evaluations"]] == ["arithmetic", "facts", "mmlu by text per byte"]


def test_an_ability_in_use_is_set_beside_the_bare_one(posttrain) -> None:
    argv = ("eval", "--model", "tiny", "--task", "facts,capitals,conversation:of=facts,turns=1,conversation:of=capitals,turns=1", "--choices", "letter", *SMALL)
    pairs = posttrain(*argv, "--json").json["side_by_side"]
    assert [pair["beside"] for pair in pairs] == ["facts", "capitals by letter"]
    assert all(pair["difference"]["n"] == 4 and pair["difference"]["low"] <= pair["difference"]["value"] for pair in pairs)
    said = " ".join(posttrain(*argv).out.split())
    assert "the same problems bare and in use" in said and "capitals in a long conversation by letter" in said
    found = posttrain("compare", "tiny", "tiny", *argv[3:], "--json").json["side_by_side"]
    assert [pair["beside"] for pair in found] == ["facts", "capitals by letter"]
    assert all({"value": 0.0, "low": 0.0, "high": 0.0, "n": 4}.items() <= pair["difference"].items() and pair["base"] == pair["trained"] for pair in found)
    ended = posttrain("eval", "--model", "tiny", "--suite", "in-use", *SMALL)
    assert ended.code == cli.USAGE and "posttrain: arithmetic in a long conversation: the prompt" in ended.err and "512" in ended.err, "a context that the conversation does not fit into"


def test_what_does_not_fit_together_is_refused(posttrain, tmp_path: Path) -> None:
    for argv, words in (
        (("--data", tmp_path), "--data is for the files of a suite"),
        (("--suite", "alignment", "--data", tmp_path / "no"), "is not there"),
        (("--task", "capitals", "--choices", "loudest"), "not asked by 'loudest'"),
        (("--task", "sycophancy:of=facts"), "has none"),
    ):
        ended = posttrain("eval", "--model", "tiny", *argv, *SMALL)
        assert ended.code == cli.USAGE and words in ended.err and len(ended.err.strip().splitlines()) <= 8, ended.err


def test_a_task_of_choice_can_be_trained_on(posttrain, tmp_path: Path) -> None:
    rows = [{"question": f"Which is {i}?", "choices": ["a", "b"], "answer": i % 2} for i in range(8)]
    (tmp_path / "mmlu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = posttrain(
        "train", "grpo", "--model", "tiny", "--task", f"mmlu:path_train={tmp_path / 'mmlu.jsonl'}", "--steps", 1, "--problems-per-step", 2,
        "--group-size", 2, "--max-tokens", 3, "--dtype", "float32", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.code == cli.DONE, ended.err


def test_a_task_that_is_not_attempted_by_the_bare_model_says_by_whom(tmp_path: Path) -> None:
    class Loop(Facts):
        def through(self, agent: ScriptedAgent) -> ScriptedAgent:
            return ScriptedAgent(lambda problem, *rest: f"after some steps: {agent.answer(problem, *rest)}")

    bare = ScriptedAgent(lambda problem, *_: problem.answer)
    model = Measured("m", None, bare, Sampling(), SuiteArgs(samples=3))
    asked = model.asked(Facts())
    assert (asked.agent, asked.samples) == (bare, 3)
    asked = model.asked(Loop())
    found = asyncio.run(measure(asked.agent, Loop(), Facts().problems("test")[:2], asked.samples))
    assert found.records[0].attempts[0].rollout.text == "after some steps: Paris" and found["accuracy"].value == 1


def test_a_likelihood_is_asked_once_and_depends_on_no_way_of_sampling() -> None:
    by_text = ByLikelihood(Capitals(), "text")
    asked = [subject("tiny", SuiteArgs(samples=3, temperature=t, dtype="float32")).asked(by_text) for t in (0.5, 1)]
    assert [each.samples for each in asked] == [1, 1]
    assert asked[0].depends_on() == asked[1].depends_on() and set(asked[0].depends_on()) == {"model", "dtype", "asked"}


def test_an_untouched_task_is_attempted_though_the_first_task_is_one_of_choice(posttrain) -> None:
    argv = ("compare", "tiny", "tiny", "--task", "capitals", "--choices", "byte", "--untouched-task", "facts", *SMALL, "--json")
    row = next(row for row in posttrain(*argv).json["rows"] if row["name"] == "untouched_accuracy")
    assert row["difference"]["value"] == 0 and row["base"]["n"] == 4


def test_what_cannot_be_asked_by_likelihood_is_said_before_any_work(posttrain) -> None:
    ended = posttrain("eval", "--model", "openai:http://127.0.0.1:9/v1#some", "--task", "arithmetic,capitals", *SMALL)
    assert ended.code == cli.USAGE and "a server's" in ended.err and "--choices written" in ended.err and "cannot be reached" not in ended.err
    ended = posttrain("compare", "tiny", "tiny", "--task", "capitals", "--matched-temperature", "entropy", *SMALL)
    assert ended.code == cli.USAGE and "capitals by letter samples nothing" in ended.err and "--choices written" in ended.err


def test_an_ability_in_use_is_compared_from_two_folders(posttrain, tmp_path: Path) -> None:
    argv = ("--task", "arithmetic:levels=1,loop:of=arithmetic,levels=1,steps=1", "--problems", "2", "--samples", "1", "--max-tokens", "2", "--dtype", "float32")
    models = [str(write_model(tmp_path / name, vocab_size=vocabulary, max_position_embeddings=2048)) for name, vocabulary in (("m", 512), ("n", 640))]
    alone = [posttrain("eval", "--model", model, *argv, "--out", tmp_path / out, "--json").json for model, out in zip(models, "ab", strict=True)]
    (found,) = posttrain("compare", tmp_path / "a", tmp_path / "b", "--json").json["side_by_side"]
    assert [[found["base"]], [found["trained"]]] == [each["side_by_side"] for each in alone]
    assert found["task"] == "arithmetic in an agent's loop with files" and found["difference"]["n"] == 2
    said = " ".join(posttrain("compare", tmp_path / "a", tmp_path / "b").out.split())
    assert "the same problems bare and in use" in said and " difference " in said
    settings = [row["settings"] for row in map(json.loads, (tmp_path / "a" / "records.jsonl").read_text().splitlines())]
    assert [s.get("tools") for s in settings] == [None] * 2 + ["files"] * 2
    ended = posttrain("eval", "--model", models[0], *argv, "--tools", "calculator")
    assert ended.code == cli.USAGE and "measure it without --tools" in ended.err
