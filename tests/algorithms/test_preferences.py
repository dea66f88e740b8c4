"""Learning from preferences on the tiny model: single labelled answers, likelihood displacement, one's own samples."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from posttrain import cli
from posttrain.policy.hf import load_policy
from posttrain.types import Message
from tests.algorithms.kills import left_by

SETTINGS = ("--model", "tiny", "--dtype", "float32", "--warmup-steps", "0", "--learning-rate", "1e-3", "--measure-every", "0")
PAIRS = [(a, b) for a in range(6) for b in range(6)]


@pytest.fixture
def dpo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Path, str]]:
    """Run DPO for some steps on rows; returns the run's folder and what was said."""

    def run(rows: Sequence[dict[str, Any]], *flags: object, name: str = "run") -> tuple[Path, str]:
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        argv = ["train", "dpo", *SETTINGS, "--data", str(file), "--out", str(tmp_path / name), *(str(flag) for flag in flags)]
        capsys.readouterr()
        assert cli.run(argv) == cli.DONE
        return tmp_path / name, capsys.readouterr().err

    return run


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def displacement(run: Path) -> dict[str, Any]:
    return json.loads((run / "displacement.json").read_text())


def sums(seed: int = 0) -> list[dict[str, str]]:
    dice = random.Random(seed)
    return [{"prompt": f"{a}+{b}?", "chosen": str(a + b), "rejected": f"{a + b + dice.randint(1, 9)}!"} for a, b in PAIRS]


# -------------------------------------------------------------------------------------------------- single labelled answers


def labelled() -> list[dict[str, Any]]:
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in sums() for side in ("chosen", "rejected")
    ]  # fmt: skip


def test_kto_learns_from_single_labelled_answers(dpo) -> None:
    run, said = dpo(labelled(), "--loss", "kto", "--steps", 12)
    first, *_, last = metrics(run)
    assert "answers 62, held out 10" in said
    assert first["heldout_before/accuracy"] == 0.5 and first["kto/reference_point_nats"] == 0
    assert last["heldout/accuracy"] > 0.7 and last["heldout/accuracy_low"] < last["heldout/accuracy"] < last["heldout/accuracy_high"]
    assert last["heldout/n"] == 10 and last["heldout/margin"] > 0 > last["heldout/rejected_change_nats"]


def test_a_file_of_pairs_is_to_kto_the_same_as_its_answers_one_by_one(dpo) -> None:
    pairs, _ = dpo(sums(), "--loss", "kto", "--steps", 4, name="pairs")
    alone, _ = dpo(labelled(), "--loss", "kto", "--steps", 4, name="alone")
    assert metrics(pairs) == metrics(alone)
    assert left_by(pairs)["model.safetensors"] == left_by(alone)["model.safetensors"]


def test_flipped_labels_turn_the_margin_round(dpo) -> None:
    flipped = [{**row, "label": not row["label"]} for row in labelled()]
    assert metrics(dpo(flipped, "--loss", "kto", "--steps", 6, name="flipped")[0])[-1]["heldout/margin"] > 0
    right = metrics(dpo(labelled(), "--loss", "kto", "--steps", 6, name="right")[0])[-1]
    assert right["heldout/chosen_change_nats"] > right["heldout/rejected_change_nats"]


def test_kto_weighs_good_and_bad_as_it_is_told(dpo) -> None:
    run, _ = dpo(labelled(), "--loss", "kto", "--steps", 6, "--bad-weight", 0)
    last = metrics(run)[-1]
    assert last["pairs/chosen_change_nats"] > 1, "only good answers pull"


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_alone_are_refused(label: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps({**row, "label": label}) + "\n" for row in labelled()))
    assert cli.run(["train", "dpo", *SETTINGS, "--loss", "kto", "--data", str(file), "--out", str(tmp_path / "run")]) == cli.USAGE
    said = capsys.readouterr().err
    assert f"are labelled {str(label).lower()}: KTO needs good and bad ones" in said and not list(tmp_path.glob("run/checkpoints/*"))


def test_kto_can_have_answers_of_both_kinds_in_one_file(dpo) -> None:
    run, said = dpo([*sums()[:18], *labelled()[36:]], "--loss", "kto", "--steps", 2)
    assert "answers 62, held out 10" in said and len(metrics(run)) == 2


# ----------------------------------------------------------------------------------------------------- likelihood displacement

ALIKE = [{"prompt": f"{a}+{b}?", "chosen": f"it is surely {a + b}", "rejected": f"it is surely {a + b + 1}"} for a, b in PAIRS]
APART = [{"prompt": f"{a}+{b}?", "chosen": "No", "rejected": "I do not know"} for a, b in PAIRS]


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto"])
def test_a_warning_is_given_where_the_chosen_answers_have_become_less_likely(loss: str, dpo) -> None:
    """Answers that are nearly alike pull on the same tokens, up and down (2410.08847)."""
    run, said = dpo(ALIKE, "--loss", loss, "--steps", 10)
    found = displacement(run)
    assert found["displaced_frac"] > 0.5 and found["chosen_change_nats"]["high"] < 0
    (warning,) = [line for line in said.splitlines() if "warning" in line]
    assert f"{found['displaced_frac']:.0%} of {found['n_chosen']} chosen answers are less likely than before" in warning
    assert metrics(run)[-1]["heldout/displaced_frac"] == pytest.approx(found["displaced_frac"]), "the same pairs, told twice"


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_no_warning_is_given_where_they_have_risen(loss: str, dpo) -> None:
    run, said = dpo(APART, "--loss", loss, "--steps", 8)
    assert displacement(run)["chosen_change_nats"]["value"] > 1 and "warning" not in said


def test_no_warning_is_given_for_what_may_be_chance(dpo) -> None:
    run, said = dpo(ALIKE, "--steps", 1, "--learning-rate", "1e-9")
    assert displacement(run)["chosen_change_nats"]["value"] == pytest.approx(0, abs=1e-3) and "warning" not in said


@pytest.mark.parametrize("lora", [(), ("--lora-rank", 4, "--learning-rate", "1e-2")], ids=["all weights", "adapter"])
def test_the_mass_that_moved_is_accounted_for(lora: tuple[object, ...], dpo) -> None:
    run, _ = dpo(APART, "--steps", 6, *lora)
    fork = displacement(run)["at_the_fork"]
    gained = [fork[side]["value"] for side in ("chosen", "rejected", "others")]
    assert sum(gained) == pytest.approx(0, abs=1e-5) and gained[0] > 0.01 > 0 > gained[1]
    assert fork["chosen"]["n"] == displacement(run)["n_chosen"] and len(fork["gainers"]) == 5
    policy, before = load_policy(str(run), "float32"), load_policy("tiny", "float32")
    prompt = policy.renderer.prompt((Message("user", "1+2?"),))
    probability = lambda model: 2.718281828 ** model.score_tokens([(prompt, policy.renderer.encode("N"))])[0][0][0]  # noqa: E731
    assert probability(policy) > probability(before)


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_losses_without_a_reference_say_where_the_mass_went_too(loss: str, dpo) -> None:
    run, _ = dpo(APART, "--preset", loss, "--steps", 6)
    found = displacement(run)
    assert found["n_chosen"] > 0 and found["rejected_change_nats"]["value"] < found["chosen_change_nats"]["value"]
    assert not any(name.startswith("pairs/displaced") for name in metrics(run)[-1])


def test_the_mass_is_told_since_the_start_whatever_the_reference(dpo) -> None:
    first, _ = dpo(APART, "--steps", 6, name="first")
    run, _ = dpo(APART, "--steps", 1, "--learning-rate", "1e-9", "--model", first, "--reference", "tiny", name="second")
    assert metrics(run)[0]["pairs/chosen_change_nats"] > 1, "against the ancestor"
    assert displacement(run)["chosen_change_nats"]["value"] == pytest.approx(0, abs=1e-3), "against the start"


def test_single_answers_part_from_nothing(dpo) -> None:
    run, _ = dpo(labelled(), "--loss", "kto", "--steps", 2)
    assert displacement(run)["at_the_fork"] is None


# ----------------------------------------------------------------------------------------------------------- one's own samples


def online(folder: Path, *flags: object) -> list[dict[str, Any]]:
    argv = ["train", "dpo", *SETTINGS, "--task", "arithmetic:levels=1,n_train=12", "--max-tokens", "8", "--pairs-per-step", "8",
            "--group-size", "4", "--out", str(folder), *(str(flag) for flag in flags)]  # fmt: skip
    assert cli.run(argv) == cli.DONE
    return metrics(folder)


def test_online_dpo_raises_the_reward_of_its_own_samples(tmp_path: Path) -> None:
    rows = online(tmp_path / "run", "--reward", "length:4", "--steps", 16, "--learning-rate", "5e-3")
    early, late = (sum(row["reward/mean"] for row in part) / 5 for part in (rows[:5], rows[-5:]))
    assert late > early + 0.15
    assert all(row["pairs/n"] + 8 * row["pairs/without_signal_frac"] == pytest.approx(8) for row in rows)


def test_online_dpo_without_a_single_difference_learns_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = online(tmp_path / "run", "--reward", "format:never", "--steps", 2)
    assert all(row["pairs/n"] == 0 and row["pairs/without_signal_frac"] == 1 and "policy/grad_norm" not in row for row in rows)
    said = capsys.readouterr().err
    assert "no pair: all answers equal" in said and "warning: nothing was learned in 2 steps" in said


@pytest.mark.parametrize("loss", ["kto", "simpo", "orpo", "ipo"])
def test_every_loss_learns_from_ones_own_samples(loss: str, tmp_path: Path) -> None:
    rows = online(tmp_path / "run", "--reward", "length:4", "--steps", 2, "--loss", loss)
    assert any(row.get("policy/grad_norm", 0) > 0 for row in rows)
