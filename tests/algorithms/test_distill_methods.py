"""Distillation on the tiny model: whose answers are read, teachers of another size, and adapters whose base is the teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain import cli
from posttrain.policy.hf import load_policy
from tests.algorithms.kills import left_by
from tests.small_models import EOS, write_model

SETTINGS = ("--model", "tiny", "--dtype", "float32", "--warmup-steps", "0", "--problems-per-step", "4", "--group-size", "2", "--seed", "1")
TASK = ("--task", "arithmetic:levels=1,n_train=12", "--max-tokens", "12")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Narrower than the student, of other depth and heads, over the same tokens."""
    return write_model(tmp_path_factory.mktemp("teacher"), num_hidden_layers=1, hidden_size=24, num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture
def distill(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def run(*flags: object, name: str = "run") -> list[dict[str, Any]]:
        settings = [word for word in SETTINGS if "given" not in flags or word not in ("--group-size", "2")]
        assert cli.run(["train", "distill", *settings, "--out", str(tmp_path / name), *(str(flag) for flag in flags)]) == cli.DONE
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    return run


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{i}+1?", "completion": f"it is {i + 1}"}) + "\n" for i in range(24)))
    return file


def mean(rows: list[dict[str, Any]], name: str = "distill/divergence_nats") -> float:
    return sum(row[name] for row in rows) / len(rows)


@pytest.mark.parametrize(
    ("flags", "left"),
    [(("--divergence", "reverse_kl"), 0.75), (("--divergence", "sampled"), 0.75), (("--lora-rank", 8, "--learning-rate", "1e-2"), 0.9)],
    ids=["reverse KL", "sampled", "adapter"],
)
def test_on_its_own_samples_a_student_comes_nearer_to_a_teacher_of_another_size(
    flags: tuple[object, ...], left: float, teacher: Path, distill
) -> None:
    """An adapter cannot move the random embeddings, and keeps most of the distance."""
    rows = distill("--teacher", teacher, *TASK, "--steps", 14, "--learning-rate", "5e-3", *flags)
    assert mean(rows[-5:]) < left * mean(rows[:3])
    assert mean(rows[-5:], "distill/teacher_logprob_nats") > mean(rows[:3], "distill/teacher_logprob_nats")


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "jsd"])
def test_on_given_answers_every_divergence_falls(divergence: str, teacher: Path, talks: Path, distill) -> None:
    rows = distill("--on", "given", "--data", talks, "--teacher", teacher, "--divergence", divergence, "--steps", 12, "--learning-rate", "5e-3")
    assert mean(rows[-4:]) < 0.75 * mean(rows[:2]) and all(row["distill/divergence_nats"] > 0 for row in rows)
    assert 4 * len("it is 1.") <= rows[0]["data/trained_tokens"] <= 4 * len("it is 24."), "bytes of four answers, an end of turn to each"


def ending(folder: Path) -> Path:
    """A teacher that soon ends its turn: answers that are cut off are not learned from."""
    policy = load_policy(str(folder), "float32")
    with torch.no_grad():
        head = policy.base.get_output_embeddings().weight
        head[EOS] = head.mean(0) + 0.6 * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(3))
    policy.save(folder)
    return folder


def test_on_the_teachers_samples_their_likelihood_rises(tmp_path: Path, distill) -> None:
    short = ending(write_model(tmp_path / "short", num_hidden_layers=1))
    rows = distill("--on", "teacher", "--teacher", short, "--task", TASK[1], "--max-tokens", 40, "--steps", 14, "--learning-rate", "1e-2")
    learned = [row for row in rows if "loss/nll_nats" in row]
    assert len(learned) > 10
    assert mean(learned[-4:], "loss/nll_nats") < mean(learned[:4], "loss/nll_nats") - 0.3


def test_a_teacher_of_another_tokenizer_can_teach_by_its_texts_alone(tmp_path: Path, distill, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ending(write_model(tmp_path / "other", num_hidden_layers=1))
    tokenizer = load_policy(str(folder), "float32").renderer.tokenizer
    tokenizer.add_tokens(["<other>"])
    tokenizer.save_pretrained(folder)
    rows = distill("--on", "teacher", "--teacher", folder, "--task", TASK[1], "--max-tokens", 60, "--steps", 4)
    assert any("loss/nll_nats" in row for row in rows)
    assert cli.run(["train", "distill", *SETTINGS, *TASK, "--teacher", str(folder), "--out", str(tmp_path / "own")]) == cli.USAGE
    assert "another tokenizer" in capsys.readouterr().err


def test_with_an_adapter_the_base_beneath_it_is_the_teacher_bit_for_bit(tmp_path: Path, distill) -> None:
    """`--teacher` empty switches the adapter off; naming the same model loads a second one."""
    flags = (*TASK, "--teacher-system", "Be brief.", "--lora-rank", 4, "--learning-rate", "1e-2", "--steps", 5)
    beneath, beside = distill(*flags, name="beneath"), distill(*flags, "--teacher", "tiny", name="beside")
    assert beneath == beside
    ours, theirs = (left_by(tmp_path / name)["adapter_model.safetensors"] for name in ("beneath", "beside"))
    assert ours == theirs and beneath[-1]["distill/divergence_nats"] != beneath[0]["distill/divergence_nats"]


def test_a_prompt_that_only_the_teacher_reads_is_what_is_saved(distill) -> None:
    (row,) = distill(*TASK, "--teacher-system", "Be brief.", "--steps", 1)
    assert row["distill/prompt_tokens_saved"] == len("system\nBe brief.\n") + 2, "bytes, and the two marks around them"


def test_a_teacher_that_cannot_read_that_much_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "distill", *SETTINGS, *TASK, "--teacher-system", "Be brief. " * 60, "--steps", "1", "--out", str(tmp_path / "run")]
    assert cli.run(argv) == cli.USAGE
    assert "its context holds 512: shorten --teacher-system" in capsys.readouterr().err and not list(tmp_path.glob("run/checkpoints/*"))


def test_the_teachers_system_message_can_stand_in_a_file(tmp_path: Path, distill) -> None:
    (tmp_path / "system.txt").write_text("Be brief.")
    flags = (*TASK, "--steps", 2, "--learning-rate", "1e-3")
    assert distill(*flags, "--teacher-system", f"@{tmp_path / 'system.txt'}", name="file") == distill(*flags, "--teacher-system", "Be brief.", name="words")
