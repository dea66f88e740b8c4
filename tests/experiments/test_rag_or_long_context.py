"""The experiment on RAG and long context runs on a model of random weights, and a placed document is where it is said to be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from experiments import rag_or_long_context
from experiments.rag_or_long_context import Config, Placed
from posttrain.retrieval.tfidf import TfIdf
from tests.retrieval.library import ids, passages_of
from tests.small_models import write_model


def test_the_right_document_is_put_at_its_place_among_the_others():
    library = passages_of("a town", "a town too", "the town itself", "town")
    for place in range(3):
        found = Placed({"town": library[2]}, TfIdf(library), place).search("town", 3)
        assert len(found) == 3 and ids(found).index("p2") == place


def test_every_arm_is_measured_and_nothing_written_into_the_docstring(tmp_path: Path, capsys):
    source = Path(rag_or_long_context.__file__).read_text()
    model = write_model(tmp_path / "model", max_position_embeddings=4_096)
    asyncio.run(rag_or_long_context.run(Config(
        model=str(model), out=tmp_path, worlds=2, questions=4, k=2, misspelt=(1.0,), places=(0, 1, 2), shown=3, place_questions=2, max_tokens=4,
    )))  # fmt: skip
    found = json.loads((tmp_path / "result.json").read_text())["found"]
    assert set(found["arms"]) == {"rag", "long context", "hybrid", "rag, unchecked"} and set(found["places"]) == {"0", "1", "2"}
    assert all(sum(counts.values()) == 8 for counts in found["counts"].values())
    assert all(residual < 1e-12 for residual in found["residual"].values())
    assert "middle − ends, paired" in " ".join(capsys.readouterr().out.split())
    assert Path(rag_or_long_context.__file__).read_text() == source
