"""Who gets how much: within the budget, and by what others have shown."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from scipy import stats

from posttrain.agents.scripted import ScriptedAgent
from posttrain.rewards.exact import last_number
from posttrain.scaling.allocate import ByDifficulty, Plan, VoteByDifficulty, best_plan, cross_fitted, disagreement_of, split_of, within_budget
from posttrain.scaling.cost import Spent, spent_on
from posttrain.scaling.vote import Majority
from posttrain.seeds import fold
from posttrain.types import Message, Problem, UserError

COSTS = np.array([1.0, 4.0, 16.0])
HARD = np.array([0.0, 1.0] * 20)
SCORES = np.where(HARD[:, None] > 0.5, [[0.2, 0.3, 0.8]], [[0.9, 0.9, 0.9]])
"""Easy problems gain nothing by more attempts, hard ones much."""


def test_the_best_plan_spends_where_it_helps():
    """A mean of 8.5 pays 16 attempts for the half that needs them and one for the other."""
    assert best_plan(HARD, SCORES, COSTS, 8.5, bins=2).chosen == (0, 2)
    assert best_plan(HARD, SCORES, COSTS, 8.4, bins=2).chosen == (0, 1)
    assert best_plan(HARD, SCORES, COSTS, 16.0, bins=2).chosen == (0, 2), "what buys nothing is not bought"


def test_many_problems_of_one_difficulty_are_not_mixed_with_others():
    """Six in ten agree at once: a quantile would lie on them, and put them together with the next."""
    difficulty = np.repeat([0.0, 0.25, 0.5], [24, 8, 8])
    scores = np.where(difficulty[:, None] == 0.25, [[0.2, 0.3, 0.8]], [[0.9, 0.9, 0.9]])
    plan = best_plan(difficulty, scores, COSTS, 4.0)
    assert [plan.strategy(d) for d in (0.0, 0.25, 0.5)] == [0, 2, 0] and plan.edges == (0.125, 0.375)
    assert len(best_plan(np.arange(9) / 9, np.zeros((9, 3)), COSTS, 4.0).edges) == 2


def test_problems_alike_in_difficulty_leave_one_strategy_for_all():
    plan = best_plan(np.zeros(10), SCORES[:10], COSTS, 16.0)
    assert {plan.strategy(d) for d in (0.0, 0.5)} == {2}


def test_a_difficulty_that_is_not_known_counts_as_the_hardest():
    plan = Plan((0.5,), (0, 2))
    assert [plan.strategy(d) for d in (0.4, 0.5, math.nan)] == [0, 2, 2]


def test_a_budget_below_the_cheapest_strategy_is_refused():
    with pytest.raises(UserError, match="raise it"):
        best_plan(HARD, SCORES, COSTS, 0.9)
    with pytest.raises(UserError, match="folds"):
        cross_fitted(HARD[:3], SCORES[:3], COSTS, 0, 4)


@pytest.mark.parametrize("seed", range(20))
def test_an_allocation_never_spends_more_than_its_budget(seed: int):
    """Difficulties, scores and budgets at random: in every fold, with the estimate paid for."""
    rng = np.random.default_rng(seed)
    budget = rng.uniform(3, 20)
    found = cross_fitted(rng.random(37).round(1), rng.random((37, 3)), COSTS, 2.0, budget, seed=seed)
    for f in range(5):
        assert found.spent_P[found.folds_P == f].mean() <= budget + 1e-9
    assert found.spent_P.min() >= 3.0


def test_when_the_money_runs_out_the_rest_get_the_cheapest():
    assert within_budget([2, 2, 2], COSTS, 34) == [2, 2, 0] and within_budget([2, 2, 2], COSTS, 32) == [2, 0, 0]
    assert within_budget([0, 0, 2], COSTS, 18) == [0, 0, 2]


def test_with_the_true_difficulty_an_allocation_gains_over_a_vote_of_all_at_the_same_tokens():
    """Exact votes of k attempts on 90 problems, a third each solved with .98, .65 and .1: the last only lose by voting, the first need none."""
    rates_P, sizes = np.repeat([0.98, 0.65, 0.1], 30), np.array([1.0, 3, 5, 9, 17, 33])
    vote = lambda k: stats.binom.sf(k // 2, k, rates_P)  # noqa: E731
    scores_PS = np.stack([vote(k) for k in sizes], axis=1)
    for i, budget in enumerate(sizes[1:-1], 1):
        found = cross_fitted(np.repeat([0.0, 0.5, 1.0], 30), scores_PS, sizes, 0.0, budget)
        assert found.spent_P.mean() <= budget and found.scores_P.mean() > scores_PS[:, i].mean() + 0.02
    blind = cross_fitted(np.zeros(90), scores_PS, sizes, 0.0, 9.0)
    assert len(set(blind.chosen_P)) == 1, "without a difficulty there is nothing to allocate by"


def test_a_plan_knows_nothing_of_the_problems_that_it_is_tried_on():
    """Whatever the scores of one fold are made to be, what its problems get stays the same."""
    rng = np.random.default_rng(0)
    difficulty, scores = rng.random(40), rng.random((40, 3))
    before = cross_fitted(difficulty, scores, COSTS, 1.0, 9.0)
    for f in range(5):
        tried = before.folds_P == f
        changed = np.where(tried[:, None], rng.random((40, 3)), scores)
        assert (cross_fitted(difficulty, changed, COSTS, 1.0, 9.0).chosen_P[tried] == before.chosen_P[tried]).all()


def test_noise_gains_nothing_by_being_cross_fitted():
    """Every strategy is worth 1/2 on every problem but for noise: the mean over many draws stays there, where choosing and testing on the same would not."""
    rng = np.random.default_rng(0)
    crossed, fooled = [], []
    for _ in range(60):
        scores, difficulty = rng.random((20, 3)), rng.random(20)
        crossed.append(cross_fitted(difficulty, scores, COSTS, 0.0, 16.0).scores_P.mean())
        plan = best_plan(difficulty, scores, COSTS, 16.0)
        fooled.append(np.mean([scores[i, plan.strategy(d)] for i, d in enumerate(difficulty)]))
    error = np.std(crossed, ddof=1) / math.sqrt(60)
    assert abs(np.mean(crossed) - 0.5) < 3 * error and np.mean(fooled) > 0.5 + 3 * error


def test_difficulty_is_the_share_that_disagrees():
    assert [split_of(a) for a in (["4", "4"], ["4", "5", "4", None], ["1", "2"])] == [0.0, 0.5, 0.5]
    assert math.isnan(split_of([None, None]))


def test_an_agent_looks_first_and_pays_for_it():
    """Two bytes for each look, four for each prompt; then one attempt, or a vote of three."""
    agent = ScriptedAgent(lambda problem, sample, seed: "4" if problem.id == "easy" else str(sample))
    chooser = ByDifficulty(agent, 2, disagreement_of(last_number), Plan((0.25,), (0, 1)), (agent, Majority(agent, 3, last_number)))
    spent = {}
    for name in ("easy", "hard"):
        (rollout,) = asyncio.run(chooser.attempt(Problem(name, (Message("user", "2+2?"),), "4"), 1))
        spent[name] = spent_on(rollout)
    assert spent == {"easy": Spent(4, 2, 0, 12), "hard": Spent(12, 6, 0, 12)}


def test_an_allocated_vote_counts_its_looks_as_votes_and_pays_for_each_attempt_once():
    """Two looks at each; the easy problem is left at these, the hard one gets three more, which outvote them."""

    def answer(problem: Problem, sample: int, seed: int) -> str:
        return "4" if problem.id == "easy" or seed == further else str(sample + 7)

    further = fold(0, "further", 0)
    chooser = VoteByDifficulty(ScriptedAgent(answer), 2, last_number, Plan((0.25,), (0, 1)), (0, 3))
    found = {name: asyncio.run(chooser.attempt(Problem(name, (Message("user", "2+2?"),), "4"), 1))[0] for name in ("easy", "hard")}
    assert {name: (rollout.text, spent_on(rollout)) for name, rollout in found.items()} == {
        "easy": ("4", Spent(0, 0, 0, 12)), "hard": ("4", Spent(12, 6, 0, 12)),
    }  # fmt: skip
    alone = ScriptedAgent(lambda problem, sample, seed: "4" if seed == further else "5" if sample else "6")
    (rollout,) = asyncio.run(VoteByDifficulty(alone, 2, last_number, Plan((), (0,)), (1,)).attempt(Problem("p", (Message("user", "2+2?"),), "4"), 1))
    assert rollout.text == "6", "three answers, once each: the look that came first wins"
    with pytest.raises(UserError, match="a number of attempts for each strategy"):
        asyncio.run(VoteByDifficulty(alone, 2, last_number, Plan((), (1,)), (1,)).attempt(Problem("p", (Message("user", "?"),), "4"), 1))
