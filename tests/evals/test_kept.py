"""Comparing evaluations that were made before, without any model."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.compare import Subject, compare
from posttrain.evals.comparison import Comparison, Named
from posttrain.evals.kept import adjusted, compare_evaluations
from posttrain.evals.measure import Evaluation, measure
from posttrain.types import Agent, Problem
from tests.evals.echo_task import EchoTask, says, sometimes_right

BASE, TRAINED = Named("base", "a"), Named("trained", "b")


def measured(agent: Agent, task: EchoTask | None = None, samples: int = 4, problems: list[Problem] | None = None) -> Evaluation:
    task = task or EchoTask()
    return asyncio.run(measure(agent, task, problems or task.problems("test"), samples))


def test_evaluations_of_the_same_problems_are_compared_as_the_models_themselves_are() -> None:
    base, trained, task = sometimes_right(0.3, "a"), sometimes_right(0.6, "b"), EchoTask(40)
    found = compare_evaluations(BASE, TRAINED, measured(base, task), measured(trained, task))
    direct = asyncio.run(compare(Subject("base", "a", base), Subject("trained", "b", trained), task, task.problems("test"), 4))
    assert found.paired and found.to_json() == direct.to_json()


def test_the_order_of_the_problems_does_not_matter() -> None:
    task, before = EchoTask(), measured(sometimes_right(0.3))
    after = sometimes_right(0.6)
    turned = compare_evaluations(BASE, TRAINED, before, measured(after, problems=task.problems("test")[::-1]))
    assert turned.rows == compare_evaluations(BASE, TRAINED, before, measured(after)).rows


def test_evaluations_of_other_problems_are_compared_as_two_samples_and_say_so() -> None:
    task = EchoTask(60)
    before = measured(sometimes_right(0.3, "a"), problems=task.problems("test")[:20])
    after = measured(sometimes_right(0.6, "b"), problems=task.problems("test"))
    found = compare_evaluations(BASE, TRAINED, before, after)
    row = found["accuracy"]
    assert not found.paired and "not of the same problems (20 and 60)" in row.note and found.problems == ()
    assert row.difference is not None and row.difference.n == 20 and "newly_solved" not in [r.name for r in found.rows]
    assert row.difference.value == pytest.approx(after["accuracy"].value - before["accuracy"].value)
    assert row.p_value is not None and row.p_value < 0.01 and found.verdict.outcome == "better"


def test_problems_of_one_name_that_ask_something_else_are_other_problems() -> None:
    class Reworded(EchoTask):
        def problems(self, split: str) -> list[Problem]:
            return [replace(p, messages=(replace(p.messages[0], content=f"Please say {p.answer}."),)) for p in super().problems(split)]

    assert not compare_evaluations(BASE, TRAINED, measured(says("1")), measured(says("1"), Reworded())).paired


def test_other_numbers_of_attempts_share_the_k_that_both_have() -> None:
    found = compare_evaluations(BASE, TRAINED, measured(says("1"), samples=2), measured(says("1"), samples=8))
    assert found.pass_at_k.k == (1, 2) and found.paired
    assert [row.name for row in found.rows if row.name.startswith("pass")] == ["pass@2"]


def test_problems_that_share_a_text_count_as_one_in_the_difference_too() -> None:
    class Passages(EchoTask):
        def problems(self, split: str) -> list[Problem]:
            return [replace(p, data={"cluster": int(p.answer) // 5}) for p in super().problems(split)]

    after = ScriptedAgent(lambda problem, *_: problem.answer if int(problem.answer) < 10 else "no")
    row = compare_evaluations(BASE, TRAINED, measured(says("no"), Passages()), measured(after, Passages()))["accuracy"]
    assert row.difference is not None and (row.difference.value, row.difference.n) == (0.5, 4)
    assert row.p_value == 0.5, "two texts of four changed, and could as well have fallen otherwise"


# -------------------------------------------------------------------------------------------------------- many tasks


def compared(base: float, trained: float, name: str, n: int = 40) -> Comparison:
    task = EchoTask(n)
    before, after = (measured(sometimes_right(chance, f"{name}{chance}"), task) for chance in (base, trained))
    return replace(compare_evaluations(BASE, TRAINED, before, after), task=name)


def test_several_tasks_are_tested_together() -> None:
    alone = [compared(0.3, 0.38, "a"), compared(0.3, 0.8, "b"), *(compared(0.5, 0.5, name) for name in "cdef")]
    together = adjusted(alone)
    p_values = [c["accuracy"].p_value for c in alone]
    assert [c.p_holm for c in together][1] == pytest.approx(6 * (p_values[1] or 0))
    assert together[1].verdict.outcome == "better"
    assert p_values[0] is not None and p_values[0] < 0.05 and alone[0].verdict.outcome == "better", "alone it would be a finding"
    assert together[0].verdict.outcome == "tied" and together[0].verdict.n_needed is not None, "among six it is not"


def test_a_finding_needs_the_interval_and_the_test_to_agree() -> None:
    found = compared(0.3, 0.38, "x")
    row = found["accuracy"]
    assert row.difference is not None and row.difference.low > 0 and row.p_value is not None and row.p_value > 0.05
    assert found.verdict.outcome == "tied"


def test_a_tie_says_how_many_problems_would_tell_and_a_verdict_is_withheld_with_its_headline() -> None:
    tied = compared(0.5, 0.55, "a")
    assert tied.verdict.outcome == "tied" and tied.verdict.n_needed is not None and tied.verdict.n_needed > 40
    unscored = compare_evaluations(BASE, TRAINED, measured(says("1")), measured(says("mumble", "1")))
    assert unscored.withheld.startswith("trained: 50% of the attempts could not be scored")
    assert compare_evaluations(BASE, TRAINED, measured(says("1")), measured(says("mumble", "1")), unscored_ok=True).withheld == ""
