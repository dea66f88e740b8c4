"""Failures told apart by hand, the identity, and retrievers side by side."""

from __future__ import annotations

import asyncio
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from posttrain.evals.measure import evaluation
from posttrain.evals.rag import Anatomy, anatomy, residual, verdict
from posttrain.evals.rag_table import answers_table
from posttrain.evals.records import Attempt, Record
from posttrain.tasks.invented import Invented
from posttrain.types import Completion, Message, Problem, Retrieval, Rollout, Score, Source, UserError, unscored


def attempt(value: float, shown=(), left_out=(), **parts) -> Attempt:
    sources = tuple(Source(f"{name}:0-9", name, 0, 9, "a passage", 1.0) for name in shown)
    completion = Completion((1, 2, 3), (4, 5), (0.0, 0.0), "stop")
    rollout = Rollout(problem(), (Message("assistant", "x"),), (completion,), retrievals=(Retrieval("?", "", sources, tuple(left_out)),))
    return Attempt(rollout, unscored("?") if math.isnan(value) else Score(value, parts))


def problem(name: str = "p", gold=("a",), kind: str = "one") -> Problem:
    return Problem(name, (Message("user", "?"),), "", {"gold": list(gold), "kind": kind})


def verdict_of(gold, made: Attempt) -> str:
    return verdict(Record(problem(gold=gold), (made,)), made)


def test_each_failure_has_its_own_name():
    assert verdict_of(["a"], attempt(1, [])) == "right"
    assert verdict_of([], attempt(1, ["z"])) == "right"
    assert verdict_of([], attempt(0, ["z"])) == "document absent"
    assert verdict_of(["a"], attempt(0, ["z", "y"])) == "wrong document"
    assert verdict_of(["a"], attempt(0, ["z", "a"])) == "reader"
    assert verdict_of(["a", "b"], attempt(0, ["a", "z"])) == "wrong document"
    assert verdict_of(["a", "b", "c"], attempt(0, ["a", "b"])) == "more than fits"
    assert verdict_of(["a", "b"], attempt(0, ["a", "z"], ["b:40-90"])) == "more than fits"
    assert verdict_of(["a"], attempt(math.nan, ["z"])) == "unscored"


def test_an_attempt_that_looked_twice_saw_what_it_saw_in_both():
    first, second = attempt(0, ["z"]), attempt(0, ["a"])
    rollout = first.rollout
    both = Attempt(Rollout(rollout.problem, rollout.messages, retrievals=rollout.retrievals + second.rollout.retrievals), Score(0.0))
    assert verdict_of(["a"], both) == "reader"


def records() -> list[Record]:
    return [
        Record(problem("hit and right"), (attempt(1, ["a", "z"]),)),
        Record(problem("hit and wrong"), (attempt(0, ["z", "a"], copied=1.0),)),
        Record(problem("miss and wrong"), (attempt(0, ["z"], abstained=1.0),)),
        Record(problem("absent", gold=(), kind="absent"), (attempt(1, ["z"], abstained=1.0),)),
    ]


def test_retrieval_and_reading_are_measured_apart():
    pytest.importorskip("pytrec_eval")
    found = anatomy(evaluation("t", 1, 0, records()), k=2)
    wanted = {"accuracy": 0.5, "recall": 2 / 3, "accuracy_hit": 0.5, "accuracy_miss": 0, "accuracy_absent": 1, "copied": 0.25, "abstained_wrongly": 1 / 3,
              "recall@2": 2 / 3, "ndcg@2": (1 + 1 / math.log2(3)) / 3, "read_tokens": 3, "written_tokens": 2}  # fmt: skip
    assert {name: found[name].value for name in wanted} == pytest.approx(wanted)
    assert (found["accuracy_hit"].n, found["recall"].n, found["accuracy_absent"].n) == (2, 3, 1)
    assert found.counts == {"right": 2, "document absent": 0, "wrong document": 1, "more than fits": 0, "reader": 1, "unscored": 0}
    assert found.kinds["absent"]["right"] == 1 and found.residual < 1e-12


@given(st.lists(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, math.nan]), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_identity_holds_whatever_happened(rows):
    made = [Record(problem(str(i)), tuple(attempt(value, ["a"] if hit else ["z"]) for value, hit in row)) for i, row in enumerate(rows)]
    off = residual(made)
    assert math.isnan(off) if all(math.isnan(value) for row in rows for value, _ in row) else off < 1e-12


def test_a_task_that_names_no_documents_cannot_be_told_apart():
    with pytest.raises(UserError, match="does not say which documents"):
        anatomy(evaluation("t", 1, 0, [Record(Problem("p", (Message("user", "?"),), ""), (attempt(1),))]))


def test_gold_answers_of_invented_facts_are_all_right():
    task = Invented(n_test=8)
    made = []
    for each in task.problems("test"):
        rollout = Rollout(each, (Message("assistant", task.solution(each)),))
        made.append(Record(each, (Attempt(rollout, asyncio.run(task.score(rollout))),)))
    assert anatomy(evaluation("invented", 1, 0, made)).counts["right"] == 8


def test_retrievers_are_compared_query_by_query():
    pytest.importorskip("pytrec_eval")
    from posttrain.evals.rankings import side_by_side
    from posttrain.retrieval.metrics import Benchmark
    from posttrain.retrieval.passages import Passage
    from posttrain.retrieval.tfidf import TfIdf

    texts = {"a": "red cat", "b": "blue dog", "c": "old wine"}
    passages = tuple(Passage(name, text, 0.0, name, 0, len(text)) for name, text in texts.items())
    benchmark = Benchmark(passages, {"q": "cat", "r": "dog", "s": "zebra"}, {"q": {"a": 1}, "r": {"b": 1}, "s": {"c": 0}})
    whole, half = side_by_side({"whole": TfIdf(passages), "half": TfIdf(passages[:1])}, benchmark, (1,))
    assert (whole.metrics["ndcg@1"].value, whole.metrics["ndcg@1"].n, whole.metrics["ndcg@1"].n_unscored) == (1, 2, 1)
    assert whole.differences == {} and half.differences["ndcg@1"].value == -0.5 and half.ms_per_query > 0


def test_what_rests_on_scores_is_withheld_where_too_many_are_missing_and_the_notes_are_shown():
    unjudged = Record(problem("unjudged"), (attempt(math.nan, ["a"]),))
    evaluated = evaluation("t", 1, 0, [*records(), unjudged])
    hidden, asked_for = anatomy(evaluated), anatomy(evaluated, unscored_ok=True)

    def shown(found: Anatomy) -> str:
        stream = io.StringIO()
        Console(file=stream, width=200).print(next(iter(answers_table({"rag": found}, "t"))))
        return stream.getvalue()

    lines = {line.strip().split("  ")[0]: line for line in shown(hidden).splitlines()}
    assert "withheld" in lines["accuracy given a hit"] and "withheld" not in lines["all documents shown"]
    assert "rag: 20% of the attempts could not be scored" in shown(hidden) and "rag: 5 problems are too few" in shown(hidden)
    assert "withheld" not in shown(asked_for)
