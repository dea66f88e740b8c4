"""What is shown while work goes on."""

from __future__ import annotations

import pytest

from posttrain.runs.progress import Bar


def test_where_there_is_no_terminal_each_step_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("grpo", 3) as bar:
        for reward in (0.1, 0.2, 0.3):
            bar.advance(f"reward {reward}")
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [[f"grpo {i}/3", f"reward 0.{i}"] for i in (1, 2, 3)]
    assert lines[0].endswith("s left") and not lines[-1].endswith("left")
    assert "\x1b" not in said.err and "\r" not in said.err


def test_long_work_says_a_line_now_and_then_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("eval", 25, every=10) as bar:
        for _ in range(25):
            bar.advance()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["10/25", "20/25", "25/25"]


def test_a_run_that_goes_on_counts_from_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("grpo", 6, done=4) as bar:
        bar.advance()
        bar.advance()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["5/6", "6/6"]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes anything for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with Bar("grpo", 2) as bar:
        bar.advance("reward 0.5")
        bar.advance("reward 0.7")
    said = capsys.readouterr()
    assert "2/2" in said.err and "reward 0.7" in said.err and "\x1b[" in said.err
    assert said.out == ""
