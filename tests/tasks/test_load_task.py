"""Tasks by name: the grammar, the types, and the sentences for what does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from posttrain.tasks import check_gold, load, split_specs
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.gsm8k import GSM8K
from posttrain.tasks.math500 import Math500
from posttrain.tasks.reasoning_gym import ReasoningGym
from posttrain.types import Problem, Rollout, Score, UserError, unscored


@pytest.mark.parametrize(
    ("spec", "task"),
    [
        ("arithmetic", Arithmetic()),
        ("arithmetic:", Arithmetic()),
        ("arithmetic:levels=1+3,n_train=10, seed=7", Arithmetic((1, 3), n_train=10, seed=7)),
        ("arithmetic:levels=[1, 3]", Arithmetic((1, 3))),
        ("arithmetic:levels=2", Arithmetic((2,))),
        ("gsm8k:path=a=b.jsonl,test_frac=1", GSM8K(path="a=b.jsonl", test_frac=1.0)),
        ("math500:path_test=x.jsonl,n_test=5,timeout_s=2", Math500(path_test="x.jsonl", n_test=5, timeout_s=2.0)),
        ("rg:chain_sum", ReasoningGym("chain_sum")),
        (
            "rg:chain_sum,n_test=5,min_terms=3,allow_negation=true",
            ReasoningGym("chain_sum", {"min_terms": "3", "allow_negation": "true"}, n_test=5),
        ),
    ],
)
def test_a_spec_gives_the_task_with_its_options_typed(spec: str, task: object):
    assert load(spec) == task


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("arithmetik", "there is no task 'arithmetik'; there is arithmetic, aqua, arc, asked, bbq, capitals, commonsenseqa, conversation:of=TASK, facts, files, gsm8k, humaneval, ifeval, invented, ledger, math500, mbpp, medqa, mmlu, openbookqa, persona, piqa, pubmedqa, rg:GENERATOR, sycophancy:of=TASK, tree, truthfulqa, winogenerated, xstest"),
        ("", "there is no task ''"),
        ("arithmetic:level=1", "there is no option of arithmetic 'level'; there is levels, n_test, n_train, seed"),
        ("arithmetic:levels=7", "arithmetic has the levels 1 to 5"),
        ("arithmetic:n_train=many", "arithmetic: n_train cannot be 'many': it must be like 256"),
        ("arithmetic:n_train=1.5", "n_train cannot be '1.5'"),
        ("arithmetic:n_train", "options are written key=value"),
        ("arithmetic:seed=1,seed=2", "gives seed twice"),
        ("rg", "name a generator first"),
        ("rg:n_test=5", "name a generator first"),
        ("rg:chain_sums", "there is no reasoning-gym generator 'chain_sums'; there is chain_sum, decimal_chain_sum, ab, acre"),
        ("rg:composite", "only a mixture"),
        ("rg:chain_sum,min_term=3", "there is no option of rg:chain_sum 'min_term'; there is min_terms"),
        ("rg:chain_sum,min_terms=x", "rg:chain_sum: min_terms cannot be 'x': it must be like 2"),
        ("rg:chain_sum,min_terms=9,max_terms=2", "rg:chain_sum does not take"),
        ("rg:chain_sum,seed=x", "seed cannot be 'x'"),
        ("rg:word_sorting,transformation=upsidedown", "transformation cannot be 'upsidedown'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(spec: str, complaint: str):
    with pytest.raises(UserError) as refused:
        load(spec)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        "rg:basic_arithmetic,operators=['+', '-']",
        "rg:time_intervals,min_date=2000-01-01,task_types=date+time",
        "rg:word_sorting,transformation=lowercase",
        "rg:codeio,difficulty=6",
        "rg:figlet_font,static_word=HELLO",
        "rg:complex_arithmetic,operations_weights=[1, 0, 0, 0]",
    ],
)
def test_a_generators_own_options_take_the_types_of_its_defaults(spec: str):
    assert len(load(f"{spec},n_test=2").problems("test")) == 2


def test_an_option_changes_the_problems():
    problems = load("rg:chain_sum,n_test=5,min_terms=6,max_terms=6,min_digits=1,max_digits=1").problems("test")
    assert all(problem.messages[0].content.count(" + ") + problem.messages[0].content.count(" - ") == 5 for problem in problems)


@dataclass(frozen=True)
class Fixed:
    """A task whose judge always says the same: what `check_gold` is tried on."""

    verdict: Score
    name: str = "fixed"

    def problems(self, split: str) -> Sequence[Problem]:
        return [Problem("fixed/1", (), "yes")]

    async def score(self, rollout: Rollout) -> Score:
        return self.verdict

    def solution(self, problem: Problem) -> str:
        return problem.answer


@pytest.mark.parametrize(
    ("verdict", "complaint"),
    [
        (Score(0.0, {}, "no"), r"1 of 1 gold answers do not score 1; that of fixed/1 scored 0 \(no\)"),
        (Score(0.99), "scored 0.99"),
        (unscored("it slept"), r"could not be judged \(it slept\)"),
    ],
)
def test_a_judge_that_does_not_give_its_own_gold_answers_1_is_refused(verdict: Score, complaint: str):
    task = Fixed(verdict)
    with pytest.raises(UserError, match=complaint):
        asyncio.run(check_gold(task, task.problems("test")))
    asyncio.run(check_gold(replace(task, verdict=Score(1.0)), task.problems("test")))


def test_a_task_without_problems_is_refused():
    with pytest.raises(UserError, match="fixed has no problems"):
        asyncio.run(check_gold(Fixed(Score(1.0)), []))


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("facts", ["facts"]),
        ("facts,arithmetic", ["facts", "arithmetic"]),
        ("arithmetic:levels=1,n_test=3,facts, rg:chain_sum,min_terms=2", ["arithmetic:levels=1,n_test=3", "facts", "rg:chain_sum,min_terms=2"]),
        ("arithmetic:levels=[1, 2],facts", ["arithmetic:levels=[1, 2]", "facts"]),
        ("gsm8k:path_test=C:/a.jsonl,path_train=D:/b.jsonl,facts", ["gsm8k:path_test=C:/a.jsonl,path_train=D:/b.jsonl", "facts"]),
    ],
)
def test_several_tasks_stand_after_commas_and_options_stay_with_theirs(text: str, specs: list[str]):
    assert split_specs(text) == specs


@pytest.mark.parametrize("text", ["", "facts,,arithmetic", "levels=1,facts"])
def test_a_list_with_a_gap_is_refused(text: str):
    with pytest.raises(UserError, match="NAME"):
        split_specs(text)
