"""A policy that is exactly the base at a lower temperature is found out, and one that has learnt something is not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from posttrain.evals.compare import Subject, compare, paired_row
from posttrain.evals.comparison import Matched
from posttrain.evals.findings import crossover_sentence, matched_sentence
from posttrain.evals.matched import match_base
from posttrain.evals.measure import Evaluation, measure
from posttrain.seeds import fold
from posttrain.statistics import Crossover, halves
from posttrain.types import Message, Problem, Rollout, Sampling, Score, UserError
from tests.evals.tabular import Tabular

ANSWERS, PROBLEMS = 6, 80


@dataclass(frozen=True)
class TableTask:
    """Which of the answers is right at each problem."""

    right: tuple[int, ...]
    name: str = "table"

    def problems(self, split: str) -> list[Problem]:
        return [Problem(f"{split}-{i}", (Message("user", f"Row {i}?"),), str(answer)) for i, answer in enumerate(self.right)]

    async def score(self, rollout: Rollout) -> Score:
        return Score(float(rollout.text == rollout.problem.answer))

    def solution(self, problem: Problem) -> str:
        return problem.answer

    def final_answer(self, text: str) -> str:
        return text


def world(n: int = PROBLEMS) -> tuple[TableTask, np.ndarray]:
    """Problems whose right answer the base often, but not always, finds likeliest."""
    dice = np.random.default_rng(3)
    right = dice.integers(ANSWERS, size=n)
    logits = dice.normal(0, 1.2, (n, ANSWERS))
    logits[np.arange(n), right] += 1.5
    return TableTask(tuple(right.tolist())), logits


def evaluated(agent: Tabular, task: TableTask, samples: int = 16) -> Evaluation:
    return asyncio.run(measure(agent, task, task.problems("test"), samples))


def matched(base: Tabular, trained: Tabular, task: TableTask, by: str = "entropy") -> Matched:
    before, after = evaluated(base, task), evaluated(trained, task)
    return asyncio.run(match_base(lambda t: Subject("base", "", base.at(t)), task, before, after, paired_row, by))  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["entropy", "agreement"])
def test_a_policy_that_is_the_base_at_half_its_temperature_is_no_more_than_that(by: str) -> None:
    task, logits = world()
    found = matched(Tabular(logits), Tabular(2 * logits), task, by)
    plain = evaluated(Tabular(logits), task)["accuracy"], evaluated(Tabular(2 * logits), task)["accuracy"]
    assert plain[1].value - plain[0].value > 0.1, "against the base as it is, it looks like learning"
    assert found.temperature == pytest.approx(0.5, abs=0.06)
    assert found.reached.value == pytest.approx(found.target.value, rel=0.1)
    assert found.verdict.outcome == "tied"
    assert "no more than the base at a lower temperature" in matched_sentence(found)


@pytest.mark.parametrize("by", ["entropy", "agreement"])
def test_a_policy_that_has_learnt_something_is_more_than_the_base_at_any_temperature_as_sure(by: str) -> None:
    task, logits = world()
    learnt = logits.copy()
    learnt[np.arange(PROBLEMS), list(task.right)] += 2.5
    found = matched(Tabular(logits), Tabular(learnt), task, by)
    accuracy = found.rows[0]
    assert accuracy.difference is not None and accuracy.difference.low > 0.05
    assert found.verdict.outcome == "better" and "training did more than a lower temperature does" in matched_sentence(found)


def test_a_policy_that_became_sure_of_the_wrong_answers_is_less_than_a_lower_temperature() -> None:
    task, logits = world()
    wrong = 2 * logits
    wrong[np.arange(PROBLEMS), (np.array(task.right) + 1) % ANSWERS] += 3
    found = matched(Tabular(logits), Tabular(wrong), task)
    assert found.verdict.outcome == "worse" and "training did less" in matched_sentence(found)


def test_a_policy_that_is_less_sure_is_matched_at_a_higher_temperature() -> None:
    task, logits = world()
    found = matched(Tabular(logits), Tabular(logits / 1.5), task)
    assert found.temperature == pytest.approx(1.5, abs=0.15) and "another temperature" in matched_sentence(found)


def test_the_temperature_is_found_on_one_half_and_the_comparison_is_on_the_other() -> None:
    """Only the half that is tested on has been learnt: it shows in full, and moves the temperature not at all."""
    task, logits = world()
    ids = [problem.id for problem in task.problems("test")]
    _, testing = halves(ids, 0)
    changed = 2 * logits
    for i, name in enumerate(ids):
        if name in testing:
            changed[i] = -20.0
            changed[i, task.right[i]] = 20.0
    found = matched(Tabular(logits), Tabular(changed), task)
    assert found.temperature == pytest.approx(0.5, abs=0.06)
    assert found.rows[0].trained is not None and (found.rows[0].trained.value, found.rows[0].trained.n) == (1, PROBLEMS // 2)
    assert found.target.n == found.reached.n == PROBLEMS // 2


def test_what_no_temperature_reaches_is_said() -> None:
    task, logits = world()
    found = matched(Tabular(np.where(logits > 9, logits, 0.0)), Tabular(50 * logits), task)
    assert found.temperature == 0.05 and "no temperature from 0.05 to 2" in found.note and found.note in matched_sentence(found)


def test_pass_at_k_of_both_is_compared_as_well_and_the_comparison_carries_all_of_it() -> None:
    task, logits = world(12)
    base, trained = (Subject(name, name, agent) for name, agent in (("base", Tabular(logits)), ("trained", Tabular(2 * logits))))

    async def against(before: Evaluation, after: Evaluation) -> Matched:
        return await match_base(lambda t: Subject("base", "", Tabular(logits).at(t)), task, before, after, paired_row)

    found = asyncio.run(compare(base, trained, task, task.problems("test"), 8, matched=against))
    assert found.matched is not None
    assert [row.name for row in found.matched.rows] == ["accuracy", "pass@2", "pass@4", "pass@8"]
    assert found.crossover is not None and len(found.findings) == 2 and found.findings[1] == matched_sentence(found.matched)


@pytest.mark.parametrize(
    ("n", "sampling", "by", "samples", "words"),
    [
        (3, Sampling(), "entropy", 4, "at least four problems"),
        (8, Sampling(temperature=1e-9), "agreement", 1, "at least 2, or match by entropy"),
    ],
)
def test_what_cannot_be_matched_is_refused_with_what_to_do(n: int, sampling: Sampling, by: str, samples: int, words: str) -> None:
    task, logits = world(n)
    after = evaluated(Tabular(logits, sampling), task, samples)
    with pytest.raises(UserError, match=words):
        asyncio.run(match_base(lambda t: Subject("", "", Tabular(logits).at(t)), task, after, after, paired_row, by))  # type: ignore[arg-type]


def test_greedy_answers_have_no_temperature_to_match() -> None:
    from posttrain.agents.scripted import ScriptedAgent

    task, _ = world(8)
    greedy = asyncio.run(measure(ScriptedAgent(lambda *_: "1", Sampling(0)), task, task.problems("test"), 2))
    with pytest.raises(UserError, match="--temperature above 0"):
        asyncio.run(match_base(lambda t: Subject("", "", ScriptedAgent(lambda *_: "1")), task, greedy, greedy, paired_row))


def test_two_temperatures_of_one_table_toss_the_same_coins() -> None:
    """So that the search sees a smooth curve."""
    task, logits = world(20)
    one, other = (evaluated(Tabular(logits).at(t), task)["accuracy"].value for t in (0.5, 0.501))
    assert one == pytest.approx(other, abs=0.02) and fold(0, "a") != fold(0, "b")


# --------------------------------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Crossover(5, 3, float("inf"), 0.8, 32, 64), "ahead from k = 5 on (95% interval 3 to none up to 32, n = 64 problems; somewhere ahead in 80% of resamples)"),
        (Crossover(float("inf"), float("inf"), float("inf"), 0, 32, 64), "nowhere ahead up to k = 32 (n = 64 problems; somewhere ahead in 0% of resamples)"),
        (Crossover(1, 1, 2, 1, 8, 9), "the base is ahead from the first attempt on (95% interval 1 to 2, n = 9 problems)"),
    ],
)
def test_a_crossover_is_told_with_its_interval_and_none_is_an_answer(found: Crossover, words: str) -> None:
    assert words in crossover_sentence(found)
