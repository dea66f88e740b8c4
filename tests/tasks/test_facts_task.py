import asyncio

import pytest

from posttrain.tasks import check_gold, load
from posttrain.types import Message, Problem, UserError, answered

TASK = load("facts")


def value(answer: str, text: str) -> float:
    problem = Problem("p", (Message("user", "?"),), answer)
    return asyncio.run(TASK.score(answered(problem, text))).value


def test_every_gold_answer_scores_1_and_that_of_another_question_0():
    problems = TASK.problems("test")
    assert len(problems) == len({p.id for p in problems}) == 64
    asyncio.run(check_gold(TASK, problems))
    for problem, other in zip(problems, problems[2:] + problems[:2], strict=True):
        assert asyncio.run(TASK.score(answered(problem, TASK.solution(other)))).value == 0


def test_the_answer_counts_as_words_of_its_own_in_any_case():
    assert value("Paris", "The capital of France is PARIS.") == 1
    assert value("Paris", "Parisian cafés") == 0
    assert value("New Delhi", "It is new  Delhi, of course") == 1
    assert value("autumn|fall", "Fall comes next") == 1
    assert value("cat", "") == 0


def test_there_is_nothing_to_train_on():
    with pytest.raises(UserError, match="nothing to train on"):
        TASK.problems("train")
