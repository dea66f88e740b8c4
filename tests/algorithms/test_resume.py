"""A run that is killed and started again, against one that was left alone: the same bits in weights and logs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posttrain import cli
from posttrain.algorithms.grpo import Config, train
from posttrain.policy.lora import LoraConfig
from posttrain.policy.models import last_checkpoint, resolve
from posttrain.policy.optim import AdamWConfig
from posttrain.types import UserError
from tests.algorithms.kills import STEPS, VARIANTS, begin, command, finish, kill_when, left_by, n_steps, writing


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of each variant that nobody killed."""
    done: dict[str, Path] = {}

    def run(variant: str) -> Path:
        if variant not in done:
            done[variant] = tmp_path_factory.mktemp("undisturbed") / "run"
            finish(command(done[variant], VARIANTS[variant]))
        return done[variant]

    return run


# ------------------------------------------------------------------------------------------------------------- the kill


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_goes_on_to_the_same_bits(variant: str, undisturbed: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = command(run, VARIANTS[variant])
    dice = random.Random(variant)
    for step in sorted(dice.sample(range(STEPS - 1), 1 if VARIANTS[variant] else 2)):
        wait = dice.random() * 0.05  # anywhere within a step
        kill_when(argv, lambda step=step, wait=wait: n_steps(run) > step and not time.sleep(wait))
    finish(argv)
    assert left_by(run) == left_by(undisturbed(variant))


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_to_the_same_bits(
    undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    argv = command(run, {})
    kill_when(argv, lambda: writing(run))
    assert writing(run) and last_checkpoint(run) is None
    kill_when(argv, lambda: last_checkpoint(run) is not None and writing(run))
    finish(argv)
    assert left_by(run) == left_by(undisturbed("all weights"))
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step_{STEPS:06d}"]


def test_a_run_killed_before_its_first_step_begins_anew(undisturbed: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = command(run, {})
    kill_when(argv, run.exists)
    finish(argv)
    assert left_by(run) == left_by(undisturbed("all weights"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_run_killed_again_and_again_goes_on_to_the_same_bits(
    seed: int, undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    run, dice = tmp_path / "run", random.Random(seed)
    variant = dice.choice(list(VARIANTS))
    argv = command(run, VARIANTS[variant])
    for _ in range(8):
        process, wait = begin(argv), dice.uniform(0.05, 3.0)
        process.join(wait)
        process.kill()
        process.join()
    finish(argv)
    assert left_by(run) == left_by(undisturbed(variant))


def test_ctrl_c_ends_with_130_and_the_command_that_goes_on(undisturbed: Callable[[str], Path], tmp_path: Path) -> None:
    run = tmp_path / "a run"
    argv = command(run, {})
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 - these tests may run in the background, where it is ignored
    process = subprocess.Popen(
        [sys.executable, "-m", "posttrain.cli", *argv], stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heard
    )
    while n_steps(run) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED == 130
    last_line = said.strip().splitlines()[-1]
    assert last_line.startswith("posttrain: interrupted; go on with: posttrain train grpo") and f"--out '{run}'" in last_line
    assert "Traceback" not in said
    finish(argv)
    assert left_by(run) == left_by(undisturbed("all weights"))


# ------------------------------------------------------------------------------------------------- without a process each


def config(out: Path, **changes: Any) -> Config:
    base = Config(
        model="tiny", task="arithmetic:levels=1,n_train=10", out=out, steps=4, problems_per_step=3, group_size=6, max_tokens=10,
        checkpoint_every=2, seed=5, optim=AdamWConfig(learning_rate=1e-2), dtype="float32", kl_coef=0.01,
    )  # fmt: skip
    return replace(base, **changes)


def trained(config: Config) -> Path:
    asyncio.run(train(config))
    return config.out


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(config(tmp_path_factory.mktemp("four") / "run"))


@pytest.fixture
def run(four_steps: Path, tmp_path: Path) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(four_steps, tmp_path / "run"))


def test_something_is_learned_in_the_runs_that_are_compared(four_steps: Path) -> None:
    start, end = ((folder / "model.safetensors").read_bytes() for folder in (resolve("tiny"), last_checkpoint(four_steps)))
    assert start != end
    metrics = [json.loads(line) for line in (four_steps / "metrics.jsonl").read_text().splitlines()]
    assert max(row["reward/mean"] for row in metrics) > 0 and max(row.get("policy/grad_norm", 0.0) for row in metrics) > 0.1


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4}, {"dtype": "bfloat16"}], ids=["all weights", "adapter", "bf16"])
def test_extending_a_finished_run_equals_one_longer_run(changes: dict[str, Any], tmp_path: Path) -> None:
    extended = trained(config(tmp_path / "extended", steps=3, **changes))
    trained(config(extended, steps=5, **changes))
    longer = trained(config(tmp_path / "longer", steps=5, **changes))
    assert left_by(extended) == left_by(longer)


def test_a_finished_run_started_again_changes_nothing(run: Path) -> None:
    before = left_by(run)
    trained(config(run))
    assert left_by(run) == before


def test_where_checkpoints_fall_does_not_change_the_run(run: Path, tmp_path: Path) -> None:
    assert left_by(run) == left_by(trained(config(tmp_path / "often", checkpoint_every=1)))


def test_how_attempts_are_packed_may_change_rounding_and_so_is_not_taken_up(run: Path) -> None:
    with pytest.raises(UserError, match="tokens_per_batch"):
        trained(config(run, tokens_per_batch=64))


def test_lines_beyond_the_checkpoint_and_a_torn_last_one_are_written_anew(run: Path) -> None:
    before = left_by(run)
    for log in ("metrics.jsonl", "rollouts.jsonl", "timings.jsonl"):
        with (run / log).open("a") as file:
            file.write('{"step": 5, "written": "after the checkpoint"}\n{"step": 6, "reward/me')
    longer = trained(config(run, steps=5))
    assert (longer / "metrics.jsonl").read_bytes().startswith(before["metrics.jsonl"])
    rows = [json.loads(line) for line in (longer / "rollouts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [step for step in range(1, 6) for _ in range(3)]
    assert not any("written" in row for row in rows)


def test_a_log_that_lost_lines_of_its_checkpoint_is_not_gone_on_with(run: Path) -> None:
    log = run / "rollouts.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    with pytest.raises(UserError, match="rollouts.jsonl.*shorter"):
        trained(config(run, steps=5))


def test_a_changed_configuration_is_refused_and_the_fields_are_named(run: Path) -> None:
    before = left_by(run)
    changed = replace(config(run), seed=6, optim=AdamWConfig(learning_rate=1e-3))
    with pytest.raises(UserError, match=r"optim .*1e-2|optim .*0\.01.*seed \(5 there, 6 now\)"):
        trained(changed)
    assert left_by(run) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no run of posttrain"):
        trained(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "", "[]", "\0\xff"], ids=["torn", "empty", "no object", "binary"])
@pytest.mark.parametrize("file", ["config.json", "checkpoints/step_000004/trainer/state.json"])
def test_damaged_json_is_named_and_nothing_is_lost(file: str, text: str, run: Path) -> None:
    (run / file).write_text(text)
    logs = {log: (run / log).read_bytes() for log in ("metrics.jsonl", "rollouts.jsonl")}
    with pytest.raises(UserError, match=Path(file).name):
        trained(config(run, steps=5))
    assert {log: (run / log).read_bytes() for log in logs} == logs


@pytest.mark.parametrize("file", ["model.safetensors", "trainer/optimizer.pt"])
def test_a_truncated_checkpoint_is_named(file: str, run: Path) -> None:
    path = run / "checkpoints" / "step_000004" / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="step_000004.*damaged"):
        trained(config(run, steps=5))


def test_a_checkpoint_without_the_trainers_state_is_named(run: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "step_000004" / "trainer")
    with pytest.raises(UserError, match="no state of a training"):
        trained(config(run, steps=5))


def test_a_run_that_was_moved_goes_on(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "moved")
    longer = trained(config(tmp_path / "longer", steps=5))
    assert left_by(trained(config(moved, steps=5))) == left_by(longer)


def test_a_run_goes_on_from_an_adapter_that_knows_its_base(tmp_path: Path) -> None:
    run = trained(config(tmp_path / "run", lora_rank=LoraConfig().rank, steps=2))
    settings = json.loads((last_checkpoint(run) / "adapter_config.json").read_text())
    assert Path(settings["base_model_name_or_path"]) == resolve("tiny")
