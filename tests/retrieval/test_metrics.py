"""Recall, nDCG and MRR by hand, and BEIR's layout from disk."""

from __future__ import annotations

import gzip
import json
import math

import pytest

pytest.importorskip("pytrec_eval")

from posttrain.retrieval.metrics import evaluate, load_beir, ranking_metrics  # noqa: E402
from posttrain.retrieval.tfidf import TfIdf  # noqa: E402
from posttrain.types import UserError  # noqa: E402


def test_metrics_by_hand():
    found = ranking_metrics({"q": ["x", "a", "b"]}, {"q": {"a": 2, "b": 1, "c": 1}}, (1, 3))
    ideal = 2 + 1 / math.log2(3) + 1 / 2
    assert found["recall@1"] == {"q": 0} and found["recall@3"]["q"] == pytest.approx(2 / 3)
    assert found["ndcg@3"]["q"] == pytest.approx((2 / math.log2(3) + 1 / 2) / ideal)
    assert found["mrr@1"] == {"q": 0} and found["mrr@3"] == {"q": 0.5}


def test_a_query_that_found_nothing_counts_and_one_that_cannot_be_answered_does_not():
    found = ranking_metrics({"a": []}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}}, (10,))
    assert found["ndcg@10"]["a"] == found["ndcg@10"]["b"] == 0 and math.isnan(found["ndcg@10"]["c"])


def test_rankings_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="never judged"):
        ranking_metrics({"q": []}, {"other": {"a": 1}})
    with pytest.raises(UserError, match="names a document twice"):
        ranking_metrics({"q": ["a", "a"]}, {"q": {"a": 1}})


@pytest.fixture
def beir(tmp_path):
    corpus = [{"_id": "d1", "title": "Cats", "text": "The red cat."}, {"_id": "d2", "title": "", "text": "A dog."}, {"_id": "q2", "text": "dog dog"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    queries = [{"_id": "q1", "text": "red cat"}, {"_id": "q2", "text": "dog"}, {"_id": "unjudged", "text": "x"}]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n")
    return tmp_path


def test_a_benchmark_is_read_and_a_document_is_not_found_by_itself(beir):
    benchmark = load_beir(beir)
    assert benchmark.queries == {"q1": "red cat", "q2": "dog"} and benchmark.passages[0].text == "Cats\n\nThe red cat."
    found = evaluate(TfIdf(benchmark.passages), benchmark, (1,))
    assert found["ndcg@1"] == {"q1": 1, "q2": 1}
    assert evaluate(TfIdf(benchmark.passages), benchmark, (1,), ignore_same_id=False)["ndcg@1"] == {"q1": 1, "q2": 0}


def test_a_relevant_document_that_happens_to_have_the_querys_id_counts_as_found(beir):
    (beir / "qrels" / "test.tsv").write_text("q2\tq2\t1\n")
    benchmark = load_beir(beir)
    assert evaluate(TfIdf(benchmark.passages), benchmark, (1,))["recall@1"] == {"q2": 1}


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("corpus.jsonl", '{"_id": "d1", "text": 7}', "no row of BEIR's"),
        ("corpus.jsonl", '{"_id": true, "text": "a"}', "no row of BEIR's"),
        ("corpus.jsonl", '{"_id": "d1"}', "no row of BEIR's"),
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "a"}', "of a row before it"),
        ("corpus.jsonl", '{"_id": "1", "text": "a"}\n{"_id": 1, "text": "a"}', "of a row before it"),
        ("queries.jsonl", '{"_id": "q3", "text": "a"}', "judges no query that queries.jsonl has"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1", "no judgement"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td2\t0.5", "no judgement"),
        ("qrels/test.tsv", "q1\td1\t1\nq1\td1\t2", "a second time, and differently"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore", "no judgements"),
    ],
)
def test_a_benchmark_that_cannot_be_measured_with_is_refused(beir, file, content, why):
    (beir / file).write_text(content)
    with pytest.raises(UserError, match=why):
        load_beir(beir)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(beir):
    with pytest.raises(UserError, match="say --split test$"):
        load_beir(beir, "dev")


@pytest.mark.parametrize(
    "judgements",
    [
        "q1\td1\t1\nq2\td2\t1\n",
        "query_id\tdoc_id\trelevance\r\nq1\td1\t1\r\nq2\td2\t1\r\n",
        "q1 0 d1 1\nq2 0 d2 1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1.0\nq2\td2\t1.0\nq2\td2\t1\n",
    ],
    ids=["no header", "another header", "trec_eval's columns", "numbers with a point, one pair twice"],
)
def test_judgements_are_read_however_they_are_written(beir, judgements):
    (beir / "qrels" / "test.tsv").write_bytes(judgements.encode())
    assert load_beir(beir).judgements == {"q1": {"d1": 1}, "q2": {"d2": 1}}


def test_rows_may_have_numbers_as_ids_and_nothing_as_title_or_text(beir):
    (beir / "corpus.jsonl").write_text('{"_id": 1, "title": null, "text": "cat"}\n{"id": "2", "title": "Dog", "text": null}\n', encoding="utf-8-sig")
    (beir / "queries.jsonl").write_text('{"id": 7, "text": "cat"}\r\n')
    (beir / "qrels" / "test.tsv").write_text("7\t1\t1\n")
    found = load_beir(beir)
    assert [(p.id, p.text) for p in found.passages] == [("1", "cat"), ("2", "Dog\n\n")]
    assert (found.queries, found.judgements, found.notes) == ({"7": "cat"}, {"7": {"1": 1}}, ())


def test_a_packed_benchmark_is_the_same(beir):
    plain = load_beir(beir)
    for path in (beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels" / "test.tsv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load_beir(beir) == plain
    (beir / "corpus.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot read"):
        load_beir(beir)


def test_what_a_set_should_not_have_is_said_and_a_relevant_document_that_is_not_there_counts_as_missed(beir):
    (beir / "qrels" / "test.tsv").write_text("q1\td1\t1\nq1\tgone\t1\nq1\talso\t0\nq2\td2\t1\nnobody\td1\t1\n")
    (beir / "qrels" / "dev.tsv").write_text("q2\td1\t1\n")
    benchmark = load_beir(beir)
    assert [note.split(" (")[0] for note in benchmark.notes] == [
        "1 judged queries are not in queries.jsonl, and are left out",
        "1 relevant documents are not in the corpus, so that nobody can find them; they count as missed",
        "1 queries are judged in dev.tsv too: what was tuned on those is measured on what it was tuned on",
    ]
    assert evaluate(TfIdf(benchmark.passages), benchmark, (10,))["recall@10"] == {"q1": 0.5, "q2": 1}


def test_a_folder_without_a_benchmark_is_refused(tmp_path):
    with pytest.raises(UserError, match="BEIR's layout"):
        load_beir(tmp_path)
