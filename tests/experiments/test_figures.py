"""The experiments that take seconds run, meet their own criteria, and write no answer of other settings into their docstrings."""

from __future__ import annotations

import json
from pathlib import Path

from experiments import coverage_law, intervals


def test_the_experiment_on_intervals_finds_what_its_docstring_says(tmp_path: Path, capsys) -> None:
    source = Path(intervals.__file__).read_text()
    intervals.run(intervals.Config(out=tmp_path, repeats=80))
    said = " ".join(capsys.readouterr().out.split())
    assert "NO" not in said and "969 problems for 3 points; 0.1327 and 0.0757 detectable" in said
    found = json.loads((tmp_path / "result.json").read_text())["found"]
    assert found["pass_at_k"]["64"]["plug_in"] < 0.85 < 0.876 == round(found["pass_at_k"]["64"]["unbiased"]["value"], 3)
    assert Path(intervals.__file__).read_text() == source, "other settings than the default are not written down"


def test_the_experiment_on_coverage_finds_what_its_docstring_says(tmp_path: Path, capsys) -> None:
    source = Path(coverage_law.__file__).read_text()
    coverage_law.run(coverage_law.Config(out=tmp_path, draws=4))
    said = " ".join(capsys.readouterr().out.split())
    assert "NO" not in said and "beta law a = 0.427, b = 0.675" in said
    assert Path(coverage_law.__file__).read_text() == source
