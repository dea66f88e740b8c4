"""HumanEval and MBPP from files: solutions score 1, mutated ones 0, and every way in which a row can be wrong."""

from __future__ import annotations

import ast
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from posttrain.rewards.unit_tests import Tests, unit_tests
from posttrain.tasks import check_gold, load
from posttrain.tasks.code_files import CodeFile
from posttrain.tasks.humaneval import HumanEval
from posttrain.tasks.mbpp import MBPP
from posttrain.types import Problem, Rollout, UserError, answered
from tests.sandboxed import needs_sandbox

MIDDLE_PROMPT = '''from typing import List


def middle(items: List[int]) -> int:
    """ The middle one of an odd number of items, by size.
    >>> middle([3, 1, 2])
    2
    """
'''
MIDDLE_TEST = """

METADATA = {}


def check(candidate):
    assert candidate([3, 1, 2]) == 2
    assert candidate([5]) == 5
    assert candidate([9, 1, 8, 2, 7]) == 7
"""
DECODE_PROMPT = '''def encode(text: str) -> str:
    """ Each letter twice. """
    return "".join(2 * letter for letter in text)


def decode(text: str) -> str:
    """ The text that encode made into this. """
'''
DECODE_TEST = """

def check(candidate):
    from random import choice, seed
    seed(1)
    for _ in range(20):
        text = "".join(choice("abc") for _ in range(5))
        assert candidate(encode(text)) == text
"""
HUMANEVAL = [
    {
        "task_id": "Own/0", "entry_point": "middle", "prompt": MIDDLE_PROMPT, "test": MIDDLE_TEST,
        "canonical_solution": "    return sorted(items)[len(items) // 2]\n",
    },
    {"task_id": "Own/1", "entry_point": "decode", "prompt": DECODE_PROMPT, "test": DECODE_TEST, "canonical_solution": "    return text[::2]\n"},
]  # fmt: skip

TREE = """class Tree:
    def __init__(self, *children):
        self.children = children

def leaves(tree):
    return sum(map(leaves, tree.children)) or 1"""
MBPP_ROWS = [
    {
        "task_id": 11, "text": "Write a function to sum the squares of a list.",
        "code": "def squares(items):\r\n    return sum(x * x for x in items)",
        "test_list": ["assert squares([1, 2]) == 5", "assert squares([]) == 0", "assert squares([-3]) == 9"], "test_setup_code": "",
    },
    {
        "task_id": 601, "text": "Write a function that counts the leaves of a tree.", "code": TREE,
        "test_list": ["assert leaves(Tree()) == 1", "assert leaves(root) == 3"],
        "test_setup_code": "root = Tree(Tree(), Tree(Tree(), Tree()))",
    },
    {
        "task_id": 511, "prompt": "Write a function max that finds the greater.", "code": "def max(a, b):\n    return a if a > b else b",
        "test_list": ["assert max(1, 2) == 2", "assert math.isclose(max(2.5, 1), 2.5)"], "test_imports": ["import math"],
    },
]  # fmt: skip


def write(path: Path, rows: Sequence[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def humaneval(tmp_path: Path) -> HumanEval:
    return HumanEval(path=write(tmp_path / "humaneval.jsonl", HUMANEVAL))


@pytest.fixture
def mbpp(tmp_path: Path) -> MBPP:
    return MBPP(path=write(tmp_path / "mbpp.jsonl", MBPP_ROWS))


def value(task: CodeFile, problem: Problem, reply: str) -> float:
    return asyncio.run(task.score(answered(problem, reply))).value


class _Wrong(ast.NodeTransformer):
    """Every `return X` returns something that X is not."""

    def visit_Return(self, node: ast.Return) -> ast.Return:
        return ast.Return(ast.Tuple([node.value or ast.Constant(None), ast.Constant("mutated")], ast.Load()))


def mutated(program: str) -> str:
    return ast.unparse(ast.fix_missing_locations(_Wrong().visit(ast.parse(program))))


# ----------------------------------------------------------------------------------------------------------- in the sandbox


@needs_sandbox
def test_solutions_score_1_in_every_form_of_reply_and_mutated_ones_0(humaneval: HumanEval, mbpp: MBPP):
    for task, split in ((humaneval, "test"), (mbpp, "test"), (mbpp, "train")):
        problems = task.problems(split)
        asyncio.run(check_gold(task, problems))
        for problem in problems:
            assert value(task, problem, problem.answer) == 1
            assert value(task, problem, f"```python\n{mutated(problem.answer)}\n```") == 0


@needs_sandbox
def test_a_bare_continuation_is_judged_behind_its_prompt(humaneval: HumanEval):
    middle, decode = humaneval.problems("test")
    assert value(humaneval, middle, "return sorted(items)[len(items) // 2]\n\nprint('done')") == 1
    assert value(humaneval, decode, "    return text[1::2]\n") == 1
    assert value(humaneval, decode, "    return text\n") == 0


@needs_sandbox
def test_a_program_cannot_redefine_the_prompts_helpers_for_its_tests(humaneval: HumanEval):
    decode = humaneval.problems("test")[1]
    assert value(humaneval, decode, "```python\ndef encode(text): return text\ndef decode(text): return text\n```") == 0


def test_a_reply_without_a_program_is_wrong_and_a_broken_attempt_unscored(mbpp: MBPP):
    problem = mbpp.problems("test")[0]
    found = asyncio.run(mbpp.score(answered(problem, "I cannot do that.")))
    assert (found.value, found.explanation) == (0, "there is no program in the reply")
    assert asyncio.run(mbpp.score(Rollout(problem, (), outcome="error", error="no engine"))).is_unscored


# ------------------------------------------------------------------------------------------------------------------ the rows


def test_humaneval_is_all_test_and_shows_the_prompt_and_not_the_tests(humaneval: HumanEval):
    problem = humaneval.problems("test")[0]
    assert problem.id == "humaneval/1"
    assert "def middle" in problem.messages[0].content
    assert "candidate" not in problem.messages[0].content
    assert problem.answer == HUMANEVAL[0]["prompt"] + HUMANEVAL[0]["canonical_solution"]
    with pytest.raises(UserError, match="humaneval has no train problems here"):
        humaneval.problems("train")


def test_mbpp_is_dealt_by_the_papers_numbers_or_by_a_hash(mbpp: MBPP):
    assert [p.data["task_id"] for p in mbpp.problems("test")] == [11]
    assert [p.data["task_id"] for p in mbpp.problems("train")] == [601, 511]
    assert len(load(f"mbpp:path={mbpp.path},test_frac=1").problems("test")) == 3


def test_mbpp_shows_as_many_tests_as_it_is_told(mbpp: MBPP):
    shown = [load(f"mbpp:path={mbpp.path},n_shown={n}").problems("test")[0].messages[0].content.count("assert") for n in (1, 2, 3, 9)]
    assert shown == [1, 2, 3, 3]


def test_problems_are_json(humaneval: HumanEval, mbpp: MBPP):
    for problem in (*humaneval.problems("test"), *mbpp.problems("train")):
        assert json.loads(json.dumps(dict(problem.data))) == problem.data


@pytest.mark.parametrize(
    ("kind", "row", "complaint"),
    [
        (HumanEval, {**HUMANEVAL[0], "test": ""}, "line 1 has no text under 'test'"),
        (HumanEval, {"prompt": "def f():"}, "line 1 has no text under 'entry_point'"),
        (MBPP, {**MBPP_ROWS[0], "test_list": []}, "line 1 has no list of tests under 'test_list'"),
        (MBPP, {**MBPP_ROWS[0], "test_list": "assert f()"}, "line 1 has no list of tests under 'test_list'"),
        (MBPP, {**MBPP_ROWS[0], "task_id": "eleven"}, "has no number under 'task_id' to be dealt by: say test_frac"),
        (MBPP, {**MBPP_ROWS[0], "code": None}, "line 1 has no text under 'code'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, kind: type[CodeFile], row: dict, complaint: str):
    with pytest.raises(UserError) as refused:
        kind(path=write(tmp_path / "a.jsonl", [row])).problems("test")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "complaint"), [("humaneval:timeout_s=0", "timeout_s must be above 0"), ("mbpp:n_shown=0", "n_shown must be at least 1")]
)
def test_options_that_make_no_sense_are_refused(spec: str, complaint: str):
    with pytest.raises(UserError, match=complaint):
        load(spec)


# -------------------------------------------------------------------------------------------------------------- the real ones


@pytest.mark.slow
@needs_sandbox
@pytest.mark.parametrize(
    ("variable", "name", "splits"), [("POSTTRAIN_HUMANEVAL", "humaneval", ("test",)), ("POSTTRAIN_MBPP", "mbpp", ("test", "train"))]
)
def test_every_solution_of_the_data_set_scores_1_and_every_mutated_one_0(variable: str, name: str, splits: Sequence[str]):
    if variable not in os.environ:
        pytest.skip(f"{variable} names no file")
    task = load(f"{name}:path={os.environ[variable]}")
    problems = [problem for split in splits for problem in task.problems(split)]

    async def judge_all() -> tuple[list, list]:
        gold = [task.score(answered(problem, task.solution(problem))) for problem in problems]
        wrong = [unit_tests(mutated(problem.answer), task.tests(problem), task.timeout_s) for problem in problems]
        return await asyncio.gather(*gold), await asyncio.gather(*wrong)

    gold, wrong = asyncio.run(judge_all())
    assert [(p.id, s.explanation) for p, s in zip(problems, gold, strict=True) if s.value != 1] == []
    assert [(p.id, s.explanation) for p, s in zip(problems, wrong, strict=True) if s.value != 0] == []


def test_a_set_of_tests_is_no_test_case_of_pytests():
    assert not Tests.__test__
