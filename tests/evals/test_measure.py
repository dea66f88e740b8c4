"""Measuring one model whose behaviour is known beforehand."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.quantities import budgets
from posttrain.evals.records import Attempt, plain
from posttrain.evals.scorer import Unigram
from posttrain.types import Agent, Message, Problem, Rollout, Sampling, Score, UserError
from tests.evals.echo_task import EchoTask, says, sometimes_right

UNIFORM = Unigram((1 / 256,) * 256)


def measured(agent: Agent, samples: int = 4, task: EchoTask | None = None, seed: int = 0, **settings: Any) -> Evaluation:
    task = task or EchoTask()
    return asyncio.run(measure(agent, task, task.problems("test"), samples, seed, **settings))


def test_always_right_scores_1_and_always_wrong_0() -> None:
    right, wrong = measured(says("{answer}")), measured(says("no"))
    assert right["accuracy"].value == right["pass@4"].value == 1
    assert wrong["accuracy"].value == wrong["pass@4"].value == 0
    assert right["accuracy"].n == 20


def test_a_coin_is_found_to_be_as_fair_as_it_is() -> None:
    found = measured(sometimes_right(0.3), samples=32, task=EchoTask(100))
    for k in (1, 2, 4, 8):
        assert found[f"pass@{k}"].low < 1 - 0.7**k < found[f"pass@{k}"].high
    assert found["accuracy"].low < 0.3 < found["accuracy"].high


def test_pass_at_1_is_accuracy_where_answers_are_right_or_wrong() -> None:
    found = measured(sometimes_right(0.3))
    assert found["pass@1"].value == pytest.approx(found["accuracy"].value)


@pytest.mark.parametrize(("samples", "ks"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (32, (1, 2, 4, 8, 16, 32))])
def test_pass_at_k_is_measured_at_powers_of_two_and_at_all_samples(samples: int, ks: tuple[int, ...]) -> None:
    assert budgets(samples) == ks


def test_what_the_judge_cannot_judge_is_neither_right_nor_wrong() -> None:
    found = measured(says("{answer}", "mumble", "no", "crash"))
    assert (found["accuracy"].value, found["accuracy"].n, found["accuracy"].n_unscored) == (0.5, 20, 40)
    assert found["unscored_frac"].value == 0.5
    assert found["pass@2"].value == 1 and found["pass@2"].n == 20
    assert found["pass@4"].n == 0 and math.isnan(found["pass@4"].value)
    reasons = [attempt.score.explanation for attempt in found.records[0].attempts]
    assert reasons[1] == "cannot be understood"
    assert reasons[3] == "the judge failed: RuntimeError: the judge's process died"


def test_problems_without_any_scored_attempt_leave_n() -> None:
    lost = ScriptedAgent(lambda problem, sample, seed: "mumble" if problem.answer == "3" else problem.answer)
    found = measured(lost)
    assert (found["accuracy"].value, found["accuracy"].n, found["accuracy"].n_unscored) == (1, 19, 4)


def test_an_attempt_whose_machinery_failed_is_unscored_and_says_nothing_of_the_model() -> None:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if sample == 0:
            raise ConnectionError("no answer from the engine")
        return problem.answer

    found = measured(ScriptedAgent(answer), samples=2)
    assert (found["accuracy"].value, found["accuracy"].n_unscored, found["unscored_frac"].value) == (1, 20, 0.5)
    assert found.records[0].attempts[0].score.explanation == "the attempt failed: ConnectionError: no answer from the engine"
    assert found["length_tokens"] == measured(says("{answer}"), samples=2)["length_tokens"]


def test_failed_attempts_are_in_no_share_of_what_was_written() -> None:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if sample == 0:
            raise ConnectionError("no answer from the engine")
        return "1234"

    found = measured(ScriptedAgent(answer, Sampling(max_tokens=2)), samples=3)
    assert (found["truncated_frac"].value, found["diversity"].value) == (1, 0)


def test_a_truncated_attempt_is_counted_as_truncated_and_still_judged() -> None:
    found = measured(ScriptedAgent(lambda problem, *_: f"{problem.answer:<9}", Sampling(max_tokens=1)), task=EchoTask(10))
    assert (found["truncated_frac"].value, found["accuracy"].value, found["unscored_frac"].value) == (1, 1, 0)


def test_lengths_are_in_sampled_tokens() -> None:
    found = measured(says("12345", "123"), task=EchoTask(3))
    assert found["length_tokens"].value == (6 + 4) / 2
    assert found["length_tokens"].unit == "tokens"


def test_diversity_is_the_share_of_pairs_of_attempts_with_different_answers() -> None:
    agent = says("so 4", "so 4", "thus 4", "so 5")
    assert measured(agent)["diversity"].value == pytest.approx(5 / 6)
    assert measured(agent, final_answer=lambda text: text[-1])["diversity"].value == pytest.approx(3 / 6)
    assert math.isnan(measured(agent, samples=1)["diversity"].value)


def test_the_scorer_adds_the_entropy_of_what_it_reads() -> None:
    found = measured(says("12345", "123"), scorer=UNIFORM)
    assert found["entropy_per_token"].value == pytest.approx(math.log(256))
    assert "entropy_per_token" not in [quantity.name for quantity in measured(says("1")).quantities]


def test_the_scorer_reads_only_as_many_attempts_as_it_is_given() -> None:
    read: list[int] = []

    class Counting(Unigram):
        def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
            read.append(len(pairs))
            return super().score_tokens(pairs)

    measured(says("1"), scorer=Counting(UNIFORM.probabilities), scorer_samples=3)
    assert read == [60]
    assert "entropy_per_token" not in [q.name for q in measured(says("1"), scorer=UNIFORM, scorer_samples=0).quantities]


def test_broken_weights_are_named_rather_than_averaged() -> None:
    with pytest.raises(UserError, match="weights are broken"):
        measured(says("1"), scorer=Unigram((math.nan,) * 256))


def test_the_log_prob_of_own_samples_is_per_token_over_all_tokens() -> None:
    class Halves(ScriptedAgent):
        """Every token but the last had a chance of one half."""

        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
            return [halved(rollout) for rollout in await super().attempt(problem, n, seed)]

    def halved(rollout: Rollout) -> Rollout:
        (completion,) = rollout.completions
        logprobs = (math.log(0.5),) * (rollout.n_tokens - 1) + (0.0,)
        return replace(rollout, completions=(replace(completion, sampling_logprobs=logprobs),))

    found = measured(Halves(lambda problem, sample, seed: "ab" if sample else "abcdefgh"), samples=2)
    assert found["sampling_logprob_per_token"].value == pytest.approx(math.log(0.5) * (8 + 2) / (9 + 3))


def test_the_same_seed_gives_the_same_attempts_and_another_seed_others() -> None:
    assert measured(sometimes_right(0.5), seed=1) == measured(sometimes_right(0.5), seed=1)
    assert measured(sometimes_right(0.5), seed=1) != measured(sometimes_right(0.5), seed=2)


def test_problems_are_attempted_with_seeds_of_their_own() -> None:
    seen: set[int] = set()
    measured(ScriptedAgent(lambda problem, sample, seed: seen.add(seed) or "1"))
    assert len(seen) == 20


def test_all_problems_are_attempted_at_once() -> None:
    waiting: list[Problem] = []

    class Batching:
        """Answers nobody before all twenty problems are waiting, as an agent that batches may."""

        def __init__(self) -> None:
            self.full = asyncio.Event()

        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
            waiting.append(problem)
            if len(waiting) == 20:
                self.full.set()
            await asyncio.wait_for(self.full.wait(), 5)
            return [Rollout(problem, (Message("assistant", problem.answer),))] * n

    found = measured(Batching())
    assert found["accuracy"].value == 1
    assert [record.problem.id for record in found.records] == [f"test-{i}" for i in range(20)]
    assert math.isnan(found["length_tokens"].value), "what was not sampled has no length"


def test_every_attempt_is_told_once_it_is_judged() -> None:
    told: list[Attempt] = []
    found = measured(says("{answer}", "no"), on_attempt=told.append)
    assert sorted(map(id, told)) == sorted(id(a) for record in found.records for a in record.attempts)


def test_a_reader_is_warned_of_many_unscored_and_many_truncated_attempts() -> None:
    assert measured(says("1")).notes == ()
    assert measured(says("mumble", *["1"] * 19), samples=20).notes == ()
    (note,) = measured(says("mumble", *["1"] * 9), samples=10).notes
    assert note.startswith("10% of the attempts could not be scored")
    (note,) = measured(ScriptedAgent(lambda *_: "1234", Sampling(max_tokens=2))).notes
    assert note.startswith("100% of the attempts ran into the limit")
    assert measured(says("1"), task=EchoTask(1)).notes == ("one problem gives no interval",)
    (note,) = measured(says("1"), task=EchoTask(5)).notes
    assert note.startswith("5 problems are too few for two models to be told apart")


def test_a_reader_is_warned_of_scores_that_tell_no_models_apart() -> None:
    (note,) = measured(says("no")).notes
    assert note.startswith("at chance: not to be told from nothing right at all")
    (note,) = measured(says("{answer}")).notes
    assert note.startswith("saturated: on these 20 problems not even a model that is always right")
    assert measured(says("{answer}", "no")).notes == ()


def test_what_guessing_scores_is_the_tasks_own() -> None:
    class Choice(EchoTask):
        chance = 0.25

    (note,) = measured(sometimes_right(0.25), task=Choice(40)).notes
    assert note.startswith("at chance: not to be told from guessing alone, 25%")
    (note,) = measured(says("no"), task=Choice(40)).notes
    assert note.startswith("accuracy is below guessing alone, 25%: look at how answers are read")
    assert measured(sometimes_right(0.6), task=Choice(40)).notes == ()


def test_attempts_without_an_answer_are_counted_and_warned_of() -> None:
    class Reads(EchoTask):
        async def score(self, rollout: Rollout) -> Score:
            found = await super().score(rollout)
            return replace(found, parts={"parsed": float(rollout.text != "hm")})

    found = measured(says("hm", "hm", "hm", "{answer}"), task=Reads())
    assert found["unparsed_frac"].value == 0.75 and found.quantity("unparsed_frac").better == "lower"
    assert any(note.startswith("75% of the attempts hold no answer that the judge could find") for note in found.notes)
    assert "unparsed_frac" not in [quantity.name for quantity in measured(says("hm")).quantities]


def test_accuracy_is_no_headline_where_it_speaks_of_too_few_attempts() -> None:
    much, little = measured(says("mumble", *["{answer}"] * 9), samples=10), measured(says("mumble", *["1"] * 19), samples=20)
    assert much.headline is None and much.withheld.startswith("10% of the attempts") and much.to_json()["headline"] is None
    assert much.to_json(unscored_ok=True)["headline"] == plain(much["accuracy"])
    assert little.headline == little["accuracy"] and little.withheld == ""


def test_problems_that_share_a_text_count_as_one() -> None:
    class Passages(EchoTask):
        def problems(self, split: str) -> list[Problem]:
            return [replace(problem, data={"cluster": int(problem.answer) // 5}) for problem in super().problems(split)]

    by_passage = ScriptedAgent(lambda problem, *_: problem.answer if int(problem.answer) < 10 else "no")
    found, alone = measured(by_passage, task=Passages()), measured(by_passage)
    assert (found["accuracy"].value, found["accuracy"].n, alone["accuracy"].n) == (0.5, 4, 20)
    assert found["accuracy"].stderr == pytest.approx(0.5 / math.sqrt(3)) and found["accuracy"].stderr > 2 * alone["accuracy"].stderr


def test_pass_hat_k_is_measured_at_the_largest_power_of_two_up_to_8() -> None:
    found = measured(says("{answer}", "{answer}", "{answer}", "no"))
    assert found["pass^4"].value == 0 and found["pass@4"].value == 1
    assert [q.name for q in measured(says("{answer}"), samples=32).quantities if q.name.startswith("pass^")] == ["pass^8"]
    assert "pass^1" not in [q.name for q in measured(says("1"), samples=1).quantities]


def test_the_json_is_plain_and_holds_every_attempt() -> None:
    found = measured(says("{answer}", "mumble"), task=EchoTask(2), samples=2)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["task"] == "echo" and document["n_problems"] == 2 and document["sampling"]["max_tokens"] == 256
    assert document["rows"][0]["name"] == "accuracy" and document["rows"][0]["value"] == 1
    assert document["pass_at_k"]["k"] == [1, 2] and document["pass_at_k"]["values"][1]["value"] is None
    problem = document["problems"][1]
    assert (problem["id"], problem["prompt"], problem["answer"], problem["rate"], problem["n"]) == ("test-1", "Say 1.", "1", 1, 1)
    assert [attempt["score"] for attempt in problem["attempts"]] == [1, None]
    assert "completions" not in problem["attempts"][0]
    assert found.to_json(tokens=True)["problems"][1]["attempts"][0]["completions"][0]["token_ids"] == [ord("1"), 3]


def test_a_conversation_is_shown_with_its_roles() -> None:
    class Rude(EchoTask):
        def problems(self, split: str) -> list[Problem]:
            return [Problem("p", (Message("system", "Be brief."), Message("user", "Say 1.")), "1")]

    document = measured(says("1"), task=Rude()).to_json()
    assert document["problems"][0]["prompt"] == "system: Be brief.\n\nuser: Say 1."


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="accuracy, pass@1"):
        measured(says("1"))["acuracy"]


@pytest.mark.parametrize(
    ("problems", "samples", "complaint"),
    [
        (lambda task: [], 4, "has no problems"),
        (lambda task: task.problems("test"), 0, "at least 1 sample"),
        (lambda task: task.problems("test") + task.problems("test"), 1, "two problems with the id test-0"),
    ],
)
def test_bad_requests_are_answered_in_one_sentence(
    problems: Callable[[EchoTask], list[Problem]], samples: int, complaint: str
) -> None:
    task = EchoTask()
    with pytest.raises(UserError, match=complaint):
        asyncio.run(measure(says("1"), task, problems(task), samples))


def test_an_agent_that_makes_too_few_attempts_is_an_error() -> None:
    class Lazy(ScriptedAgent):
        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
            return await super().attempt(problem, n - 1, seed)

    with pytest.raises(ValueError, match="asked for 4 attempts at test-0 and made 3"):
        measured(Lazy(lambda *_: "1"))


def test_a_score_outside_0_to_1_is_an_error() -> None:
    class Generous(EchoTask):
        async def score(self, rollout: Rollout) -> Score:
            return Score(2.0)

    with pytest.raises(ValueError, match="between 0 and 1"):
        measured(says("1"), task=Generous())


def test_a_judge_that_finds_bad_input_stops_the_measurement() -> None:
    class Misconfigured(EchoTask):
        async def score(self, rollout: Rollout) -> Score:
            raise UserError("the judge needs the package math-verify: install it")

    with pytest.raises(UserError, match="math-verify"):
        measured(says("1"), task=Misconfigured())
