"""What the commands that measure refuse, and what they say of numbers that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posttrain import cli
from tests.sandboxed import needs_sandbox

SMALL = ("--samples", "2", "--max-tokens", "4", "--dtype", "float32")
ONE_DIGIT = "arithmetic:levels=1"


@needs_sandbox
def test_a_task_whose_gold_answers_do_not_score_1_is_refused_wherever_it_is_measured(posttrain, tmp_path: Path) -> None:
    row = {"task_id": 11, "text": "Say 2.", "code": "def say():\n    return 1", "test_list": ["assert say() == 2"]}
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row))
    wrong = f"mbpp:path={tmp_path / 'mbpp.jsonl'}"
    for argv in (
        ("eval", "--model", "tiny", "--task", wrong),
        ("compare", "tiny", "tiny", "--task", wrong),
        ("compare", "tiny", "tiny", "--task", ONE_DIGIT, "--problems", "2", "--untouched-task", wrong),
        ("scale", "--model", "tiny", "--task", wrong),
        ("eval", "--model", "tiny", "--suite", "capability", "--problems", "2", "--data", str(tmp_path)),
    ):
        ended = posttrain(*argv, *SMALL)
        assert ended.code == cli.USAGE and "1 of 1 gold answers do not score 1" in ended.err and "Traceback" not in ended.err, ended.err


def test_a_task_in_use_and_a_bare_one_of_other_problems_are_not_set_side_by_side(posttrain) -> None:
    ended = posttrain("eval", "--model", "tiny", "--task", f"{ONE_DIGIT},loop:of=arithmetic,levels=2", *SMALL)
    assert ended.code == cli.USAGE and "does not ask the problems of arithmetic" in ended.err


def test_evaluations_of_different_problems_are_compared_as_two_samples_and_it_is_said(posttrain, tmp_path: Path) -> None:
    for n in (4, 6):
        posttrain("eval", "--model", "tiny", "--task", ONE_DIGIT, "--problems", n, *SMALL, "--out", tmp_path / str(n))
    found = posttrain("compare", tmp_path / "4", tmp_path / "6", "--json")
    assert found.code == cli.DONE and json.loads(found.out)["paired"] is False
    assert "compared as two samples and not as pairs" in " ".join(posttrain("compare", tmp_path / "4", tmp_path / "6").out.split())


@pytest.mark.parametrize(
    "argv",
    [
        ("eval", "--model", "tiny", "--task", ONE_DIGIT, *SMALL),
        ("compare", "tiny", "tiny", "--task", ONE_DIGIT, *SMALL),
        ("scale", "--model", "tiny", "--task", ONE_DIGIT, *SMALL),
        ("reliability", "--model", "faulty:error=0.1", "--horizons", "1,2", "--samples", "2"),
    ],
    ids=lambda argv: argv[0],
)
def test_one_problem_gives_no_interval_and_it_is_said(argv: tuple[str, ...], posttrain) -> None:
    ended = posttrain(*argv, "--problems", "1")
    assert ended.code == cli.DONE and "one problem gives no interval" in " ".join(ended.out.split()), ended.out + ended.err


def test_a_score_at_chance_and_a_limit_that_cut_most_attempts_are_warned_of_in_text_json_and_on_the_page(posttrain, tmp_path: Path) -> None:
    warnings = "not to be told from nothing right at all", "ran into the limit before they came to an end"
    asked = ("--task", "facts", "--problems", "8", "--samples", "2", "--max-tokens", "1", "--dtype", "float32")
    as_text, as_json = (posttrain("eval", "--model", "tiny", *asked, *how) for how in ((), ("--json",)))
    assert all(warning in " ".join(as_text.out.split()) for warning in warnings)
    assert all(any(warning in note for note in json.loads(as_json.out)["notes"]) for warning in warnings)
    compared = posttrain("compare", "tiny", "tiny", *asked, "--out", tmp_path)
    (accuracy,) = (row for row in json.loads((tmp_path / "comparison.json").read_text())["rows"] if row["name"] == "accuracy")
    for text in (" ".join(compared.out.split()), accuracy["note"], (tmp_path / "report.html").read_text()):
        assert all(warning in text for warning in warnings), text[:2000]
