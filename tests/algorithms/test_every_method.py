"""What every way of training keeps: killed runs go on to the same bits, the result is a model, wrong input gets one sentence."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.policy.hf import load_policy
from posttrain.policy.models import last_checkpoint
from posttrain.policy.scalar import load_scalar
from tests.algorithms.kills import finish, kill_when, left_by, n_steps
from tests.small_models import write_model

STEPS = 5
COMMON = ("--model", "tiny", "--dtype", "float32", "--steps", STEPS, "--checkpoint-every", 2, "--learning-rate", "5e-3", "--seed", 3)
SAMPLED = ("--task", "arithmetic:levels=1,n_train=10", "--reward", "length:3", "--max-tokens", 8)


def sums() -> list[dict]:
    dice = random.Random(0)
    pairs = [(a, b) for a in range(8) for b in range(8)]
    return [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a + b + dice.randint(1, 9)}!"} for a, b in pairs]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pairs, conversations and labelled steps about the same sums, in files."""
    folder = tmp_path_factory.mktemp("data")
    rows = {
        "pairs": sums(),
        "conversations": [{"prompt": row["prompt"], "completion": row["chosen"]} for row in sums()],
        "steps": [{"prompt": row["prompt"], "completions": ["so", row["chosen"]], "labels": [True, i % 3 > 0]} for i, row in enumerate(sums())],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {name: folder / f"{name}.jsonl" for name in rows}


METHODS: dict[str, tuple[object, ...]] = {
    "sft": ("sft", "--data", "conversations", "--conversations-per-step", 8, "--measure-every", 2),
    "sft with an adapter": ("sft", "--data", "conversations", "--lora-rank", 4, "--trained", "all"),
    "reward model": ("reward-model", "--data", "pairs", "--pairs-per-step", 8, "--measure-every", 2),
    "reward model with an adapter": ("reward-model", "--data", "pairs", "--lora-rank", 4, "--centering", "0.01"),
    "process reward model": ("reward-model", "--kind", "process", "--data", "steps"),
    "process reward model with an adapter": ("reward-model", "--kind", "process", "--data", "steps", "--lora-rank", 4),
    "ppo": ("ppo", *SAMPLED, "--problems-per-step", 6, "--updates", 2, "--kl-target", 2, "--kl-horizon", 50),
    "ppo with a shared critic": ("ppo", *SAMPLED, "--problems-per-step", 6, "--critic", "shared", "--truncated", "bootstrap"),
    "ppo with a shared critic and an adapter": ("ppo", *SAMPLED, "--problems-per-step", 6, "--critic", "shared", "--lora-rank", 4),
    "ppo with an adapter": ("ppo", *SAMPLED, "--problems-per-step", 6, "--lora-rank", 4, "--truncated", "penalty"),
    "dpo": ("dpo", "--data", "pairs", "--measure-every", 2),
    "dpo with an adapter": ("dpo", "--data", "pairs", "--lora-rank", 4),
    "kto": ("dpo", "--preset", "kto", "--data", "pairs"),
    "kto with an adapter": ("dpo", "--preset", "kto", "--data", "pairs", "--lora-rank", 4),
    "ipo": ("dpo", "--preset", "ipo", "--data", "pairs"),
    "robust dpo": ("dpo", "--loss", "robust", "--label-smoothing", "0.1", "--data", "pairs"),
    "orpo": ("dpo", "--preset", "orpo", "--data", "pairs"),
    "simpo": ("dpo", "--preset", "simpo", "--data", "pairs"),
    "online dpo": ("dpo", *SAMPLED, "--pairs-per-step", 4, "--group-size", 3),
    "online dpo with an adapter": ("dpo", *SAMPLED, "--pairs-per-step", 4, "--group-size", 3, "--lora-rank", 4),
    "raft": ("reject", *SAMPLED, "--problems-per-step", 3, "--group-size", 4, "--keep-truncated"),
    "reward-weighted regression": ("reject", "--preset", "rwr", *SAMPLED, "--problems-per-step", 3, "--keep-truncated", "--epochs", 2),
    "raft with an adapter": ("reject", *SAMPLED, "--problems-per-step", 3, "--group-size", 4, "--keep-truncated", "--lora-rank", 4, "--watch-kl"),
    "distillation": ("distill", "--task", "arithmetic:levels=1,n_train=10", "--max-tokens", 8, "--teacher-system", "Be brief.", "--problems-per-step", 3),
    "distillation with an adapter": ("distill", "--task", "arithmetic:levels=1,n_train=10", "--max-tokens", 8, "--teacher-system", "Be brief.", "--lora-rank", 4, "--divergence", "jsd"),
    "distillation of sampled tokens": ("distill", "--task", "arithmetic:levels=1,n_train=10", "--max-tokens", 8, "--teacher-system", "Be brief.", "--divergence", "sampled"),
    "distillation of given answers": ("distill", "--on", "given", "--data", "conversations", "--teacher-system", "Be brief."),
}  # fmt: skip


def argv_of(method: str, data: dict[str, Path], out: Path) -> list[str]:
    words = [str(data.get(word, word)) if isinstance(word, str) else str(word) for word in METHODS[method]]
    if "--preset" in words:  # it is taken from anywhere, but reads best behind the name
        assert words[1] == "--preset"
    return ["train", *words, *(str(word) for word in COMMON), "--out", str(out)]


def all_left_by(run: Path) -> dict[str, bytes]:
    """Weights, logs and optimizer, and the critic's where there is one."""
    last = last_checkpoint(run)
    critic = [*last.glob("trainer/critic/*.safetensors"), *last.glob("trainer/critic/*.pt")]
    return left_by(run) | {f"critic {file.name}": file.read_bytes() for file in critic if file.suffix == ".safetensors"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Path]):
    done: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in done:
            done[method] = tmp_path_factory.mktemp("undisturbed") / "run"
            assert cli.run(argv_of(method, data, done[method])) == cli.DONE
        return done[method]

    return run


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_stopped_goes_on_to_the_same_bits(method: str, undisturbed, data: dict[str, Path], tmp_path: Path) -> None:
    argv = argv_of(method, data, tmp_path / "run")
    argv[argv.index("--steps") + 1] = "3"  # the last step always leaves a checkpoint; what differs from an undisturbed run is the restoring
    assert cli.run(argv) == cli.DONE
    assert cli.run(argv_of(method, data, tmp_path / "run")) == cli.DONE
    ours, theirs = all_left_by(tmp_path / "run"), all_left_by(undisturbed(method))
    rows = [[json.loads(line) for line in logs["metrics.jsonl"].splitlines()] for logs in (ours, theirs)]
    at_the_end = [{k: v for k, v in row.items() if not k.startswith("heldout")} for row in rows[0]]
    assert at_the_end == [{k: v for k, v in row.items() if not k.startswith("heldout")} for row in rows[1]]
    assert {k: v for k, v in ours.items() if k != "metrics.jsonl"} == {k: v for k, v in theirs.items() if k != "metrics.jsonl"}


@pytest.mark.parametrize("method", ["sft", "reward model", "ppo", "dpo", "online dpo", "raft", "distillation"])
def test_a_killed_run_goes_on_to_the_same_bits(method: str, undisturbed, data: dict[str, Path], tmp_path: Path) -> None:
    argv = argv_of(method, data, tmp_path / "run")
    dice = random.Random(method)
    step, wait = dice.randrange(STEPS - 1), dice.random() * 0.03
    kill_when(argv, lambda: n_steps(tmp_path / "run") > step and not time.sleep(wait))
    finish(argv)
    assert all_left_by(tmp_path / "run") == all_left_by(undisturbed(method))


@pytest.mark.parametrize("method", ["sft", "sft with an adapter", "reward model", "ppo", "ppo with a shared critic", "kto", "distillation"])
def test_layers_that_are_computed_again_lead_to_the_same_bits(method: str, undisturbed, data: dict[str, Path], tmp_path: Path) -> None:
    assert cli.run([*argv_of(method, data, tmp_path / "run"), "--recompute"]) == cli.DONE
    assert all_left_by(tmp_path / "run") == all_left_by(undisturbed(method))


@pytest.mark.parametrize("method", METHODS)
def test_training_moves_the_weights_and_leaves_a_model_that_loads(method: str, undisturbed) -> None:
    run = undisturbed(method)
    load = load_scalar if "reward model" in method else load_policy
    model = load(str(run), "float32")
    before = load("tiny", "float32") if "reward model" not in method else None
    if before is not None:
        probe = [(tuple(range(65, 75)), tuple(range(75, 95)))]
        assert model.score_tokens(probe)[0][0] != before.score_tokens(probe)[0][0]
    norms = [json.loads(line).get("policy/grad_norm", 0.0) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert norms[-1] > 0 and all(norm >= 0 for norm in norms)


def test_a_run_knows_its_data_again(data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "pairs.jsonl"
    copy.write_text(data["pairs"].read_text())
    argv = argv_of("dpo", {**data, "pairs": copy}, tmp_path / "run")
    assert cli.run(argv) == cli.DONE
    copy.write_text("\n".join(copy.read_text().splitlines()[:-1]))
    assert cli.run(argv) == cli.USAGE
    assert "files_sha256" in capsys.readouterr().err


def test_a_run_knows_its_prompts_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    argv = ["train", "reject", "--model", "tiny", "--task", str(file), "--reward", "length:3", "--max-tokens", "4", "--steps", "1", "--out", str(tmp_path / "run")]
    file.write_text("".join(json.dumps({"prompt": f"{i}?"}) + "\n" for i in range(9)))
    assert cli.run(argv) == cli.DONE
    file.write_text("".join(json.dumps({"prompt": f"{i}!"}) + "\n" for i in range(9)))
    assert cli.run(argv) == cli.USAGE
    assert "files_sha256" in capsys.readouterr().err


REFUSED = {
    "no data for SFT": (("sft",), "--data"),
    "neither data nor task": (("dpo",), "either pairs"),
    "both data and task": (("dpo", "--data", "pairs", "--task", "arithmetic"), "either pairs"),
    "a reward beside pairs": (("dpo", "--data", "pairs", "--reward", "length:3"), "own samples"),
    "labels that say nothing": (("dpo", "--data", "pairs", "--label-smoothing", "0.5"), "below 0.5"),
    "beta 0": (("dpo", "--data", "pairs", "--beta", "0"), "--beta"),
    "no such file": (("reward-model", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
    "a language model as reward": (("ppo", "--reward", "model:tiny"), "no reward model"),
    "an unknown reward": (("ppo", "--reward", "karma:5"), "no reward 'karma:5'"),
    "gold without a reward": (("ppo", "--gold", "length:3"), "--gold"),
    "a KL target without a KL": (("ppo", "--kl-coef", "0", "--kl-target", "3"), "--kl-target"),
    "a model for a shared critic": (("ppo", "--critic", "shared", "--critic-model", "tiny"), "--critic-model"),
    "one attempt to choose from": (("reject", "--group-size", "1"), "--group-size"),
    "prompts without a judge": (("reject", "--task", "conversations"), "--reward"),
    "no prompts for distillation": (("distill",), "--task"),
    "no answers for distillation": (("distill", "--on", "given"), "--data"),
    "an empty divergence": (("distill", "--task", "arithmetic", "--jsd-beta", "1"), "--jsd-beta"),
    "everything held out": (("sft", "--data", "conversations", "--heldout-frac", "1"), "--heldout-frac"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_sentence(case: str, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, named = REFUSED[case]
    argv = ["train", words[0], "--model", "tiny", "--out", str(tmp_path / "run"), *(str(data.get(w, w)) for w in words[1:])]
    assert cli.run(argv) == cli.USAGE
    said = capsys.readouterr().err
    assert named in said and "Traceback" not in said and len(said.strip().splitlines()) == 1


def test_a_reference_that_training_does_not_start_from_is_refused(undisturbed, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*argv_of("dpo", data, tmp_path / "run"), "--reference", str(undisturbed("sft"))]
    assert cli.run(argv) == cli.USAGE
    assert "is not the model that training starts from" in capsys.readouterr().err


def test_what_the_start_was_trained_from_may_be_the_reference(undisturbed, data: dict[str, Path], tmp_path: Path) -> None:
    """A second round of preferences, against the model before the first: tiny, then SFT, then DPO against tiny; and DPO upon that too."""
    argv = argv_of("dpo", data, tmp_path / "second")
    argv[argv.index("tiny")] = str(undisturbed("sft"))
    assert cli.run([*argv, "--reference", "tiny"]) == cli.DONE
    first = json.loads((tmp_path / "second" / "metrics.jsonl").read_text().splitlines()[0])
    assert abs(first["pairs/chosen_change_nats"]) > 0.1, "what SFT changed is part of the log-ratio"
    argv = argv_of("dpo", data, tmp_path / "third")
    argv[argv.index("tiny")] = str(tmp_path / "second")
    assert cli.run([*argv, "--reference", "tiny"]) == cli.DONE
    assert cli.run([*argv[:-1], str(tmp_path / "fourth"), "--reference", str(undisturbed("kto"))]) == cli.USAGE, "a cousin is no ancestor"


OTHERS = {"qwen2": {}, "gpt2": {"n_positions": 512}, "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}}
"""Architectures unlike the tiny model's: biases and tied weights, learned positions and dropout, windows and norms of their own."""


@pytest.mark.parametrize("method", ["sft", "reward model with an adapter", "ppo with a shared critic and an adapter", "ppo", "dpo", "raft", "distillation"])
@pytest.mark.parametrize("architecture", OTHERS)
def test_every_method_trains_models_of_other_architectures(architecture: str, method: str, data: dict[str, Path], tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", architecture, **{"max_position_embeddings": 512, **OTHERS[architecture]})
    argv = argv_of(method, data, tmp_path / "run")
    argv[argv.index("tiny")], argv[argv.index("--steps") + 1] = str(model), "1"
    assert cli.run([*argv, "--warmup-steps", "0"]) == cli.DONE
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert row["policy/grad_norm"] > 0
    (load_scalar if "reward model" in method else load_policy)(str(tmp_path / "run"), "float32")
