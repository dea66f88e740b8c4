"""Invented facts: made the same from a seed, each in as many documents as it says, and judged by what a reply names."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from posttrain.retrieval.tfidf import TfIdf
from posttrain.tasks import check_gold, load
from posttrain.tasks.invented import Invented
from posttrain.types import Problem, UserError, answered

TASK = Invented(n_test=24, n_train=24)
PROBLEMS = TASK.problems("test")
TEXTS = {d.source: d.text for d in TASK.documents("test")}


def scored(problem: Problem, text: str):
    return asyncio.run(TASK.score(answered(problem, text)))


def of_kind(kind: str) -> Problem:
    return next(p for p in PROBLEMS if p.data["kind"] == kind)


@pytest.mark.parametrize("spec", ["invented:n_test=24", "invented:n_test=9,kinds=spread,spread=3,filler=6,misspelt=1,distractors=0"])
def test_every_gold_answer_scores_1_and_an_abstention_only_where_nothing_is_said(spec):
    task = load(spec)
    problems = task.problems("test")
    asyncio.run(check_gold(task, problems))
    for problem in problems:
        assert asyncio.run(task.score(answered(problem, "I do not know."))).value == (problem.data["kind"] == "absent")


def test_a_value_stands_in_the_gold_documents_and_in_no_other():
    for problem in PROBLEMS:
        for value in filter(None, problem.answer.split("|")):
            holding = [source for source, text in TEXTS.items() if value in text]
            assert len(holding) == 1 and holding[0] in problem.data["gold"]
    assert {p.data["kind"]: len(p.data["gold"]) for p in PROBLEMS} == {"one": 1, "absent": 0, "two_hop": 2, "spread": 6}
    assert Counter(p.data["kind"] for p in PROBLEMS) == dict.fromkeys(("one", "absent", "two_hop", "spread"), 6)


def test_every_question_has_namesakes_that_say_the_same_of_themselves():
    problem = of_kind("one")
    town = problem.data["gold"][0].partition("-")[0]
    names = {source.partition("-")[0] for source in TEXTS if f"-{problem.data['attribute']}-" in source}
    near = [name for name in names if len(name) == len(town) and sum(a != b for a, b in zip(name, town, strict=True)) == 1]
    assert len(near) == 2


def test_a_world_is_a_function_of_its_seed_and_the_splits_share_no_name():
    assert Invented(n_test=24, n_train=24).documents("test") == TASK.documents("test")
    assert Invented(n_test=24, seed=1).documents("test") != TASK.documents("test")
    towns = [{d.source.partition("-")[0] for d in TASK.documents(split)} for split in ("train", "test")]
    asked = [{p.data["gold"][0].partition("-")[0] for p in TASK.problems(split) if p.data["gold"]} for split in ("train", "test")]
    assert not asked[0] & asked[1] and not asked[0] & towns[1] and not asked[1] & towns[0]


def test_a_reply_is_right_if_it_names_the_value_and_no_other():
    problem = next(p for p in PROBLEMS if p.data["kind"] == "one" and p.data["attribute"] == "mayor")
    other = next(p for p in PROBLEMS if p.data["attribute"] == "mayor" and p.answer not in ("", problem.answer))
    assert scored(problem, f"It was {problem.answer.upper()}, of course [1].").value == 1
    copied = scored(problem, f"{problem.answer} or {other.answer}")
    assert (copied.value, copied.parts["copied"]) == (0, 1)
    nothing = scored(problem, "A town.")
    assert (nothing.value, nothing.parts) == (0, {"abstained": 0, "copied": 0, "parsed": 0})


def test_part_of_a_list_is_not_all_of_it():
    problem = of_kind("spread")
    assert scored(problem, " ".join(problem.answer.split("|")[:-1])).value == 0


def test_any_year_counts_as_an_answer_to_what_stands_nowhere():
    problem = next(p for p in PROBLEMS if p.data["kind"] == "absent" and p.data["attribute"] == "year")
    assert scored(problem, "The sources do not say, but I think 1742.").value == 0
    assert scored(problem, "The sources do not say.").value == 1


def test_words_find_the_town_and_a_misspelt_name_hides_it():
    def found(task: Invented) -> float:
        retriever = TfIdf(task.passages("test"))
        ones = [p for p in task.problems("test")]
        return sum(retriever.search(p.messages[0].content, 1)[0].source in p.data["gold"] for p in ones) / len(ones)

    assert found(Invented(kinds=("one",), n_test=40)) == 1
    assert found(Invented(kinds=("one",), n_test=40, misspelt=1.0)) < 0.5


@pytest.mark.parametrize("options", [{"kinds": ("two",)}, {"spread": 1}, {"misspelt": 2.0}, {"filler": 7}, {"n_test": 0}])
def test_what_cannot_be_made_is_refused(options):
    with pytest.raises(UserError, match="invented"):
        Invented(**options)
