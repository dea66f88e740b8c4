"""Made sums: right answers, levels as documented, and a test that no training problem leaks into."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest

from posttrain.tasks import check_gold
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.types import Problem, UserError, answered

SHAPES = {
    1: r"\d\+\d",
    2: r"\d\d\+\d\d",
    3: r"\d\d[+-]\d\d",
    4: r"\d\d[+-]\d\d|[2-9]\*\d\d",
    5: r"(\d\d[+-]\d\d|[2-9]\*\d\d)[+-]\d\d",
}


def expression(problem: Problem) -> str:
    return re.fullmatch(r"What is (\S+)\? Answer with the number only\.", problem.messages[0].content)[1]


@pytest.mark.parametrize("level", SHAPES)
def test_each_level_asks_what_it_says_and_its_answers_are_right(level: int):
    for split in ("train", "test"):
        for problem in Arithmetic((level,)).problems(split):
            assert re.fullmatch(SHAPES[level], expression(problem))
            assert problem.answer == str(eval(expression(problem)))
            assert [message.role for message in problem.messages] == ["user"]


@pytest.mark.parametrize("level", SHAPES)
def test_gold_answers_score_1_and_changed_ones_0(level: int):
    task = Arithmetic((level,), n_train=20)
    asyncio.run(check_gold(task, task.problems("train")))
    for problem in task.problems("train"):
        value = int(problem.answer)
        for wrong in (str(value + 1), str(-value or 1), f"{value or 1}0", f"{value} {value - 1}", expression(problem), ""):
            assert asyncio.run(task.score(answered(problem, wrong))).value == 0


def test_train_and_test_share_no_expression_nor_a_rearrangement_of_one_whatever_the_seeds():
    train = {
        "".join(sorted(expression(p)))
        for seed in (0, 1)
        for p in Arithmetic((1, 2, 3), n_train=2000, seed=seed).problems("train")
    }
    for seed in (0, 1, 2):
        for problem in Arithmetic((1,), n_test=100, seed=seed).problems("test"):
            assert "".join(sorted(expression(problem))) not in train


def test_the_one_digit_sums_are_all_dealt_out_and_about_a_fifth_of_them_to_the_test():
    task = Arithmetic((1,), n_train=1000, n_test=1000)
    train, test = task.problems("train"), task.problems("test")
    assert len({expression(p) for p in (*train, *test)}) == len(train) + len(test) == 100
    assert len(test) == 21


def test_about_a_fifth_of_the_larger_levels_goes_to_the_test():
    task = Arithmetic((2,), n_train=10_000, n_test=10_000)
    assert len(task.problems("train")) + len(task.problems("test")) == 8100
    assert 0.17 < len(task.problems("test")) / 8100 < 0.23


def test_by_default_levels_1_and_2_are_mixed_in_the_same_proportion_in_train_and_test():
    task = Arithmetic()
    for split, size in (("train", 256), ("test", 64)):
        problems = task.problems(split)
        assert len({problem.id for problem in problems}) == len(problems) == size
        assert 0.28 < sum(len(expression(problem)) == 3 for problem in problems) / size < 0.36
        first = [len(expression(problem)) for problem in problems[:20]]
        assert {3, 5} <= set(first)


def test_a_seed_changes_the_problems_and_a_size_only_adds_to_them():
    small, large = Arithmetic(n_test=20), Arithmetic(n_test=40)
    assert {p.id for p in small.problems("test")} <= {p.id for p in large.problems("test")}
    assert {p.id for p in small.problems("test")} != {p.id for p in Arithmetic(n_test=20, seed=1).problems("test")}


def test_every_process_makes_the_same_problems():
    code = (
        "from posttrain.tasks.arithmetic import Arithmetic; task = Arithmetic((1, 2, 3, 4, 5))\n"
        "print([p.id for split in ('train', 'test') for p in task.problems(split)])"
    )
    ours = [p.id for split in ("train", "test") for p in Arithmetic((1, 2, 3, 4, 5)).problems(split)]
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{ours}\n"


@pytest.mark.parametrize("options", [{"levels": ()}, {"levels": (0,)}, {"levels": (1, 6)}, {"n_train": 0}, {"n_test": -1}])
def test_levels_and_sizes_that_do_not_exist_are_refused(options: dict):
    with pytest.raises(UserError, match="arithmetic"):
        Arithmetic(**options)


def test_another_split_is_refused():
    with pytest.raises(UserError, match="train and test, not 'valid'"):
        Arithmetic().problems("valid")
