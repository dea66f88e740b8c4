"""`posttrain rag`: index, ask, eval from the command line, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.retrieval.rerank import cross_encoder
from tests.ended import Ended
from tests.retrieval.library import write_cross_encoder

SMALL = ("--model", "tiny", "--dtype", "float32", "--max-tokens", "5")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "cat.txt").write_text("The cat of Velmora is red.")
    (folder / "dog.md").write_text("The dog of Velmora is blue.")
    return folder


def index(posttrain, shelf: Path) -> Path:
    assert posttrain("rag", "index", shelf, "--out", shelf.parent / "index", "--kind", "tfidf").code == cli.DONE
    return shelf.parent / "index"


def refused(ended: Ended, *words: str) -> None:
    assert (ended.code, ended.out) == (cli.USAGE, "") and len(ended.err.strip().splitlines()) == 1, ended.err
    assert all(word in ended.err for word in words), ended.err


def test_an_index_says_what_it_found_and_takes_in_only_what_is_new(posttrain, shelf):
    first = posttrain("rag", "index", shelf, "--out", shelf.parent / "index", "--kind", "tfidf")
    assert "2 documents in 2 passages: 2 new, 0 changed, 0 gone, 0 as before" in first.out
    (shelf / "cat.txt").unlink()
    second = json.loads(posttrain("rag", "index", shelf, "--out", shelf.parent / "index", "--kind", "tfidf", "--json").out)
    assert {k: second[k] for k in ("n_added", "n_removed", "n_unchanged", "n_documents")} == {"n_added": 0, "n_removed": 1, "n_unchanged": 1, "n_documents": 1}


def test_an_answer_says_what_was_shown_and_where_it_stands(posttrain, shelf):
    path = index(posttrain, shelf)
    found = json.loads(posttrain("rag", "ask", "Which colour has the dog of Velmora?", "--index", path, "--k", "1", "--json", *SMALL).out)
    (shown,) = found["shown"]
    assert (shelf / "dog.md").read_text()[shown["start"] : shown["end"]] == shown["text"]
    assert found["abstained"] and found["citations"] == [], "random weights say nothing that the source bears out"
    assert found["model_said"] and found["outcome"] == "truncated" and found["written_tokens"] == 5
    assert len(found["index"]["sha256"]) == 64 and found["read_tokens"] > len(shown["text"])
    assert "1 passages shown" in posttrain("rag", "ask", "Which dog?", "--index", path, "--k", "1", *SMALL).out


def test_where_nothing_is_found_the_sources_do_not_say(posttrain, shelf):
    found = posttrain("rag", "ask", "Zebra?", "--index", index(posttrain, shelf), *SMALL)
    assert found.code == cli.DONE and found.out.startswith("The sources do not say.\n0 passages shown; 0 tokens read")


def test_a_language_model_orders_anew_what_was_found(posttrain, shelf):
    """Both passages have every word of the question once; a reranker must say which is first, whatever random weights think."""
    path = index(posttrain, shelf)
    asked = ("rag", "ask", "Which colour has the cat, the dog of Velmora?", "--index", path, "--k", "2", "--json", *SMALL)
    plain, anew = (json.loads(posttrain(*asked, *more).out)["shown"] for more in ((), ("--rerank", "likelihood")))
    assert {p["id"] for p in plain} == {p["id"] for p in anew} and all(p["score"] > 0 for p in plain)
    assert [p["score"] for p in anew] == sorted((p["score"] for p in anew), reverse=True) and all(p["score"] < 0 for p in anew), "nats per token"


def test_a_cross_encoder_orders_anew_what_was_found(posttrain, shelf, tmp_path):
    pytest.importorskip("sentence_transformers")
    write_cross_encoder(tmp_path / "cross")
    path, query = index(posttrain, shelf), "the red cat of Velmora?"
    asked = ("rag", "ask", query, "--index", path, "--k", "2", "--rerank", "cross", "--cross-encoder", tmp_path / "cross", "--json", *SMALL)
    shown = json.loads(posttrain(*asked).out)["shown"]
    scores = cross_encoder(str(tmp_path / "cross"))(query, [p["text"] for p in shown])
    assert [p["score"] for p in shown] == pytest.approx(scores, abs=1e-5) and scores[0] > scores[1]


def test_of_a_folder_in_beirs_layout_the_corpus_alone_is_indexed_and_it_is_said(posttrain, shelf):
    (shelf / "set" / "qrels").mkdir(parents=True)
    (shelf / "set" / "corpus.jsonl").write_text('{"_id": "a", "title": "Cats", "text": "red"}\n')
    (shelf / "set" / "queries.jsonl").write_text('{"_id": "q", "text": "zebra"}\n')
    (shelf / "set" / "readme.md").write_text("a set")
    ended = posttrain("rag", "index", shelf, "--out", shelf.parent / "index", "--kind", "tfidf")
    assert "3 documents" in ended.out and [line for line in ended.err.splitlines() if "BEIR's layout" in line and "corpus.jsonl alone" in line]
    found = json.loads(posttrain("rag", "ask", "Zebra set cats?", "--index", shelf.parent / "index", "--json", *SMALL).out)["shown"]
    assert {p["document"] for p in found} == {"set/corpus.jsonl#a"}
    plain = posttrain("rag", "index", shelf / "set" / "qrels" / "..", "--out", shelf.parent / "set-index", "--kind", "tfidf")
    assert "1 documents" in plain.out


def test_what_finds_no_room_is_named(posttrain, shelf):
    (shelf / "long.txt").write_text("Velmora " * 60)
    path = index(posttrain, shelf)
    found = posttrain("rag", "ask", "Velmora?", "--index", path, "--approach", "long", "--context", "420", *SMALL)
    assert "1 passages found no room: long.txt:0-479" in found.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("rag", "ask", " ", "--index", "x"), ("question is empty",)),
        (("rag", "ask", "a", "--index", "nowhere"), ("there is no index in 'nowhere'",)),
        (("rag", "ask", "a", "--index", "x", "--k", "0"), ("--k",)),
        (("rag", "ask", "a", "--index", "x", "--rerank", "cross"), ("--rerank cross needs a cross-encoder",)),
        (("rag", "ask", "a", "--index", "x", "--cross-encoder", "y"), ("add --rerank cross",)),
        (("rag", "ask", "a", "--index", "x", "--rerank", "likelihood", "--approach", "long"), ("leave --rerank out",)),
        (("rag", "index", "nowhere", "--out", "x", "--kind", "tfidf"), ("'nowhere' is no folder",)),
        (("rag", "index", "x", "--out", "y", "--kind", "tfidf", "--model", "m"), ("leave --model out",)),
        (("rag", "eval", "--beir", "nowhere"), ("BEIR's layout",)),
        (("rag", "eval", "--beir", "x", "--retrievers", "magic"), ("--retrievers takes some of tfidf",)),
        (("rag", "eval", "--beir", "x", "--ks", "0"), ("--ks",)),
        (("rag", "eval", "--beir", "x", "--queries", "-1"), ("--queries",)),
        (("rag", "eval", "--task", "arithmetic"), ("has no documents",)),
        (("rag", "eval", "--approaches", "none"), ("--approaches",)),
        (("rag", "what"), ("there is no command 'rag what'",)),
    ],
)
def test_bad_input_is_refused_in_one_sentence(posttrain, argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(posttrain(*argv), *words)


def test_an_empty_folder_and_a_pdf_that_is_none_are_refused(posttrain, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(posttrain("rag", "index", tmp_path / "empty", "--out", tmp_path / "x", "--kind", "tfidf"), "has no documents")
    pytest.importorskip("pypdf")
    (tmp_path / "empty" / "a.pdf").write_text("not one")
    refused(posttrain("rag", "index", tmp_path / "empty", "--out", tmp_path / "x", "--kind", "tfidf"), "a.pdf", "no pdf that can be read")


def test_a_file_that_cannot_be_read_ends_an_index_or_is_left_out(posttrain, shelf):
    (shelf / "latin.txt").write_bytes(b"caf\xe9")
    argv = ("rag", "index", shelf, "--out", shelf.parent / "index", "--kind", "tfidf")
    refused(posttrain(*argv), "latin.txt", "not UTF-8")
    ended = posttrain(*argv, "--skip-unreadable")
    assert ended.code == cli.DONE and "2 documents" in ended.out and "1 files were left out" in ended.out and "latin.txt" in ended.err
    (why,) = json.loads(posttrain(*argv, "--skip-unreadable", "--json").out)["skipped"]
    assert "latin.txt" in why


@pytest.mark.parametrize("argv", [("rag",), ("rag", "index", "--help"), ("rag", "ask", "--help"), ("rag", "eval", "--help")])
def test_every_help_runs(posttrain, argv):
    ended = posttrain(*argv)
    assert ended.code == cli.DONE and "rag" in ended.out


def test_retrievers_are_shown_side_by_side(posttrain, tmp_path):
    pytest.importorskip("pytrec_eval")
    pytest.importorskip("bm25s")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "red cats"}\n{"_id": "b", "text": "blue dog"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n{"_id": "r", "text": "dog"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nr\tb\t1\n")
    ended = posttrain("rag", "eval", "--beir", tmp_path, "--retrievers", "tfidf,bm25", "--json", "--out", tmp_path / "out")
    found = json.loads(ended.out)
    tfidf, bm25 = found["retrievers"]
    assert tfidf["metrics"]["ndcg@10"]["value"] == 0.5 and bm25["metrics"]["ndcg@10"]["value"] == 1, "bm25 stems"
    assert bm25["differences"]["ndcg@10"]["n"] == 2 and json.loads((tmp_path / "out" / "rag.json").read_text())["per_query"]["bm25"]["ndcg@10"]["q"] == 1
    assert "nDCG@10" in posttrain("rag", "eval", "--beir", tmp_path, "--retrievers", "tfidf,bm25").out
    assert "one query gives no interval" in posttrain("rag", "eval", "--beir", tmp_path, "--retrievers", "tfidf", "--queries", 1).out


def test_ndcg_at_10_of_a_set_in_beirs_layout_by_hand(posttrain, tmp_path):
    """One judged document is found second, behind one that has the word alone: 1 / log2(3); the other query finds both of its documents in the
    wrong order of relevance: (1 + 2 / log2(3)) / (2 + 1 / log2(3))."""
    pytest.importorskip("pytrec_eval")
    (tmp_path / "qrels").mkdir()
    rows = {"a": "cat", "b": "cat and more of it", "c": "dog", "d": "dog with some words"}
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"_id": name, "title": "", "text": text}) + "\n" for name, text in rows.items()))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n{"_id": "r", "text": "dog"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tb\t1\nr\tc\t1\nr\td\t2\n")
    found = json.loads(posttrain("rag", "eval", "--beir", tmp_path, "--retrievers", "tfidf", "--json").out)
    second = 1 / math.log2(3)
    by_hand = (second + (1 + 2 * second) / (2 + second)) / 2
    measured = found["retrievers"][0]["metrics"]["ndcg@10"]
    assert measured["value"] == pytest.approx(by_hand) and measured["n"] == 2 and measured["low"] < by_hand < measured["high"]


def test_approaches_are_measured_on_invented_facts_and_go_on_where_they_were_cut_off(posttrain, tmp_path):
    argv = ("rag", "eval", "--task", "invented:n_test=4,spread=2,distractors=1", "--approaches", "rag,hybrid", "--context", "500", "--k", "1", "--out", tmp_path, *SMALL)
    found = json.loads(posttrain(*argv, "--json").out)
    assert set(found["approaches"]) == {"rag", "hybrid"}
    for approach in found["approaches"].values():
        assert sum(approach["counts"].values()) == 4 and approach["identity_residual"] < 1e-12
    rows = (tmp_path / "records.jsonl").read_text()
    assert json.loads(posttrain(*argv, "--json").out)["approaches"] == found["approaches"]
    assert (tmp_path / "records.jsonl").read_text() == rows, "nothing was attempted again"
    assert "identity off by" in posttrain(*argv).out
