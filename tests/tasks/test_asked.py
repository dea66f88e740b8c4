"""Own questions about own documents: what a row may say, how it is judged, and that it is measured like invented facts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.retrieval.index import IndexSettings, build
from posttrain.tasks import check_gold, load
from posttrain.tasks.asked import Asked
from posttrain.types import Task, UserError, answered
from tests.ended import Ended

ROWS = (
    {"question": "Who kept the lighthouse of Korvath?", "answers": ["Ilse Brandt", "Brandt"], "documents": ["korvath.txt"], "kind": "who"},
    {"question": "When was the bridge of Odran opened?", "answer": 1911, "documents": ["odran.txt"], "id": "bridge"},
    {"question": "Who built the mill of Tarn?"},
)


@pytest.fixture
def task(tmp_path: Path) -> Asked:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "korvath.txt").write_text("The lighthouse of Korvath was kept by Ilse Brandt.")
    (tmp_path / "documents" / "odran.txt").write_text("The bridge of Odran was opened in 1911.")
    build(tmp_path / "documents", tmp_path / "index", IndexSettings(vectors=False, engine="lines"))
    return asked(tmp_path, *ROWS)


def asked(folder: Path, *rows: dict, name: str = "questions.jsonl") -> Asked:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(f"asked:questions={folder / name},index={folder / 'index'}")


def judged(task: Task, number: int, said: str) -> tuple[float, dict[str, float]]:
    score = asyncio.run(task.score(answered(task.problems("test")[number], said)))
    return score.value, {name: value for name, value in score.parts.items() if value}


def test_every_gold_answer_scores_one(task):
    asyncio.run(check_gold(task, task.problems("test")))
    assert [(p.id, p.data["gold"]) for p in task.problems("test")] == [("asked/0", ["korvath.txt"]), ("asked/bridge", ["odran.txt"]), ("asked/2", [])]
    assert {passage.source for passage in task.passages("test")} == {"korvath.txt", "odran.txt"}


def test_an_answer_counts_word_for_word_wherever_it_stands(task):
    assert judged(task, 0, "It was ilse  brandt, they say [1].") == (1, {"parsed": 1})
    assert judged(task, 0, "Brandt") == (1, {"parsed": 1})
    assert judged(task, 0, "Brandts") == (0, {})
    assert judged(task, 0, "The sources do not say.") == (0, {"abstained": 1, "parsed": 1})
    assert judged(task, 0, "1911") == (0, {"copied": 1, "parsed": 1})
    assert judged(task, 1, "I do not know, perhaps 1911.") == (1, {"parsed": 1})


def test_where_nothing_answers_declining_is_right(task):
    assert judged(task, 2, "The sources do not say.") == (1, {"abstained": 1, "parsed": 1})
    assert judged(task, 2, "Ilse Brandt") == (0, {"copied": 1, "parsed": 1})
    assert judged(task, 2, "Somebody") == (0, {})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"answer": "x", "documents": ["odran.txt"]}, "no text under 'question'"),
        ({"question": "a", "answer": "x"}, "both answers and the documents"),
        ({"question": "a", "documents": ["odran.txt"]}, "both answers and the documents"),
        ({"question": "a", "answer": "x", "documents": ["nowhere.txt"]}, "no passage of"),
        ({"question": "a", "answers": {"x": 1}, "documents": ["odran.txt"]}, "lists of texts"),
        ({"question": "a", "id": "bridge"}, "two questions of one id"),
    ],
)
def test_a_row_that_is_no_question_is_refused(task, tmp_path, row, why):
    with pytest.raises(UserError, match=why):
        asked(tmp_path, *ROWS, row, name="wrong.jsonl").problems("test")


def test_what_is_missing_is_said(task):
    with pytest.raises(UserError, match="asked:questions=FILE"):
        load("asked")
    with pytest.raises(UserError, match="for testing"):
        task.problems("train")


def test_own_questions_are_told_apart_like_invented_facts(task, capsys):
    spec = f"asked:questions={task.questions},index={task.index}"
    code = cli.run(["rag", "eval", "--task", spec, "--model", "tiny", "--max-tokens", "4", "--context", "500", "--k", "1", "--json"])
    ended = Ended(code, *capsys.readouterr())
    assert ended.code == cli.DONE, ended.err
    rag = json.loads(ended.out)["approaches"]["rag"]
    assert sum(rag["counts"].values()) == 3 and rag["identity_residual"] < 1e-12 and set(rag["kinds"]) == {"who", ""}
    assert next(row for row in rag["rows"] if row["name"] == "recall")["value"] == 1
