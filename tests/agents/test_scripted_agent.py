"""The agent whose answers are known beforehand does what real agents promise."""

from __future__ import annotations

import asyncio

from posttrain.agents.scripted import END_OF_TEXT, ScriptedAgent
from posttrain.types import Message, Problem, Rollout, Sampling

PROBLEM = Problem("p", (Message("user", "What is 17+25?"),), "42")


def attempts(agent: ScriptedAgent, n: int = 2, seed: int = 0) -> list[Rollout]:
    return asyncio.run(agent.attempt(PROBLEM, n, seed))


def test_the_answer_depends_on_problem_sample_and_seed_alone() -> None:
    agent = ScriptedAgent(lambda problem, sample, seed: f"{problem.answer} {sample} {seed}")
    assert [rollout.text for rollout in attempts(agent, 3, seed=7)] == ["42 0 7", "42 1 7", "42 2 7"]
    assert attempts(agent, 3, seed=7)[:2] == attempts(agent, 2, seed=7)


def test_tokens_are_the_bytes_that_were_said_and_the_end() -> None:
    (rollout,) = attempts(ScriptedAgent(lambda *_: "é"), n=1)
    (completion,) = rollout.completions
    assert completion.token_ids == (*"é".encode(), END_OF_TEXT)
    assert bytes(completion.prompt_token_ids).decode() == "What is 17+25?"
    assert len(completion.sampling_logprobs) == rollout.n_tokens == 3
    assert (completion.stop_reason, rollout.outcome) == ("stop", "terminated")


def test_what_does_not_fit_is_cut_and_called_truncated() -> None:
    (rollout,) = attempts(ScriptedAgent(lambda *_: "forty-two", Sampling(max_tokens=5)), n=1)
    assert (rollout.text, rollout.outcome, rollout.completions[0].stop_reason) == ("forty", "truncated", "length")
    (rollout,) = attempts(ScriptedAgent(lambda *_: "forty", Sampling(max_tokens=5)), n=1)
    assert (rollout.text, rollout.outcome) == ("forty", "truncated"), "the end must fit too"


def test_an_exception_is_an_attempt_that_failed_with_its_reason() -> None:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        return str(1 / sample)

    failed, fine = attempts(ScriptedAgent(answer))
    assert (failed.outcome, failed.error, failed.completions) == ("error", "ZeroDivisionError: division by zero", ())
    assert (fine.outcome, fine.text) == ("terminated", "1.0")
