"""Every reasoning-gym generator: gold answers score 1 and changed ones less, wherever they are made and whatever is tried."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import getsource
from textwrap import dedent

import pytest

from posttrain.rewards import workers
from posttrain.tasks import check_gold
from posttrain.tasks.reasoning_gym import ReasoningGym, extract_answer
from posttrain.types import Problem, UserError, answered

WORKER = "posttrain.tasks.reasoning_gym_worker"
MADE_ELSEWHERE = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
FRAGILE = (
    "isomorphic_strings",
    "polynomial_multiplication",
    "ransom_note",
    "word_ladder",
    "list_functions",
    "codeio",
    "pool_matrix",
)
"""Generators that depend on the order of a set, or draw from the global random state."""


def generators() -> list[str]:
    return sorted(set(workers.call(f"{WORKER}:generators", timeout_s=60)) - {"composite"})


def value(task: ReasoningGym, problem: Problem, answer: str) -> float:
    return asyncio.run(task.score(answered(problem, f"I think <answer>{answer}</answer>"))).value


def changed(problem: Problem) -> Iterator[str]:
    """Wrong answers: what is left with most of it cut off; and, where it is a whole number, the next one."""
    gold = problem.answer.strip()
    # Of premises in a row, all of which follow, the first still does.
    yield "Z" if "∧" in gold else gold[: len(gold) // 4]
    if re.fullmatch(r"-?\d+", gold):
        yield str(int(gold) + 1)


def test_of_every_generator_gold_answers_score_1_changed_ones_less_and_no_test_problem_is_trained_on():
    names, faults = generators(), {}
    assert len(names) == 105
    for name in names:
        task = ReasoningGym(name, n_train=2, n_test=2)
        test, train = task.problems("test"), task.problems("train")
        asyncio.run(check_gold(task, test))
        wrong = [(answer, value(task, problem, answer)) for problem in test for answer in changed(problem)]
        if len(test) != 2 or len(train) != 2 or not all(0 <= score < 1 for _, score in wrong):
            faults[name] = (len(test), len(train), wrong)
        assert not {p.messages for p in test} & {p.messages for p in train}
        assert json.loads(json.dumps(dict(test[0].data))) == dict(test[0].data)
    assert not faults


@pytest.mark.slow
def test_of_every_generator_nearly_all_of_twenty_entries_are_problems_with_a_gold_answer_that_scores_1():
    left_out = {}
    for name in set(generators()) - {"knight_swap"}:
        reasons = [entry["left_out"] for entry in ReasoningGym(name).entries("train", 0, 20) if "left_out" in entry]
        if len(reasons) > 3:
            left_out[name] = reasons
    assert not left_out


@pytest.mark.parametrize("name", MADE_ELSEWHERE)
def test_the_generators_without_answers_get_answers_that_their_judges_accept(name: str):
    task = ReasoningGym(name, n_test=12)
    problems = task.problems("test")
    assert len(problems) == 12
    asyncio.run(check_gold(task, problems))


def test_harder_boards_of_the_generators_without_answers_are_solved_too():
    for name, config in (
        ("rush_hour", {"min_moves": 40}),
        ("boxnet", {"max_box_num": 3, "max_row_num": 6}),
        ("rubiks_cube", {"cube_size": 2}),
        ("graph_color", {"max_num_vertices": 20}),
        ("propositional_logic", {"min_statements": 1, "max_statements": 1}),
    ):
        entries = ReasoningGym(name, config).entries("test", 0, 4)
        assert [entry.get("left_out") for entry in entries if "left_out" in entry] == [], name


def test_a_problem_that_its_judge_cannot_read_is_left_out_and_a_task_of_nothing_else_is_refused():
    entries = ReasoningGym("rubiks_cube", {"cube_size": 5}).entries("test", 0, 12)
    assert any("the judge gives" in entry.get("left_out", "") for entry in entries)
    hopeless = ReasoningGym("rubiks_cube", {"cube_size": 5, "min_scramble_steps": 40, "max_scramble_steps": 40}, n_test=2)
    with pytest.raises(UserError, match="rg:rubiks_cube has no test problem: the judge gives"):
        hopeless.problems("test")


def test_every_process_makes_the_same_problems_whatever_its_hash_seed():
    def printed(names: tuple[str, ...], n: int) -> list[list[str]]:
        return [[p.messages[0].content, p.answer] for name in names for p in ReasoningGym(name, n_test=n).problems("test")]

    show = f"print(json.dumps(printed({FRAGILE}, 8)))"
    code = f"import json; from posttrain.tasks.reasoning_gym import *\n{dedent(getsource(printed))}\n{show}"
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)}
    theirs = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert json.loads(theirs) == printed(FRAGILE, 8)


def test_the_order_in_which_entries_are_made_does_not_change_them():
    task = ReasoningGym("list_functions")
    whole = task.entries("test", 0, 40)
    assert [task.entries("test", i, i + 1)[0] for i in (39, 20, 3)] == [whole[39], whole[20], whole[3]]


def test_more_problems_are_the_same_ones_and_then_others_and_the_test_does_not_depend_on_the_training_set():
    small, large = ReasoningGym("gcd", n_train=5, n_test=10), ReasoningGym("gcd", n_train=50, n_test=30)
    assert large.problems("test")[:10] == small.problems("test")
    assert ReasoningGym("gcd", n_train=500, n_test=10).problems("test") == small.problems("test")
    assert ReasoningGym("gcd", n_test=10, seed=1).problems("test") != small.problems("test")


def test_a_small_generator_gives_fewer_problems_all_different_and_none_in_both_splits():
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    task = ReasoningGym("chain_sum", config, n_train=500, n_test=40)
    train, test = ([p.messages for p in task.problems(split)] for split in ("train", "test"))
    assert len(test) == 40
    assert 80 < len(train) < 500
    assert len(set(train) | set(test)) == len(train) + len(test)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>42</answer>", "42"),
        ("<answer>41</answer> no, <answer> 42\n</answer> so there", "42"),
        ("<answer>1 2\n3 4</answer>", "1 2\n3 4"),
        ("<answer><answer>42</answer>", "42"),
        (" 42 ", "42"),
        ("<answer>42", "<answer>42"),
        ("42</answer>", "42</answer>"),
        ("<answer></answer>", ""),
        ("", ""),
    ],
)
def test_the_last_closed_tags_hold_the_answer_and_without_any_all_of_the_text_does(text: str, answer: str):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("game_of_life_halting", "who knows"),
        ("complex_arithmetic", "nan"),
        ("puzzle24", "4*3*2*1"),
        ("puzzle24", "24*1*1*1"),
        ("coin_flip", "0"),
    ],
)
def test_answers_that_the_generators_own_judge_falls_for_score_less_than_1(name: str, answer: str):
    task = ReasoningGym(name, n_test=8)
    for problem in task.problems("test"):
        assert value(task, problem, answer) < 1


def test_the_wrong_sign_is_a_wrong_answer_to_a_word_problem():
    task = ReasoningGym("gsm_symbolic", n_test=8)
    for problem in task.problems("test"):
        assert value(task, problem, f"-{problem.answer}") == 0
        assert value(task, problem, f"{problem.answer} in all") == 1


@pytest.mark.parametrize("name", ["boxnet", "game_of_life", "prime_factorization"])
@pytest.mark.parametrize("answer", ["no idea", "{}", "[1]", "7", "x × y"])
def test_an_answer_in_the_wrong_form_is_wrong_and_not_unjudged(name: str, answer: str):
    task = ReasoningGym(name, n_test=3)
    for problem in task.problems("test"):
        assert value(task, problem, answer) < 1


HOSTILE = (
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "__import__('os')._exit(3)",
    "open('/etc/passwd').read()",
    "exit()!",
    "eval(chr(49))",
    "(lambda: 1)()",
    "Integral(x, x)",
)


@pytest.mark.parametrize(
    "name", ["spiral_matrix", "n_queens", "countdown", "simple_integration", "polynomial_multiplication", "puzzle24"]
)
def test_python_in_an_answer_is_never_run(name: str):
    task = ReasoningGym(name, n_test=1)
    [problem] = task.problems("test")
    for answer in HOSTILE:
        score = asyncio.run(task.score(answered(problem, f"<answer>{answer}</answer>")))
        assert score.value == 0, (answer, score.explanation)


def test_the_list_of_judges_that_evaluate_answers_is_complete():
    """Reads the judges of the installed version: one that begins to use `eval` must be added to the list."""
    found = set(workers.call("tests.tasks.evaluating_judges:names", timeout_s=60))
    listed = set(workers.call(f"{WORKER}:evaluating", timeout_s=60))
    assert found == listed


def test_expressions_that_are_meant_are_still_judged():
    task = ReasoningGym("countdown", n_test=5)
    for problem in task.problems("test"):
        assert value(task, problem, f"({problem.answer})*1") < 1
        assert value(task, problem, f"0+{problem.answer}") < 1
        assert value(task, problem, f"-(-({problem.answer}))") == 1


def test_a_judge_that_hangs_leaves_the_attempt_unscored_and_judges_the_next():
    task = ReasoningGym("countdown", n_test=1, timeout_s=1.0)
    [problem] = task.problems("test")
    score = asyncio.run(task.score(answered(problem, "<answer>9**9**9**9</answer>")))
    assert score.is_unscored
    assert "rg:countdown gave nothing" in score.explanation
    assert value(task, problem, problem.answer) == 1


def test_a_generator_that_takes_too_long_is_a_user_error_that_says_so():
    with pytest.raises(
        UserError, match=r"rg:knight_swap could not be made \(it had not .*\): try easier options, or fewer problems"
    ):
        ReasoningGym("knight_swap", n_test=16, make_timeout_s=0.05).problems("test")
