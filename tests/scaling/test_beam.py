"""Search over steps in a small tree of answers, where the right path is known."""

from __future__ import annotations

import asyncio
import math

import pytest

from posttrain.engine.scripted import ScriptedEngine
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.scaling.beam import StepBeam
from posttrain.scaling.cost import Spent
from posttrain.types import ContextFull, Message, Problem, Rollout, Sampling, Score, UserError

PROBLEM = Problem("p", (Message("user", "go"),), "cba")
RENDERER = Renderer(tiny_tokenizer())
(STOP,) = RENDERER.stop_token_ids
PROMPT = RENDERER.prompt(PROBLEM.messages)
LETTERS = "abc"


def write(prompt: tuple[int, ...], sample: int, seed: int) -> list[int]:
    """Three steps of one letter, sibling i writing the i-th: 27 answers. After the third the turn ends."""
    steps = RENDERER.decode(prompt[len(PROMPT) :]).count("\n")
    ahead = RENDERER.encode("".join(f"{LETTERS[sample % 3]}\n" for _ in range(2 - steps)))
    return [*ahead, RENDERER.encode(LETTERS[sample % 3])[0], STOP]


async def letters_right(rollout: Rollout) -> Score:
    """A perfect process reward: the share of the steps so far that are those of the answer; 0 once one is wrong."""
    said = rollout.text.replace("\n", "")
    return Score(float(rollout.problem.answer.startswith(said)))


async def only_the_end_shows(rollout: Rollout) -> Score:
    """Blind until the third step: the value of a path that begins with b is seen by looking ahead."""
    said = rollout.text.replace("\n", "")
    return Score(float(said.startswith("b")) if len(said) == 3 else 0.0)


def search(process, n: int = 1, **settings) -> list[Rollout]:
    beam = StepBeam(ScriptedEngine(write), RENDERER, process, **{"beams": 3, "expand": 3} | settings)
    return asyncio.run(beam.attempt(PROBLEM, n))


def test_a_perfect_process_reward_finds_the_one_right_answer_of_27():
    (rollout,) = search(letters_right)
    assert (rollout.text, rollout.outcome) == ("c\nb\na", "terminated")


def test_each_step_reads_the_exact_tokens_before_it():
    (rollout,) = search(letters_right)
    read = PROMPT
    for completion in rollout.completions:
        assert completion.prompt_token_ids == read
        read += completion.token_ids
    assert len(rollout.completions) == 3 and rollout.n_tokens == 6


def test_everything_sampled_and_judged_is_paid_for():
    """Three rounds of three steps of two tokens, behind 0, 2 and 4 tokens of answer; nine judgements."""
    (rollout,) = search(letters_right, verifier_tokens=lambda r: 10)
    assert rollout.spent == Spent(3 * (3 * len(PROMPT) + 0 + 2 + 4), 9 * 2, 90)


def test_looking_ahead_sees_what_a_blind_reward_cannot():
    """The script writes on as sibling 0 does, so that two steps ahead of `b` stand `a` and `a`."""
    assert search(only_the_end_shows)[0].text == "a\na\na"
    (ahead,) = search(only_the_end_shows, lookahead=2)
    assert ahead.text.startswith("b")
    assert ahead.spent.sampled_tokens == 9 * 2 + (3 * 2 + 3 * 1) * 2, "steps ahead are written and thrown away"


def test_steps_ahead_are_taken_at_temperature_0_and_others_are_not():
    seen = []

    class Listening(ScriptedEngine):
        async def sample(self, prompt_token_ids, n, sampling, stop_token_ids=()):
            seen.append((n, sampling.temperature))
            return await super().sample(prompt_token_ids, n, sampling, stop_token_ids)

    asyncio.run(StepBeam(Listening(write), RENDERER, letters_right, 3, 3, lookahead=1).attempt(PROBLEM, 1))
    assert {temperature for n, temperature in seen if n == 1} == {0.0} and {temperature for n, temperature in seen if n == 3} == {1.0}


def test_a_path_that_could_not_be_judged_is_kept_last():
    async def knows_only_b(rollout: Rollout) -> Score:
        return Score(-5.0 if rollout.text.startswith("b") else math.nan)

    assert search(knows_only_b)[0].text.startswith("b")


def test_a_path_that_has_ended_holds_its_place_while_another_goes_on():
    def short_or_long(prompt: tuple[int, ...], sample: int, seed: int) -> list[int]:
        return [RENDERER.encode("s")[0], STOP] if len(prompt) == len(PROMPT) and sample == 0 else [*RENDERER.encode("l\n"), RENDERER.encode("l")[0], STOP]

    def liking(letter: str):
        async def process(rollout: Rollout) -> Score:
            return Score(float(rollout.text.startswith(letter)))

        return process

    for letter, text in (("s", "s"), ("l", "l\nl")):
        beam = StepBeam(ScriptedEngine(short_or_long), RENDERER, liking(letter), beams=4, expand=2)
        (rollout,) = asyncio.run(beam.attempt(PROBLEM, 1))
        assert rollout.text.startswith(text) and rollout.outcome in ("terminated", "truncated")


@pytest.mark.parametrize("settings", [{"max_steps": 2}, {"sampling": Sampling(max_tokens=4)}])
def test_a_search_that_runs_out_is_truncated_and_keeps_what_it_has(settings):
    (rollout,) = search(letters_right, **settings)
    assert (rollout.text, rollout.outcome) == ("c\nb\n", "truncated")


class Short(ScriptedEngine):
    """An engine whose context is full behind so many tokens."""

    room: int

    async def sample(self, prompt_token_ids, *args, **settings):
        if len(prompt_token_ids) >= self.room:
            raise ContextFull("the prompt leaves no room")
        return await super().sample(prompt_token_ids, *args, **settings)


@pytest.mark.parametrize(("lookahead", "text"), [(0, "c\nb\n"), (2, "a\na\n")], ids=["beam", "lookahead"])
def test_a_search_whose_step_fills_the_context_is_truncated_and_keeps_what_it_has(lookahead, text):
    """What lies ahead is written as sibling 0 does, and is wrong: of equals the first is kept."""
    engine = Short(write)
    engine.room = len(PROMPT) + 4
    (rollout,) = asyncio.run(StepBeam(engine, RENDERER, letters_right, 3, 3, lookahead=lookahead).attempt(PROBLEM, 1))
    assert (rollout.text, rollout.outcome) == (text, "truncated")
    assert rollout.n_tokens == 4
    engine.room = len(PROMPT)
    with pytest.raises(ContextFull):
        asyncio.run(StepBeam(engine, RENDERER, letters_right, 3, 3).attempt(PROBLEM, 1))


def test_searches_are_independent_and_numbered():
    seeds = []

    def noting(prompt: tuple[int, ...], sample: int, seed: int) -> list[int]:
        seeds.append(seed)
        return write(prompt, sample, seed)

    found = asyncio.run(StepBeam(ScriptedEngine(noting), RENDERER, letters_right, 3, 3).attempt(PROBLEM, 2))
    assert [r.sample for r in found] == [0, 1] and len(set(seeds)) == 6


@pytest.mark.parametrize("settings", [{"beams": 4}, {"expand": 0}, {"lookahead": -1}, {"delimiter": ""}, {"delimiter": "no token"}])
def test_searches_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError):
        search(letters_right, **settings)
