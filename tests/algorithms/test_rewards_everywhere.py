"""Every reward with every method that samples, and every method's result with every command that takes a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from posttrain import cli
from posttrain.policy.scalar import load_scalar

MODEL = ("--model", "tiny", "--dtype", "float32")
METHODS = {
    "ppo": ("ppo", "--problems-per-step", "3"),
    "raft": ("reject", "--problems-per-step", "3", "--group-size", "4", "--keep-truncated"),
    "grpo": ("grpo", "--problems-per-step", "3", "--group-size", "4"),
    "online dpo": ("dpo", "--pairs-per-step", "3", "--group-size", "4"),
}
REWARDS = ("model", "process", "process:product", "judge", "pairwise", "length", "format")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The reward that each name stands for, with models whose heads are random."""
    folder = tmp_path_factory.mktemp("rewards")
    torch.manual_seed(0)
    for name, separator in (("outcome", None), ("process", "\n")):
        model = load_scalar("tiny", "float32")
        model.base.score.weight.data.normal_(0, 1)
        model.step_separator = separator
        (folder / name).mkdir()
        model.save(folder / name)
    steps = folder / "process"
    return {"model": f"model:{folder / 'outcome'}", "process": f"process:{steps}", "process:product": f"process:product:{steps}",
            "judge": "judge:tiny", "pairwise": "pairwise:tiny", "length": "length:3", "format": r"format:[\x00-\x7f].*"}  # fmt: skip


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_reward_can_be_learned_from_with_gold_beside_it(method: str, reward: str, models: dict[str, str], tmp_path: Path) -> None:
    name, *flags = METHODS[method]
    argv = ["train", name, *MODEL, *flags, "--task", "arithmetic:levels=1,n_train=9", "--max-tokens", "8", "--steps", "1", "--warmup-steps", "0"]
    assert cli.run([*argv, "--reward", models[reward], "--gold", "length:4", "--out", str(tmp_path / "run")]) == cli.DONE
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["reward/unscored_frac"] == 0 and row["reward/low"] <= row["reward/mean"] <= row["reward/high"] and row["reward/n"] == 3
    assert "reward/part_gold" in row
    if reward not in ("format", "length"):  # a rule may find all answers alike
        assert row["policy/grad_norm"] > 0
    if reward == "process":
        assert 0 < row["reward/mean"] < 1 and row["reward/part_steps"] >= 1
    if reward == "pairwise":
        assert row["reward/mean"] == pytest.approx(0.5), "what one sibling wins the other loses"


def test_a_judge_of_siblings_judges_no_attempt_alone(models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "ppo", *MODEL, "--task", "arithmetic:levels=1,n_train=9", "--max-tokens", "8", "--steps", "1", "--out", str(tmp_path / "run")]
    for flags, said in ((("--reward", "pairwise:tiny", "--group-size", "1"), "with nothing"), (("--reward", "length:3", "--gold", "pairwise:tiny"), "judge:tiny")):
        capsys.readouterr()
        assert cli.run([*argv, *flags]) == cli.USAGE
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err


def test_grpo_learns_from_a_file_of_prompts_by_a_reward(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Say something about {i}."}) + "\n" for i in range(20)))
    argv = ["train", "grpo", *MODEL, "--task", str(file), "--reward", "length:4", "--max-tokens", "8", "--steps", "15", "--problems-per-step", "4",
            "--learning-rate", "1e-2"]  # fmt: skip
    assert cli.run([*argv, "--out", str(tmp_path / "run")]) == cli.DONE
    rows = [json.loads(line)["reward/mean"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(rows[-5:]) / 5 > sum(rows[:5]) / 5 + 0.15


def test_raft_watches_the_kl_to_the_start_without_holding_it_down(tmp_path: Path) -> None:
    argv = ["train", "reject", *MODEL, "--task", "arithmetic:levels=1,n_train=9", "--reward", "length:3", "--max-tokens", "8", "--steps", "4",
            "--problems-per-step", "4", "--group-size", "4", "--keep-truncated", "--learning-rate", "5e-3"]  # fmt: skip
    for name, flags in (("watched", ["--watch-kl"]), ("adapter", ["--watch-kl", "--lora-rank", "4"]), ("unwatched", [])):
        assert cli.run([*argv, *flags, "--out", str(tmp_path / name)]) == cli.DONE
    watched, adapter, unwatched = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("watched", "adapter", "unwatched")
    )
    for rows in (watched, adapter):
        kl = [row["policy/kl_ref_nats"] for row in rows]
        assert kl[0] == pytest.approx(0, abs=1e-5) and kl[-1] > 0.1
        assert all(row["policy/kl_ref_low"] <= row["policy/kl_ref_nats"] <= row["policy/kl_ref_high"] and row["policy/kl_ref_n"] == 4 for row in rows)
    assert [{k: v for k, v in row.items() if not k.startswith("policy/kl_ref")} for row in watched] == unwatched


# ------------------------------------------------------------------------------------------------------------- the results

PAIRS = [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a * b}!"} for a in range(4) for b in range(4)]
SAMPLED = ("--task", "arithmetic:levels=1,n_train=9", "--max-tokens", "6")
RESULTS = {
    "sft": ("sft", "--data", "talks"),
    "dpo with an adapter": ("dpo", "--data", "pairs", "--lora-rank", "2"),
    "kto": ("dpo", "--data", "pairs", "--preset", "kto"),
    "ppo with a shared critic": ("ppo", *SAMPLED, "--reward", "length:3", "--problems-per-step", "3", "--critic", "shared"),
    "raft with an adapter": ("reject", *SAMPLED, "--reward", "length:3", "--problems-per-step", "3", "--lora-rank", "2", "--keep-truncated"),
    "distillation": ("distill", *SAMPLED, "--teacher-system", "Be brief.", "--problems-per-step", "3"),
}
MEASURE = ("--task", "arithmetic:levels=1,n_test=3", "--samples", "2", "--max-tokens", "5", "--dtype", "float32", "--json")


def trained(method: str, folder: Path) -> Path:
    files = {"pairs": PAIRS, "talks": [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [str(folder / f"{word}.jsonl") if word in files else word for word in RESULTS[method]]
    assert cli.run(["train", *words, *MODEL, "--steps", "2", "--learning-rate", "1e-2", "--out", str(folder / method)]) == cli.DONE
    return folder / method


@pytest.mark.parametrize("method", RESULTS)
def test_a_result_is_a_model_to_sample_from_and_to_measure(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(method, tmp_path)
    capsys.readouterr()
    assert cli.run(["eval", "--model", str(run), *MEASURE]) == cli.DONE
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["accuracy"]["n"] == 3
    assert cli.run(["sample", "Hi", "--model", str(run), "--max-tokens", "3", "--dtype", "float32", "--json"]) == cli.DONE
    assert len(json.loads(capsys.readouterr().out)["completions"]) == 1


def test_two_results_are_compared_with_the_training_between_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = trained("sft", tmp_path), trained("dpo with an adapter", tmp_path)
    capsys.readouterr()
    assert cli.run(["compare", str(first), str(second), *MEASURE, "--out", str(tmp_path / "compare")]) == cli.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["training"]["algorithm"] == "dpo" and len(found["training"]["metrics"]) == 2
    assert (tmp_path / "compare" / "report.html").is_file()
    assert all(row["difference"]["n"] > 0 for row in found["rows"] if row["difference"])


# ---------------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("algorithm", cli.ALGORITHMS)
def test_the_help_of_every_method_explains_every_setting_and_every_preset(algorithm: str, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import fields
    from importlib import import_module

    module = import_module(f"posttrain.algorithms.{algorithm.replace('-', '_')}")
    assert cli.run(["train", algorithm, "--help"]) == cli.DONE
    said = capsys.readouterr().out
    flat = " ".join(said.replace("│", " ").split())
    for field in fields(module.Config):
        assert f"--{field.name.replace('_', '-')}" in said or field.name == "optim", field.name
    assert module.Config.__doc__.split(":")[0] in flat and "--learning-rate" in said
    for name, preset in getattr(module, "PRESETS", {}).items():
        assert f"{name} " in said and " ".join(preset.__doc__.split()) in flat
    assert "[-h]" in said and "None" not in said, "every setting has a default that is a value"


def test_the_help_of_train_lists_every_method_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--help"]) == cli.DONE
    said = capsys.readouterr().out
    assert all(name in said and text in said for name, text in cli.ALGORITHMS.items())
