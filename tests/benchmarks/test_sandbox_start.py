"""The benchmark of a sandbox's start runs, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.sandbox_start import SIDES, main, rows
from tests.sandboxed import needs_sandbox


@needs_sandbox
def test_every_side_is_measured_as_often_as_was_asked_and_a_section_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["--repeats", "2", "--warmup", "0", "--json", "--markdown", str(tmp_path / "page.md")])
    printed = json.loads(capsys.readouterr().out)
    assert {name: len(times) for name, times in printed["milliseconds"].items()} == dict.fromkeys(SIDES, 2) | {"sandboxes at once": 1}
    assert printed["medians"]["sandbox, true"] > printed["medians"]["process, true"] > 0
    assert "| sandbox, true | " in (tmp_path / "page.md").read_text()


def test_a_row_says_how_many_times_a_sandboxs_start_a_side_takes():
    table = rows({"sandbox, true": [10.0, 30.0, 20.0], "judgement": [50.0]})
    assert table[1:] == [["sandbox, true", "20.0", "10.0", "30.0", "1.00"], ["judgement", "50.0", "50.0", "50.0", "2.50"]]


def test_bad_input_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--repeats", "0"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
