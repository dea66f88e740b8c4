"""The folder of a run: logs that only grow, checkpoints that are whole or not there, and a disk that is full."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.runs.folder import DiskFull, RunFolder, disk_errors, read_jsonl, write_atomically
from posttrain.types import UserError

CONFIG = {"model": "tiny", "steps": 3, "out": Path("runs/a"), "optim": {"learning_rate": 1e-5, "max_grad_norm": math.inf}}


def opened(path: Path) -> RunFolder:
    run = RunFolder(path)
    assert run.open(CONFIG) is None
    return run


def write_model(text: str = "weights") -> Callable[[Path], None]:
    return lambda folder: (folder / "model.txt").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------------------------ logs


def test_a_log_only_grows_and_gives_back_what_was_put_in(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"step": 1, "reward": 0.1}])
    before = (run.path / "metrics.jsonl").read_bytes()
    run.append("metrics.jsonl", [{"step": 2, "reward": 1e-320}, {"step": 3, "text": "ä\n\u2028"}])
    assert (run.path / "metrics.jsonl").read_bytes().startswith(before)
    assert run.rows("metrics.jsonl") == [{"step": 1, "reward": 0.1}, {"step": 2, "reward": 1e-320}, {"step": 3, "text": "ä\n\u2028"}]


def test_a_log_that_nobody_has_written_to_has_no_rows(tmp_path: Path) -> None:
    assert opened(tmp_path / "run").rows("metrics.jsonl") == []


def test_a_log_is_json_that_every_reader_takes(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"a": math.nan, "b": -math.inf, "c": (1, math.nan), "d": Path("x/y")}])
    text = (run.path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": "-inf", "c": [1, None], "d": "x/y"}


@pytest.mark.parametrize("bad", [b'{"step": 2', b"\xff\xfe", b"[1]", b"", b"nonsense"])
def test_a_damaged_line_is_named_by_its_number(bad: bytes, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 3}\n')
    with pytest.raises(UserError, match=f"line 2 of '{log}'"):
        read_jsonl(log)


# ----------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_holds_what_was_saved_the_state_and_how_long_the_logs_were(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"step": 1}])
    target = run.checkpoint(1, write_model(), {"position": 8})
    run.append("metrics.jsonl", [{"step": 2}])
    assert run.last_checkpoint() == target == run.path / "checkpoints" / "step_000001"
    assert (target / "model.txt").read_text() == "weights"
    state = run.open(CONFIG)
    assert state is not None and (state["position"], state["step"]) == (8, 1)
    assert state["log_bytes"] == {"metrics.jsonl": len('{"step":1}\n'), "timings.jsonl": 0, "rollouts.jsonl": 0}
    assert run.rows("metrics.jsonl") == [{"step": 1}]


def test_the_old_checkpoint_goes_only_after_the_new_one_is_whole(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    first = run.checkpoint(1, write_model("first"), {})

    def save(folder: Path) -> None:
        assert (first / "trainer" / "state.json").exists() and folder.name.startswith(".")
        assert run.last_checkpoint() == first
        write_model("second")(folder)

    second = run.checkpoint(2, save, {})
    assert names(run.path / "checkpoints") == [second.name]
    assert (second / "model.txt").read_text() == "second"


def test_a_checkpoint_that_fails_leaves_the_one_before_it_and_no_rest(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    first = run.checkpoint(1, write_model(), {})

    def save(folder: Path) -> None:
        write_model("half")(folder)
        raise RuntimeError("the model cannot be saved")

    with pytest.raises(RuntimeError, match="cannot be saved"):
        run.checkpoint(2, save, {})
    assert run.last_checkpoint() == first
    assert names(run.path / "checkpoints") == [first.name]


def test_unfinished_and_outlived_checkpoints_are_ignored_and_cleaned_away(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.checkpoint(2, write_model("second"), {})
    checkpoints = run.path / "checkpoints"
    for left in (".step_000003/trainer", "step_000001"):  # killed while writing; killed before it had removed
        (checkpoints / left).mkdir(parents=True)
        (checkpoints / left / "model.txt").write_text("half")
    state = run.open(CONFIG)
    assert state is not None and state["step"] == 2
    assert names(checkpoints) == ["step_000001", "step_000002"]
    run.checkpoint(3, write_model("third"), {})
    assert names(checkpoints) == ["step_000003"]


# ------------------------------------------------------------------------------------------------------ whose folder it is


def test_the_same_configuration_goes_on_and_another_is_refused_by_the_names_of_what_differs(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"step": 1}])
    assert run.open(CONFIG) is None
    with pytest.raises(UserError, match=r"model \('tiny' there, 'smollm2' now\), temperature \(None there, 2 now\)"):
        run.open({**CONFIG, "model": "smollm2", "temperature": 2})
    assert json.loads((run.path / "config.json").read_text())["model"] == "tiny"


def test_what_may_change_is_taken_over(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"step": 1}])
    run.open({**CONFIG, "steps": 9}, may_change=("steps",))
    assert json.loads((run.path / "config.json").read_text())["steps"] == 9


def test_a_run_that_came_to_no_step_has_no_claim_to_its_folder(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    assert run.open({**CONFIG, "model": "smollm2"}) is None
    assert json.loads((run.path / "config.json").read_text())["model"] == "smollm2"


def test_an_empty_folder_and_one_killed_while_it_was_made_are_taken(tmp_path: Path) -> None:
    empty, torn = tmp_path / "empty", tmp_path / "torn"
    for folder in (empty, torn):
        folder.mkdir()
    (torn / ".config.json.partial").write_text('{"model": "ti')
    for folder in (empty, torn):
        opened(folder)
        assert names(folder) == ["config.json"]


@pytest.mark.parametrize("foreign", ["file", "full folder"])
def test_what_is_no_run_is_refused_and_left_alone(foreign: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    if foreign == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no run of posttrain"):
        RunFolder(path).open(CONFIG)
    assert (path if foreign == "file" else path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        RunFolder(tmp_path / "file" / "run").open(CONFIG)


def test_a_log_shorter_than_the_checkpoint_says_is_refused(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("rollouts.jsonl", [{"step": 1}])
    run.checkpoint(1, write_model(), {})
    os.truncate(run.path / "rollouts.jsonl", 3)
    with pytest.raises(UserError, match="rollouts.jsonl' is shorter"):
        run.open(CONFIG)


# ---------------------------------------------------------------------------------------------------------- a full disk

FULL = Path("/dev/full")
on_linux = pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")


@on_linux
@pytest.mark.parametrize("rows", [1, 10_000], ids=["a line", "many lines"])
def test_a_full_disk_while_logging_is_said_in_one_sentence_and_nothing_is_lost(rows: int, tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.append("metrics.jsonl", [{"step": 1}])
    run.checkpoint(1, write_model(), {})
    (run.path / "rollouts.jsonl").symlink_to(FULL)
    with pytest.raises(DiskFull, match="no space left to write to .*: free some") as full:
        run.append("rollouts.jsonl", [{"step": 2}] * rows)
    assert "\n" not in str(full.value)
    (run.path / "rollouts.jsonl").unlink()
    state = run.open(CONFIG)
    assert state is not None and state["step"] == 1 and run.rows("metrics.jsonl") == [{"step": 1}]


def _as_torch(file: Path) -> None:
    with file.open("wb") as sink:
        torch.save({"weights": torch.zeros(1000)}, sink)



@on_linux
@pytest.mark.parametrize("write", [_as_torch, lambda file: file.write_text("weights")], ids=["torch", "text"])
def test_a_full_disk_while_saving_keeps_the_checkpoint_before(write: Callable[[Path], Any], tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    first = run.checkpoint(1, write_model(), {})

    def save(folder: Path) -> None:
        (folder / "model").symlink_to(FULL)
        write(folder / "model")

    with pytest.raises(DiskFull):
        run.checkpoint(2, save, {})
    assert run.last_checkpoint() == first and names(run.path / "checkpoints") == [first.name]


def test_a_library_that_says_no_space_left_in_its_own_words_is_understood(tmp_path: Path) -> None:
    with pytest.raises(DiskFull), disk_errors(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


class Filling(io.BytesIO):
    """A file on a disk with room for a megabyte more."""

    def write(self, data) -> int:
        room = (1 << 20) - self.tell()
        if len(data) > room:
            super().write(bytes(data)[: room - 112])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_disk_that_fills_up_under_torch_is_understood(tmp_path: Path) -> None:
    """Torch then closes its archive, and what it raises says nothing of the disk."""
    with pytest.raises(DiskFull, match="no space left"), disk_errors(tmp_path):
        torch.save({"moments": torch.zeros(1 << 20)}, Filling())


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path):
        raise ZeroDivisionError


@on_linux
def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    write_atomically(file, "old")
    (tmp_path / ".evaluation.json.partial").symlink_to(FULL)
    with pytest.raises(DiskFull):
        write_atomically(file, "new")
    assert names(tmp_path) == ["evaluation.json"] and file.read_text() == "old"
    write_atomically(file, "new")
    assert file.read_text() == "new"
