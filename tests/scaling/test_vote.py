"""One attempt out of k, by scripts whose answers are known, and what all k of them cost."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.rewards.exact import exact_number, last_number
from posttrain.scaling.cost import Spent, spent_on, total
from posttrain.scaling.vote import BestOf, Majority, WeightedVote, likelihood, likelihood_per_token
from posttrain.statistics import pass_at_k
from posttrain.types import Completion, Message, Problem, Rollout, Score, UserError, answered

PROBLEM = Problem("p", (Message("user", "2+2?"),), "4")


def says(*answers: str) -> ScriptedAgent:
    return ScriptedAgent(lambda problem, sample, seed: answers[sample])


def run(agent, n: int = 1) -> list[Rollout]:
    return asyncio.run(agent.attempt(PROBLEM, n))


async def length(rollout: Rollout) -> Score:
    return Score(float(len(rollout.text)))


def scored(**values: float):
    async def scorer(rollout: Rollout) -> Score:
        return Score(values[rollout.text[0]])

    return scorer


def test_the_majority_picks_the_mode_and_the_first_attempt_that_gave_it():
    (rollout,) = run(Majority(says("5", "a: 4", "b: 4"), 3, last_number))
    assert rollout.text == "a: 4"


def test_among_equally_frequent_answers_the_first_given_wins():
    assert run(Majority(says("5", "4", "4", "5"), 4, last_number))[0].text == "5"


def test_attempts_without_an_answer_do_not_vote():
    assert run(Majority(says("none", "nothing", "4"), 3, last_number))[0].text == "4"
    assert run(Majority(says("none", "nothing"), 2, last_number))[0].text == "none"


def test_each_vote_has_attempts_of_its_own():
    first, second = run(Majority(says("1", "1", "2", "3", "4", "4"), 3, last_number), n=2)
    assert (first.text, second.text) == ("1", "4")
    assert (first.sample, second.sample) == (0, 1)


def test_a_weighted_vote_adds_scores_and_ignores_nan():
    agent = says("a 4", "b 5", "c 5", "d 4")
    assert run(WeightedVote(agent, 4, last_number, scored(a=0.5, b=0.4, c=0.4, d=math.nan)))[0].text == "b 5"
    assert run(WeightedVote(agent, 4, last_number, scored(a=0.5, b=0.4, c=0.4, d=0.6)))[0].text == "d 4"
    assert run(WeightedVote(agent, 3, last_number, scored(a=math.nan, b=math.nan, c=math.nan)))[0].text == "b 5"


def test_a_negative_score_is_no_weight():
    with pytest.raises(UserError, match="at least 0"):
        run(WeightedVote(says("a 4"), 1, last_number, scored(a=-1.0)))


def test_the_best_has_the_highest_score_and_is_the_first_among_equals():
    assert run(BestOf(says("aa", "bbb", "ccc"), 3, length))[0].text == "bbb"


def test_nan_never_wins_unless_all_are_nan():
    agent = says("a", "b")
    assert run(BestOf(agent, 2, scored(a=math.nan, b=-9.0)))[0].text == "b"
    assert run(BestOf(agent, 2, scored(a=math.nan, b=-math.inf)))[0].text == "b"
    assert run(BestOf(agent, 2, scored(a=math.nan, b=math.nan)))[0].text == "a"


def test_a_failed_attempt_is_not_scored():
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if sample == 0:
            raise RuntimeError("down")
        return "b"

    assert run(BestOf(ScriptedAgent(answer), 2, scored(b=-1.0)))[0].text == "b"


def test_the_best_by_an_oracle_is_right_as_often_as_pass_at_k_says():
    """Every ordered choice of 2 out of 5 attempts, 2 of which are right."""
    pairs = list(itertools.permutations(("4", "4", "5", "6", "7"), 2))
    chosen = run(BestOf(says(*itertools.chain(*pairs)), 2, exact_number), n=len(pairs))
    assert sum(r.text == "4" for r in chosen) / len(pairs) == pytest.approx(float(pass_at_k(5, 2, 2)))


def test_the_sum_of_log_probs_prefers_the_short_and_the_mean_the_sure():
    def rollout(*logprobs: float) -> Rollout:
        return Rollout(PROBLEM, (), (Completion((1,), (2,) * len(logprobs), logprobs, "stop"),))

    short, sure = rollout(-1.0), rollout(-0.5, -0.5, -0.5)
    assert [asyncio.run(likelihood(r)).value for r in (short, sure)] == [-1.0, -1.5]
    assert [asyncio.run(likelihood_per_token(r)).value for r in (short, sure)] == [-1.0, -0.5]
    assert asyncio.run(likelihood(answered(PROBLEM, "4"))).is_unscored


def test_what_was_thrown_away_is_paid_for():
    """The prompt is 4 bytes, each answer has one byte more than its text: 3 * 4 read, 2 + 3 + 4 written, 3 * 10 judged."""
    (rollout,) = run(BestOf(says("a", "bb", "ccc"), 3, length, verifier_tokens=lambda r: 10))
    assert spent_on(rollout) == Spent(12, 9, 30)
    assert rollout.n_tokens == 4 and spent_on(rollout).total_tokens == 51


def test_a_search_over_a_search_pays_for_both():
    inner = BestOf(says("a", "bb", "ccc", "d"), 2, length, verifier_tokens=lambda r: 1)
    assert spent_on(run(BestOf(inner, 2, length, verifier_tokens=lambda r: 10))[0]) == Spent(16, 11, 24)
    assert total([]) == Spent()


def test_a_search_over_nothing_is_refused():
    with pytest.raises(UserError, match="at least one"):
        run(Majority(says(), 0, last_number))
