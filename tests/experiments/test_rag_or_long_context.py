"""The experiment on RAG and long context runs on a model of random weights, and a placed document is where it is said to be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from experiments import rag_or_long_context
import pytest

from experiments.rag_or_long_context import Config, Placed, fate, readings, told
from posttrain.retrieval.tfidf import TfIdf
from posttrain.rewards.abstention import ABSTAINED
from posttrain.tasks.invented import Invented
from posttrain.types import Message, Problem, Retrieval, Rollout, Source
from tests.retrieval.library import ids, passages_of
from tests.small_models import write_model


def test_the_right_document_is_put_at_its_place_among_the_others():
    library = passages_of("a town", "a town too", "the town itself", "town")
    for place in range(3):
        found = Placed({"town": library[2]}, TfIdf(library), place).search("town", 3)
        assert len(found) == 3 and ids(found).index("p2") == place


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("It is Rot.", "the first"),
        ("It is called Blau.", "the second"),
        ("Rot or Blau.", "both"),
        ("The cat of Velmara is Grau.", "another document"),
        ("The cat of Velmora is nice.", "neither"),
        ("The sources do not say.", "abstains"),
    ],
)
def test_of_two_documents_that_contradict_each_other_it_is_said_which_was_copied(said, expected):
    texts = ("The cat of Velmora is Rot.", "The cat of Velmora is Blau.", "The cat of Velmara is Grau.")
    shown = tuple(Source(str(i), str(i), 0, len(text), text, 0.0) for i, text in enumerate(texts))
    problem = Problem("p", (Message("user", "What is the cat of Velmora?"),), "Rot")
    rollout = Rollout(problem, (Message("assistant", said),), retrievals=(Retrieval("What is the cat of Velmora?", "", shown),))
    assert fate(rollout, ("Rot", "Blau")) == expected


def test_a_reader_is_told_the_sentence_with_its_number_only_where_all_that_the_answer_takes_is_shown():
    library = passages_of("A is 1.", "B is 2.")
    problem = Problem("p", (Message("user", "B?"),), "2", {"gold": ["p1"]})
    assert told(problem, library) == "B is 2 [2]."
    assert told(problem, library[:1]) == told(Problem("q", problem.messages, "", {"gold": []}), library) == ABSTAINED


def test_what_a_reader_is_trained_on_shares_no_town_with_what_it_is_tested_on():
    rows = readings(Config(steps=4, readings_per_step=5))
    answers = [row["messages"][-1]["content"] for row in rows]
    assert len(rows) == 20 and 5 <= answers.count(ABSTAINED) <= 12
    towns = {d.source.partition("-")[0] for seed in range(3) for d in Invented(n_test=12, seed=seed).documents("test")}
    said = " ".join(m["content"] for row in rows for m in row["messages"]).lower().split()
    assert not towns & {word.strip(".?") for word in said}


def test_every_arm_is_measured_and_nothing_written_into_the_docstring(tmp_path: Path, capsys):
    source = Path(rag_or_long_context.__file__).read_text()
    model = write_model(tmp_path / "model", max_position_embeddings=4_096)
    asyncio.run(rag_or_long_context.run(Config(
        model=str(model), out=tmp_path, worlds=2, questions=4, k=2, misspelt=(1.0,), places=(0, 1, 2), shown=3, place_questions=2, max_tokens=4,
        contradicting=(0, 1), steps=1, readings_per_step=4,
    )))  # fmt: skip
    found = json.loads((tmp_path / "result.json").read_text())["found"]
    assert set(found["arms"]) == {"rag", "long context", "hybrid", "rag, unchecked", "rag, trained", "rag, unchecked, trained"}
    assert set(found["places"]["trained"]) == {"0", "1", "2"}
    assert all(sum(share["value"] for share in shares.values()) == pytest.approx(1) for shares in found["contradicted"].values())
    assert all(sum(counts.values()) == 8 for counts in found["counts"].values())
    assert all(residual < 1e-12 for residual in found["residual"].values())
    assert "middle − ends, paired" in " ".join(capsys.readouterr().out.split())
    assert Path(rag_or_long_context.__file__).read_text() == source
