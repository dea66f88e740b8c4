"""The settings of GRPO: the published presets, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from posttrain.algorithms.grpo import PRESETS, Config, step, train
from posttrain.policy.optim import AdamWConfig
from posttrain.types import UserError
from tests.algorithms.toy import learner

SMALL = Config(
    problems_per_step=3, group_size=4, max_tokens=5, dtype="float32", steps=2, epochs=2, optim=AdamWConfig(learning_rate=1e-3)
)

PAPERS: dict[str, dict[str, Any]] = {
    # 2402.03300, eq. 3: mean over a completion's tokens, then over completions; eq. 4: k3 within the loss; section 4.2: .04
    "grpo_as_published": dict(advantage="std_scaled", loss="clipped", reduction="sequence", kl_in="loss_k3", kl_coef=0.04),
    # 2503.20783, section 3.2: both divisions go, and so does the KL
    "dr_grpo": dict(advantage="group_mean", loss="clipped", reduction="constant", kl_coef=0.0),
    # 2503.14476, section 4.1: clip .2 and .28, token mean, dynamic sampling, no KL
    "dapo": dict(advantage="std_scaled", loss="clipped", reduction="token", clip_low=0.2, clip_high=0.28, kl_coef=0.0),
    # 2402.14740, section 3: the whole completion is one action, its baseline the siblings' mean, the KL part of its reward
    "rloo": dict(advantage="leave_one_out", loss="reinforce", kl_in="reward"),
    # 2507.18071, section 5.1: clips of 3e-4 and 4e-4
    "gspo": dict(advantage="std_scaled", loss="gspo", reduction="sequence", clip_low=3e-4, clip_high=4e-4, kl_coef=0.0),
    # 2506.13585, section 3.1: the weight is clipped from above only, all tokens of a group count the same, no KL
    "cispo": dict(advantage="std_scaled", loss="cispo", reduction="token", kl_coef=0.0),
}


def test_each_preset_is_what_its_paper_says() -> None:
    assert set(PAPERS) == set(PRESETS)
    for name, preset in PRESETS.items():
        config = preset()
        assert {field: getattr(config, field) for field in PAPERS[name]} == PAPERS[name], name
    assert PRESETS["dapo"]().extra_rounds > 0
    assert PRESETS["rloo"]().kl_coef > 0
    assert PRESETS["cispo"]().clip_low >= 1 < PRESETS["cispo"]().clip_high
    assert all(PRESETS[name]().clip_low == PRESETS[name]().clip_high == 0.2 for name in ("grpo_as_published", "dr_grpo"))


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_runs_and_leaves_other_settings_as_they_were(name: str) -> None:
    config = PRESETS[name](SMALL)
    kept = {"model", "steps", "epochs", "max_tokens", "problems_per_step", "optim"}
    assert {f.name: getattr(config, f.name) for f in fields(config) if f.name in kept} == {k: getattr(SMALL, k) for k in kept}
    made = learner(config)
    results = [asyncio.run(step(made)) for _ in range(2)]
    assert made.trained.policy.version == 4 and made.trained.optimizer.n_skipped == 0
    assert all(result.metrics["policy/grad_norm"] > 0 for result in results)
    assert ("policy/kl_ref_nats" in results[0].metrics) == (config.kl_coef > 0)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"group_size": 1}, "--group-size"),
    ({"temperature": 0.0}, "--temperature"),
    ({"temperature": float("nan")}, "--temperature"),
    ({"updates": 9}, "--updates"),
    ({"kl_coef": -0.1}, "--kl-coef"),
    ({"clip_low": -0.2}, "--clip-low"),
    ({"clip_high": float("nan")}, "--clip-high"),
    ({"extra_rounds": -1}, "--extra-rounds"),
    ({"lora_rank": -8}, "--lora-rank"),
    ({"advantage": "max_rl", "kl_coef": 0.1}, "max_rl"),
    *(({name: 0}, f"--{name.replace('_', '-')}") for name in ("steps", "problems_per_step", "max_tokens", "epochs", "tokens_per_batch")),
    ({"checkpoint_every": 0}, "--checkpoint-every"),
]


@pytest.mark.parametrize(("changes", "named"), REFUSED)
def test_a_setting_that_cannot_work_is_refused_in_one_sentence_that_names_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as refused:
        replace(Config(), **changes)
    assert "\n" not in str(refused.value)


def test_max_rl_takes_a_kl_in_the_loss() -> None:
    made = learner(replace(SMALL, advantage="max_rl", kl_coef=0.1, kl_in="loss_k2"))
    asyncio.run(step(made))
    assert made.trained.policy.version == 2


@pytest.mark.parametrize("task", ["arithmetic:levels=9", "no_such_task", "gsm8k:path=no_such_file.jsonl"])
def test_a_task_that_cannot_be_had_leaves_no_folder_behind(task: str, tmp_path: Path) -> None:
    config = replace(SMALL, model="tiny", task=task, out=tmp_path / "run")
    with pytest.raises(UserError):
        asyncio.run(train(config))
    assert not config.out.exists()


def test_a_run_whose_model_does_not_exist_can_be_begun_with_another(tmp_path: Path) -> None:
    config = replace(SMALL, model="./no-such-model", task="arithmetic:levels=1", out=tmp_path / "run", steps=1)
    with pytest.raises(UserError, match="no-such-model"):
        asyncio.run(train(config))
    assert asyncio.run(train(replace(config, model="tiny"))) == config.out / "checkpoints" / "step_000001"
