"""Suites: what runs with the files that are there, what is said of the others, and one ability bare and in use."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from posttrain.agents.loop import ModelAgent
from posttrain.agents.scripted import ScriptedAgent
from posttrain.engine.scripted import ScriptedEngine
from posttrain.evals.beside import side_by_side, use_changes
from posttrain.evals.loops import load_used
from posttrain.evals.confidence import answers_of
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.suites import FILES, SUITES, suite
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.tasks import TASKS, load
from posttrain.types import ChoiceTask, Problem, Sampling, UserError

RENDERER = Renderer(tiny_tokenizer())


def test_every_suite_runs_what_needs_no_file_and_says_a_sentence_of_each_that_does() -> None:
    for name in SUITES:
        found = suite(name, None)
        assert found.specs and all(load_used(spec).problems("test") for spec in found.specs)
        assert all(sentence.startswith("left out ") and "--data" in sentence for sentence in found.left_out)
    assert suite("capability", None).specs == ("arithmetic", "facts")
    assert len(suite("alignment", None).left_out) == 6


def test_files_are_found_in_the_folder_and_one_below(tmp_path: Path) -> None:
    (tmp_path / "qa").mkdir()
    row = {"question": "Which?", "choices": ["a", "b"], "answer": 0}
    (tmp_path / "qa" / "mmlu_test.jsonl").write_text(json.dumps(row))
    (tmp_path / "gsm8k.jsonl.gz").touch()
    found = suite("capability", tmp_path)
    assert f"mmlu:path_test={tmp_path}/qa/mmlu_test.jsonl" in found.specs and f"gsm8k:path_test={tmp_path}/gsm8k.jsonl.gz" in found.specs
    assert [sentence.split(":")[0] for sentence in found.left_out] == ["left out math500", "left out humaneval", "left out mbpp"]
    assert "holds none of mbpp (.jsonl or .jsonl.gz)" in found.left_out[-1]
    used = suite("in-use", tmp_path).specs
    assert f"conversation:of=mmlu,path_test={tmp_path}/qa/mmlu_test.jsonl" in used and "conversation:of=arithmetic" in used
    assert "loop:of=arithmetic" in used and not any(spec.startswith("loop:of=mmlu") for spec in used), "in a loop answers are written"
    assert load(used[-1]).problems("test")[0].id == "mmlu/test/1/later"


def test_every_file_belongs_to_a_task_and_every_task_of_a_suite_is_one() -> None:
    assert set(FILES) <= set(TASKS)
    assert {spec.rpartition("of=")[2] for specs in SUITES.values() for spec in specs} <= set(TASKS)


def test_a_suite_or_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are capability, alignment, in-use"):
        suite("safety", None)
    with pytest.raises(UserError, match="is not there"):
        suite("capability", tmp_path / "no")
    (tmp_path / "a,b").mkdir()
    (tmp_path / "a,b" / "mmlu.jsonl").touch()
    with pytest.raises(UserError, match="rename it"):
        suite("capability", tmp_path)


def test_one_ability_bare_and_in_use_is_a_paired_difference() -> None:
    tasks = [load("arithmetic:levels=1,n_test=20"), load("conversation:of=arithmetic,levels=1,n_test=20"), load("conversation:of=facts")]

    def answer(problem: Problem, sample: int, seed: int) -> str:
        forgets = len(problem.messages) > 1 and int(problem.answer) % 2
        return "I forgot" if forgets else problem.answer

    def fact(problem: Problem, sample: int, seed: int) -> str:
        return problem.answer

    agents = [ScriptedAgent(answer), ScriptedAgent(answer), ScriptedAgent(fact)]
    found = [asyncio.run(measure(agent, task, task.problems("test")[:20], 1)) for agent, task in zip(agents, tasks, strict=True)]
    (pair,) = side_by_side(found)
    odd = sum(int(problem.answer) % 2 for problem in tasks[0].problems("test")[:20])
    assert (pair.task, pair.beside) == ("arithmetic in a long conversation", "arithmetic")
    assert (pair.bare.value, pair.in_use.value, pair.difference.value) == pytest.approx((1, 1 - odd / 20, -odd / 20))
    assert pair.difference.n == 20 and pair.difference.high < 0 and pair.p_value == pair.p_holm < 0.05


def test_what_use_costs_two_models_is_a_difference_of_differences() -> None:
    """The base forgets odd answers in use; the trained model forgets those of 4 more than a multiple of 10."""
    tasks = [load("arithmetic:levels=1,n_test=40"), load("conversation:of=arithmetic,levels=1,n_test=40")]

    def forgetful(forgets) -> list[Evaluation]:
        agent = ScriptedAgent(lambda problem, *_: "I forgot" if len(problem.messages) > 1 and forgets(int(problem.answer)) else problem.answer)
        return [asyncio.run(measure(agent, task, task.problems("test"), 1)) for task in tasks]

    before, after = forgetful(lambda answer: answer % 2), forgetful(lambda answer: answer % 10 == 4)
    (found,) = use_changes(before, after)
    answers = [int(problem.answer) for problem in tasks[0].problems("test")]
    odd, four = sum(a % 2 for a in answers) / len(answers), sum(a % 10 == 4 for a in answers) / len(answers)
    assert (found.base.difference.value, found.trained.difference.value) == pytest.approx((-odd, -four)) and odd > four > 0
    assert found.difference.value == pytest.approx(odd - four) and found.difference.n == len(answers)
    assert -1 < found.difference.low < odd - four < found.difference.high < 1 and found.p_value == found.p_holm < 1
    (same,) = use_changes(before, before)
    assert (same.difference.value, same.difference.low, same.difference.high, same.p_value) == (0, 0, 0, 1)
    assert use_changes(before[:1], after[:1]) == []


def test_a_task_in_the_loop_is_its_own_problems_attempted_with_tools() -> None:
    task = load_used("loop:of=arithmetic,levels=1,n_test=4,tools=calculator+files,steps=2")
    bare = load("arithmetic:levels=1,n_test=4")
    assert task.problems("test") == bare.problems("test") and task.beside == bare.name
    assert task.name == "arithmetic in an agent's loop with calculator and files"
    assert task.depends_on == {"tools": "calculator,files", "tool_steps": 2}
    engine = ScriptedEngine(lambda prompt, sample, seed: [*RENDERER.encode("7"), RENDERER.stop_token_ids[0]])
    agent = task.through(ModelAgent(engine, RENDERER, Sampling(max_tokens=9)))
    (rollout,) = asyncio.run(agent.attempt(task.problems("test")[0], 1))
    read = RENDERER.decode(rollout.completions[0].prompt_token_ids)
    assert "list_files" in read and "calculator" in read and rollout.text == "7"
    assert [asyncio.run(task.score(rollout)).value] == [float(task.problems("test")[0].answer == "7")]
    assert answers_of(task)("It is 7.") == "7" and not isinstance(load_used("loop:of=capitals"), ChoiceTask)
    with pytest.raises(UserError, match="there is no tool 'hammer'"):
        load_used("loop:of=arithmetic,tools=hammer").through(agent)


def test_the_error_for_an_unknown_task_names_those_that_are_made_of_another() -> None:
    with pytest.raises(UserError, match="conversation:of=TASK.*loop:of=TASK.*sycophancy:of=TASK"):
        load_used("no-such-task")
    with pytest.raises(UserError) as training:
        load("loop:of=arithmetic")
    assert "conversation:of=TASK" in str(training.value) and "loop:of=TASK" not in str(training.value), "named only where it can be had"
