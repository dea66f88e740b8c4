"""The tiny model must learn to score: which of two answers is better, and which step is wrong; and say how sure it may be."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from posttrain import cli
from posttrain.training.rewards import load_reward
from posttrain.types import Message, Problem, answered

SETTINGS = ("--model", "tiny", "--dtype", "float32", "--steps", "25", "--learning-rate", "3e-3", "--warmup-steps", "0", "--measure-every", "0",
            "--heldout-frac", "0.25")  # fmt: skip
DICE = random.Random(0)


def word() -> str:
    return "".join(DICE.choice("abcdefgh") for _ in range(DICE.randint(2, 4)))


def learned(rows: list[dict[str, Any]], folder: Path, *flags: str) -> list[dict[str, Any]]:
    """The metrics of every step."""
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.run(["train", "reward-model", *SETTINGS, *flags, "--data", str(folder / "data.jsonl"), "--out", str(folder / "run")]) == cli.DONE
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def exclaimed() -> list[dict[str, Any]]:
    """Whoever ends in an exclamation mark is preferred."""
    return [{"prompt": f"Say {word()} {i}.", "chosen": word() + "!", "rejected": word() + "?"} for i in range(160)]


def test_pairs_held_out_are_ranked_right_and_the_interval_says_so(exclaimed: list[dict[str, Any]], tmp_path: Path) -> None:
    first, *_, last = learned(exclaimed, tmp_path)
    assert first["heldout_before/accuracy_low"] < 0.5 < first["heldout_before/accuracy_high"], "an untrained head knows nothing"
    assert last["heldout/accuracy_low"] > 0.85 and last["heldout/n"] > 30
    assert 0 < last["heldout/margin_low"] <= last["heldout/margin"] <= last["heldout/margin_high"]
    assert last["heldout/ece"] < last["heldout/ece_by_chance"] + 0.05


def test_centering_draws_rewards_to_0_and_leaves_the_ranking(exclaimed: list[dict[str, Any]], tmp_path: Path) -> None:
    shifted = ("--learning-rate", "2e-3", "--steps", "24")
    folders = [tmp_path / name for name in ("free", "centred")]
    for folder in folders:
        folder.mkdir()
    *_, free = learned(exclaimed, folders[0], *shifted)
    *_, centred = learned(exclaimed, folders[1], *shifted, "--centering", "0.01")
    assert centred["heldout/accuracy_low"] > 0.85 and free["heldout/accuracy_low"] > 0.85
    assert abs(centred["reward/mean"]) < 0.25 * abs(free["reward/mean"])


def test_margins_ask_for_as_much_more(exclaimed: list[dict[str, Any]], tmp_path: Path) -> None:
    asked = [{**row, "margin": 3.0} for row in exclaimed]
    for name in ("heeded", "ignored"):
        (tmp_path / name).mkdir()
    few = ("--steps", "12", "--learning-rate", "1e-3")
    *_, heeded = learned(asked, tmp_path / "heeded", *few)
    *_, ignored = learned(asked, tmp_path / "ignored", *few, "--no-use-margins")
    assert heeded["loss/mean"] > ignored["loss/mean"] and heeded["heldout/margin"] > ignored["heldout/margin"]


def test_a_model_that_has_learned_noise_by_heart_is_found_out_by_its_calibration(tmp_path: Path) -> None:
    tossed = [{"prompt": f"Say {i}.", "chosen": word(), "rejected": word()} for i in range(100)]
    *_, last = learned([row for row in tossed if row["chosen"] != row["rejected"]], tmp_path, "--steps", "32", "--heldout-frac", "0.5")
    assert last["train/accuracy"] > 0.9 and last["heldout/accuracy_low"] < 0.5
    assert last["heldout/ece"] > last["heldout/ece_by_chance"] + 0.15, "sure of itself, and wrong"


def test_the_wrong_step_is_found_and_the_answer_is_worth_what_its_worst_step_is(tmp_path: Path) -> None:
    rows = []
    for i in range(160):
        labels = [DICE.random() < 0.5 for _ in range(DICE.randint(1, 3))]
        rows.append({"prompt": f"Say {i}.", "completions": [word() + ("+" if right else "-") for right in labels], "labels": labels})
    first, *_, last = learned(rows, tmp_path, "--kind", "process")
    assert last["heldout/accuracy_low"] > 0.85 > first["heldout_before/accuracy"]
    judged = lambda reward, text: asyncio.run(_first(reward, text))  # noqa: E731
    by = {name: load_reward(f"process:{name}:{tmp_path / 'run'}", "float32") for name in ("min", "product", "last")}
    right, wrong_at_first, wrong_at_last = "abc+\ndef+", "abc-\ndef+", "abc+\ndef-"
    for name, reward in by.items():
        assert judged(reward, right).value > 0.8, name
        assert judged(reward, wrong_at_last).value < 0.2, name
    assert judged(by["min"], wrong_at_first).value < 0.2 and judged(by["product"], wrong_at_first).value < 0.2
    assert judged(by["last"], wrong_at_first).value > 0.8, "the last step alone forgives"


async def _first(reward, text: str):
    return await reward(answered(Problem("1", (Message("user", "Say 1."),), ""), text))
