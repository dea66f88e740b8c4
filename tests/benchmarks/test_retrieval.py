"""The benchmark of retrieval runs, checks that both sides found the same, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.retrieval import Seam, check_same, main, rows, texts
from posttrain.retrieval.passages import Passage


def test_every_engine_is_measured_on_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for module in ("lancedb", "bm25s", "Stemmer"):
        pytest.importorskip(module)
    main(["--documents", "100", "--queries", "4", "--no-memory", "--json", "--markdown", str(tmp_path / "page.md")])
    seams = json.loads(capsys.readouterr().out)["seams"]
    assert [seam["engine"] for seam in seams] == ["tfidf", "bm25", "dense", "text", "vectors"]
    assert all(seam["direct_ms"] > 0 and seam["ours_ms"] > 0 for seam in seams)
    assert "| search: bm25 | " in (tmp_path / "page.md").read_text()


def test_sides_that_found_other_passages_are_not_compared():
    found = [Passage("a", "a", 1.0, "a", 0, 1)]
    check_same("tfidf", [("a", 1.0), ("b", 0.0)], found)
    for wrong in ([("a", 0.5)], [("a", 1.0), ("b", 0.5)]):
        with pytest.raises(ValueError, match="different passages"):
            check_same("tfidf", wrong, found)


def test_a_row_says_ratio_and_goal():
    table = rows([Seam("tfidf", 2.0, 2.1, 1.05)], {"lance": {100: 10**8, 500: 2 * 10**8, 2500: 3 * 10**8}})
    assert table[1:] == [
        ["search: tfidf", "2 ms", "2.1 ms", "1.050", "≤ 1.10"],
        ["build: lance (100: 100 MB)", "200 MB for 500", "300 MB for 2,500", "1.500", "≤ 1.50"],
    ]


def test_the_texts_are_the_same_each_time_and_differ_among_themselves():
    assert list(texts(3)) == list(texts(3)) and len(set(texts(3))) == 3


def test_bad_input_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--documents", "1"])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
