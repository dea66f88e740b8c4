"""The benchmark of agents runs, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.agent_overhead import main, rows


@pytest.mark.slow
def test_steps_are_timed_and_passes_counted_and_a_section_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["--agents", "4", "--steps", "2", "--repeats", "3", "--tokens", "3", "--json", "--markdown", str(tmp_path / "page.md")])
    printed = json.loads(capsys.readouterr().out)
    assert {name: len(times) for name, times in printed["milliseconds"].items()} == {"a step": 3, "a step, not kept": 3, "a step, 4 at once": 1}
    counted = printed["counted"]
    assert counted["tokens a pass, 4 at once"] > 2 * counted["tokens a pass, alone"]
    assert counted["read, remembered"] < counted["read, anew"] and counted["turns alike"] == 2
    assert "| a step, ms | " in (tmp_path / "page.md").read_text()


def test_a_row_has_the_median_and_the_ends():
    assert rows({"a step": [3.0, 1.0, 2.0]}, {"tokens a pass": 4.0})[1:] == [["a step, ms", "2.00", "1.00", "3.00"], ["tokens a pass", "4.0", "", ""]]


def test_bad_input_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--steps", "1"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
