"""Recall, nDCG and MRR by hand, and BEIR's layout from disk."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("corpus.jsonl", '{"_id": "d1"}', "no row of BEIR's"),
        ("corpus.jsonl", '{"_id": "d2", "text": "a"}', "which corpus.jsonl does not have"),
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "a"}', "of a row before it"),
        ("queries.jsonl", '{"_id": "q1", "text": "a"}', "which queries.jsonl does not have"),
        ("qrels/test.tsv", "q1\td1\t1", "does not begin with the header"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1 1", "no judgement"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore", "no judgements"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1", "keep it in one of them"),
    ],
)
def test_a_benchmark_that_is_not_whole_is_refused(beir, file, content, why):
    (beir / file).write_text(content)
    with pytest.raises(UserError, match=why):
        load_beir(beir)


def test_a_folder_without_a_benchmark_is_refused(tmp_path):
    with pytest.raises(UserError, match="BEIR's layout"):
        load_beir(tmp_path)
