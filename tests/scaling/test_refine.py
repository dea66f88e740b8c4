"""Revision by scripts that read the conversation so far."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.scaling.cost import Spent, spent_on
from posttrain.scaling.refine import Refine
from posttrain.types import ContextFull, Message, Problem, Rollout, Sampling, UserError

PROBLEM = Problem("p", (Message("user", "2+2?"),), "4")
COUNTS_TURNS = ScriptedAgent(lambda problem, sample, seed: str(len(problem.messages)))


def run(agent, n: int = 1) -> list[Rollout]:
    return asyncio.run(agent.attempt(PROBLEM, n))


def test_each_revision_reads_all_that_was_said_and_the_last_answer_counts():
    (rollout,) = run(Refine(COUNTS_TURNS, 2, "?"))
    assert [m.content for m in rollout.messages] == ["1", "?", "3", "?", "5"]
    assert rollout.text == "5" and rollout.problem is PROBLEM and len(rollout.completions) == 3


def test_every_turn_pays_for_its_longer_prompt():
    """`2+2?`, then a newline and a byte for each of two more messages, then of four; two bytes written each time."""
    assert spent_on(run(Refine(COUNTS_TURNS, 2, "?"))[0]) == Spent(4 + 8 + 12, 6)


def test_no_revision_is_the_first_attempt():
    first, second = run(Refine(ScriptedAgent(lambda problem, sample, seed: f"{sample}"), 0), n=2)
    assert (first.text, second.text, second.sample) == ("0", "1", 1)


def test_revisions_of_siblings_have_seeds_of_their_own():
    first, second = run(Refine(ScriptedAgent(lambda problem, sample, seed: str(seed)), 1), n=2)
    assert first.text != second.text


def test_a_truncated_turn_ends_the_conversation():
    (rollout,) = run(Refine(ScriptedAgent(lambda problem, sample, seed: "too long", Sampling(max_tokens=3)), 5))
    assert rollout.outcome == "truncated" and len(rollout.messages) == 1


def test_a_revision_that_the_context_has_no_room_for_is_not_asked_for_and_the_whole_is_truncated():
    @dataclass(frozen=True)
    class Small:
        """Reads no more than one question."""

        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
            if len(problem.messages) > 1:
                raise ContextFull("the context is full")
            return await COUNTS_TURNS.attempt(problem, n, seed)

    (rollout,) = run(Refine(Small(), 3))
    assert (rollout.outcome, rollout.text, len(rollout.messages)) == ("truncated", "1", 1)
    assert spent_on(rollout) == Spent(4, 2)


def test_a_failed_revision_keeps_its_reason_and_what_came_before():
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if len(problem.messages) > 1:
            raise RuntimeError("down")
        return "4"

    (rollout,) = run(Refine(ScriptedAgent(answer), 3))
    assert (rollout.outcome, rollout.error) == ("error", "RuntimeError: down")
    assert len(rollout.completions) == 1


def test_fewer_than_no_revisions_are_refused():
    with pytest.raises(UserError, match="at least 0"):
        run(Refine(COUNTS_TURNS, -1))
