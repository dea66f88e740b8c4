"""`posttrain agent`: run, resume, replay and fork share a folder, and what is wrong is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain.cli import run

TINY = ["--model", "tiny", "--tools", "", "--max-tokens", "6", "--dtype", "float32"]


def posttrain(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Its exit code, and what it printed, stderr behind."""
    code = run(list(argv))
    said = capsys.readouterr()
    return code, said.out + said.err


def begun(capsys: pytest.CaptureFixture[str], out: Path, *more: str) -> dict:
    code, said = posttrain(capsys, "agent", "run", "hello", *TINY, "--n", "2", "--out", str(out), "--json", *more)
    assert code == 0, said
    return json.loads(said)


def test_attempts_are_made_kept_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = begun(capsys, tmp_path / "a")
    assert [(a["id"], a["sample"], a["messages"][0]["role"]) for a in found["attempts"]] == [("prompt", 0, "assistant"), ("prompt", 1, "assistant")]
    code, said = posttrain(capsys, "agent", "resume", str(tmp_path / "a"))
    assert code == 0 and "user: hello" in said and f"2 attempts kept in {tmp_path / 'a'}" in said


def test_what_was_cut_off_is_made_as_it_would_have_been(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole = begun(capsys, tmp_path / "a")["attempts"]
    steps = tmp_path / "a" / "steps.jsonl"
    lines = steps.read_text().splitlines(keepends=True)
    steps.write_text("".join(lines[:2]) + lines[2][:9])
    code, said = posttrain(capsys, "agent", "resume", str(tmp_path / "a"), "--json")
    assert code == 0 and json.loads(said)["attempts"] == whole


def test_the_same_model_says_the_same_again_and_another_departs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    begun(capsys, tmp_path / "a")
    code, said = posttrain(capsys, "agent", "replay", str(tmp_path / "a"))
    assert code == 0 and said.count("the same 1 turns, token for token") == 2
    steps = tmp_path / "a" / "steps.jsonl"
    rows = [json.loads(line) for line in steps.read_text().splitlines()]
    said_first = next(row for row in rows if row["event"] == "said")
    said_first["completion"]["token_ids"][2] ^= 1
    steps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = posttrain(capsys, "agent", "replay", str(tmp_path / "a"), "--json")
    departed = [a["departed"] for a in json.loads(said)["attempts"]]
    assert code == 3 and sorted(departed) == ["", "departs at turn 1, token 3"]


def test_a_fork_is_drawn_anew_in_a_folder_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole = begun(capsys, tmp_path / "a")["attempts"]
    code, said = posttrain(capsys, "agent", "fork", str(tmp_path / "a"), "--at", "0", "--out", str(tmp_path / "b"), "--seed", "5", "--json")
    (forked,) = json.loads(said)["attempts"]
    assert code == 0 and forked["messages"] != whole[0]["messages"]
    code, said = posttrain(capsys, "agent", "resume", str(tmp_path / "b"), "--json")
    assert code == 0 and json.loads(said)["attempts"] == [forked], "a fork holds the one attempt"


def test_a_tasks_problems_are_scored(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = posttrain(capsys, "agent", "run", "--task", "arithmetic", "--problems", "3", "--n", "2", *TINY, "--out", str(tmp_path / "a"), "--json")
    found = json.loads(said)
    assert code == 0 and len(found["attempts"]) == 6 and found["accuracy"]["n"] == 3 and {a["score"] for a in found["attempts"]} <= {0.0, 1.0}
    _, said = posttrain(capsys, "agent", "run", "--task", "arithmetic", "--problems", "1", *TINY, "--out", str(tmp_path / "b"))
    assert "over 1 problem: too few for an interval" in said and "nan" not in said


def test_a_fork_of_a_tasks_attempt_is_scored_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    posttrain(capsys, "agent", "run", "--task", "arithmetic", "--problems", "2", *TINY, "--out", str(tmp_path / "a"))
    code, said = posttrain(capsys, "agent", "fork", str(tmp_path / "a"), "--at", "0", "--out", str(tmp_path / "b"), "--json")
    found = json.loads(said)
    assert code == 0 and found["attempts"][0]["score"] in (0.0, 1.0) and found["accuracy"]["n"] == 1


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["run", "--model", "tiny"], "either a prompt or the problems of a --task"),
        (["run", "x", "--task", "arithmetic"], "either a prompt or the problems of a --task"),
        (["run", "x", *TINY[:2], "--tools", "calculater"], "there is no tool 'calculater'; there is calculator"),
        (["run", "x", *TINY[:2], "--tools", "python:x=1"], "option of the tool python"),
        (["run", "x", *TINY[:2], "--tools", "web"], "list of hosts"),
        (["run", "x", *TINY[:2], "--tools", "mcp"], "mcp:config=FILE.json"),
        (["run", "x", *TINY[:2], "--tools", "files:path=/no/such"], "make it first"),
        (["run", "x", *TINY[:2], "--steps", "0"], "limit of steps must be above 0"),
        (["resume", "nowhere"], "holds no attempts of an agent"),
        (["replay", "nowhere"], "holds no attempts of an agent"),
        (["fork", "nowhere", "--at", "1", "--out", "b"], "holds no attempts of an agent"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = posttrain(capsys, "agent", *argv)
    assert code == 2 and reason in said and said.count("\n") == 1 and "Traceback" not in said


def test_a_folder_that_is_taken_and_a_turn_that_does_not_exist_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    begun(capsys, tmp_path / "a")
    code, said = posttrain(capsys, "agent", "run", "hello", *TINY, "--out", str(tmp_path / "a"))
    assert code == 2 and "posttrain agent resume" in said
    code, said = posttrain(capsys, "agent", "fork", str(tmp_path / "a"), "--at", "7", "--out", str(tmp_path / "b"))
    assert code == 2 and "give --at of 0 to 0" in said and not (tmp_path / "b").exists()
    code, said = posttrain(capsys, "agent", "fork", str(tmp_path / "a"), "--at", "0", "--sample", "9", "--out", str(tmp_path / "b"))
    assert code == 2 and "no attempt 9" in said


def test_what_is_shown_gives_the_terminal_no_orders(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = posttrain(capsys, "agent", "run", "a\x1b[2Jb\tc", *TINY, "--out", str(tmp_path / "a"))
    assert code == 0 and "user: a�[2Jb\tc" in said and "\x1b" not in said and "\r" not in said
