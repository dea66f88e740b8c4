"""Thinking that is asked for, cut short or drawn out, by an engine whose words are known."""

from __future__ import annotations

import asyncio

import pytest

from posttrain.agents.loop import ModelAgent
from posttrain.agents.scripted import ScriptedAgent
from posttrain.engine.local import LocalEngine
from posttrain.engine.scripted import ScriptedEngine
from posttrain.policy.hf import load_policy
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.scaling.cost import Spent, spent_on
from posttrain.scaling.think import DIRECTLY, STEP_BY_STEP, Asked, BudgetForced
from posttrain.types import Message, Problem, Rollout, Sampling, UserError

PROBLEM = Problem("p", (Message("system", "be brief"), Message("user", "2+2?")), "4")
RENDERER = Renderer(tiny_tokenizer())
"""A token for each byte, and one for the end of turn."""
(STOP,) = RENDERER.stop_token_ids
N_PROMPT = len(RENDERER.prompt(PROBLEM.messages))


def run(agent, n: int = 1) -> list[Rollout]:
    return asyncio.run(agent.attempt(PROBLEM, n))


def behind(marker: str, says: dict[str, str]) -> ScriptedEngine:
    """Writes what is said behind the words that the prompt ends in, the longest that fit; `|` is the end of turn."""

    def write(prompt: tuple[int, ...], sample: int, seed: int) -> list[int]:
        text = RENDERER.decode(prompt)
        ending = max((end for end in says if text.endswith(end)), key=len)
        return [STOP if token == RENDERER.encode(marker)[0] else token for token in RENDERER.encode(says[ending])]

    return ScriptedEngine(write)


def forced(engine, most: int, **settings) -> BudgetForced:
    return BudgetForced(engine, RENDERER, most, **{"cue": "#", "wait": "~", "answer_tokens": 3} | settings)


# --------------------------------------------------------------------------------------------------------------- asking


def test_words_stand_behind_the_last_question_and_the_problem_stays_as_it_was():
    agent = ScriptedAgent(lambda problem, sample, seed: problem.messages[-1].content)
    for words in (STEP_BY_STEP, DIRECTLY):
        (rollout,) = run(Asked(agent, words))
        assert rollout.text == f"2+2?\n\n{words}" and rollout.problem is PROBLEM


def test_the_words_are_paid_for():
    agent = ScriptedAgent(lambda *_: "4")
    plain, asked = run(agent)[0], run(Asked(agent, "Why?"))[0]
    assert spent_on(asked).prompt_tokens - spent_on(plain).prompt_tokens == len("\n\nWhy?")


def test_a_problem_without_a_question_cannot_be_asked_for_thoughts():
    with pytest.raises(UserError, match="has none"):
        asyncio.run(Asked(ScriptedAgent(lambda *_: ""), DIRECTLY).attempt(Problem("p", (Message("system", "x"),), ""), 1))


# -------------------------------------------------------------------------------------------------------------- forcing


def test_a_thought_that_is_too_long_is_ended_by_force_and_the_answer_asked_for():
    (rollout,) = run(forced(behind("|", {"": "abcdefgh|", "#": "4|"}), 5))
    thought, answer = rollout.completions
    assert (rollout.text, rollout.outcome) == ("abcde#4", "terminated")
    assert RENDERER.decode(thought.token_ids) == "abcde" and answer.token_ids == (RENDERER.encode("4")[0], STOP)
    assert answer.prompt_token_ids == thought.prompt_token_ids + tuple(RENDERER.encode("abcde#")), "what was forced is read, and never written"
    assert spent_on(rollout) == Spent(N_PROMPT + N_PROMPT + 6, 5 + 2)


def test_a_thought_that_ends_too_early_goes_on_behind_wait():
    """`ab`, its end taken away, `~`, `cde` up to 6 tokens; then the answer."""
    (rollout,) = run(forced(behind("|", {"": "ab|", "~": "cdefg|", "#": "4|"}), 6, min_thinking=6))
    assert [RENDERER.decode(c.token_ids[:3]) for c in rollout.completions] == ["ab<|im_end|>", "cde", "4<|im_end|>"]
    assert rollout.text == "ab~cde#4" and rollout.outcome == "terminated"
    assert rollout.completions[1].prompt_token_ids == rollout.completions[0].prompt_token_ids + tuple(RENDERER.encode("ab~"))


def test_a_thought_within_its_budget_is_the_whole_answer():
    (rollout,) = run(forced(behind("|", {"": "abc|"}), 5, min_thinking=3))
    assert (rollout.text, rollout.outcome, len(rollout.completions)) == ("abc", "terminated", 1)


@pytest.mark.parametrize("most", range(1, 12))
@pytest.mark.parametrize("says", ["", "a", "abc", "abcdefghijkl"])
def test_a_thought_has_exactly_the_tokens_that_it_is_given(most: int, says: str):
    """Wherever the model would end, between the prompt and the cue stand `most` tokens."""
    (rollout,) = run(forced(behind("|", {"": f"{says}|", "#": "4|"}), most, min_thinking=most, wait="~"))
    text = rollout.text
    if "#" in text:
        assert len(text.partition("#")[0]) in (most, most - 1), "one fewer where no room is left behind another wait"
    else:
        assert len(text) == most
    written = sum(len(c.token_ids) - (c.token_ids[-1] == STOP) for c in rollout.completions)
    assert len(text) == written + text.count("~") + text.count("#"), "every token was either sampled or forced"


def test_a_thought_that_has_an_end_of_its_own_goes_over_into_the_answer():
    says = {"": "ab}", "}": "yes|", "}#": "4|"}
    assert [r.text for r in run(forced(behind("|", says), 5, end="}"))] == ["ab}yes"]
    assert [r.text for r in run(forced(behind("|", says), 2, end="}"))] == ["ab}#4"]


def test_an_answer_that_does_not_fit_is_truncated():
    (rollout,) = run(forced(behind("|", {"": "abcdefgh|", "#": "4444|"}), 5))
    assert (rollout.text, rollout.outcome) == ("abcde#444", "truncated")


def test_a_budget_out_of_reach_leaves_the_bare_model_token_by_token():
    policy = load_policy("tiny", "float32")
    engine, sampling = LocalEngine(policy), Sampling(max_tokens=12)
    bare = run(ModelAgent(engine, policy.renderer, sampling), 6)
    thinking = run(BudgetForced(engine, policy.renderer, 12, sampling=sampling), 6)
    assert [r.completions[0].token_ids for r in thinking] == [r.completions[0].token_ids for r in bare]
    cut = [r for r in thinking if len(r.completions) == 2]
    assert cut and all(r.completions[0].stop_reason == "length" for r in cut)
    assert [r.sample for r in thinking] == list(range(6)) and len({r.completions[-1].token_ids for r in cut}) == len(cut)


def test_a_full_context_truncates_the_attempt():
    policy = load_policy("tiny", "float32")
    room = policy.max_context - len(policy.renderer.prompt(PROBLEM.messages))
    rollouts = run(BudgetForced(LocalEngine(policy), policy.renderer, room + 50), 2)
    full = [r for r in rollouts if r.completions[0].stop_reason == "length"]
    assert all(r.outcome == "truncated" and len(r.completions) == 1 for r in full)


@pytest.mark.parametrize("settings", [{"min_thinking": 9}, {"answer_tokens": 0}, {"end": "</think>"}, {"cue": ""}, {"wait": ""}])
def test_budgets_that_cannot_be_kept_are_refused(settings):
    with pytest.raises(UserError):
        forced(behind("|", {"": "|"}), 5, **settings)
