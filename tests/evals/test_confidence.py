"""How sure a model is, by each way of asking, where the answer is known beforehand."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.choices import ByLikelihood, LikeliestOption, OptionReader
from posttrain.evals.confidence import (
    Confidences, agreement, answers_of, ask, capital_options, confidences_from, options, p_true, percentage, verbalised,
)  # fmt: skip
from posttrain.evals.measure import measure
from posttrain.evals.records import Record, plain
from posttrain.evals.scorer import Unigram
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.capitals import Capitals
from posttrain.tasks.facts import Facts
from posttrain.types import Agent, UserError
from tests.evals.echo_task import EchoTask, says

RENDERER = Renderer(tiny_tokenizer())
prompt, encode = RENDERER.prompt, RENDERER.encode


def records(agent: Agent, samples: int = 4, n: int = 2) -> tuple[Record, ...]:
    task = EchoTask(n)
    return asyncio.run(measure(agent, task, task.problems("test"), samples)).records


def whole(text: str) -> str | None:
    return text or None


class Believer:
    """Finds `True` as likely as `chances` says of the answer it is shown; the two words have 90% of its probability."""

    def __init__(self, **chances: float) -> None:
        self.chances = chances
        self.n_asked = 0

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        self.n_asked += len(pairs)
        return [self._score(RENDERER.decode(prompt), RENDERER.decode(tokens), len(tokens)) for prompt, tokens in pairs]

    def _score(self, asked: str, word: str, n: int) -> tuple[list[float], list[float]]:
        shown = asked.split("Proposed answer: ")[1].split("\n")[0]
        chance = self.chances.get(shown, 0.5)
        chance = 0.9 * (chance if word == "True" else 1 - chance)
        return [math.log(chance) / n] * n, [0.0] * n


# ------------------------------------------------------------------------------------------------------------ agreement


def test_agreement_is_the_share_of_the_other_attempts_that_say_the_same() -> None:
    """Three say the right answer and one says no: each of the three has two others of three with it, the fourth has none."""
    found = agreement(records(says("{answer}", "{answer}", "no", "{answer}"), n=1), whole)
    assert found.predictions.confidences == pytest.approx((2 / 3, 2 / 3, 0, 2 / 3))
    assert found.predictions.outcomes == (1, 1, 0, 1) and set(found.predictions.clusters) == {"test-0"}
    same = found.predictions.together
    assert same[0] == same[1] == same[3] != same[2]


def test_attempts_that_hold_no_answer_disagree_with_all_and_are_counted_apart() -> None:
    found = agreement(records(says("{answer}", "", "{answer}", "mumble"), n=1), whole)
    assert found.predictions.confidences == pytest.approx((1 / 3, 1 / 3)), "mumble could not be judged, but is another answer"
    assert found.n_unparsed == 1


def test_a_single_attempt_agrees_with_nobody_and_says_nothing() -> None:
    assert agreement(records(says("{answer}"), samples=1), whole).predictions.confidences == ()
    asked = asyncio.run(ask(("agreement",), EchoTask(2), records(says("1"), samples=1), says("50%"), Believer(), RENDERER))
    assert asked == ()


def test_tasks_say_what_an_answer_is_in_one_way_of_writing() -> None:
    number = answers_of(Arithmetic())
    assert number("17+25=42.") == number("It is 42") == "42" and number("no idea") is None
    named = answers_of(Facts())
    assert named("It's Paris.") == named("the capital is PARIS, of course") == "paris"
    assert named("Lyon!") == "lyon" and named("") is None
    assert answers_of(EchoTask())(" No. ") == "no"


# --------------------------------------------------------------------------------------------------------------- P(True)


def test_p_true_is_true_against_false_and_not_all_words() -> None:
    found = p_true(records(says("{answer}", "no")), Believer(**{"0": 0.8, "1": 0.8, "no": 0.3}), prompt, encode, whole)
    assert found.predictions.confidences == pytest.approx((0.8, 0.3) * 4)
    assert found.predictions.outcomes == (1, 0) * 4
    assert found.truth == (0, 1) * 4 and found.chosen == (0,) * 8, "False is the truth of a wrong answer"
    assert "90% of its probability" in found.note


def test_each_text_is_asked_about_once_and_only_the_first_attempts_are() -> None:
    believer = Believer()
    found = p_true(records(says("{answer}", "{answer}", "no", "nay", "never", "not"), samples=6), believer, prompt, encode, whole)
    assert len(found.predictions.confidences) == 2 * 4 and believer.n_asked == 2 * 3 * 2


# -------------------------------------------------------------------------------------------------------------- verbalised


@pytest.mark.parametrize(
    ("text", "value"),
    [("80%", 0.8), ("I am 97.5 % sure.", 0.975), ("90 percent", 0.9), ("75", 0.75), ("100%", 1), ("0%", 0), ("80% - yes, 80%", 0.8), ("**60**", 0.6)],
)
def test_a_stated_percentage_is_read(text: str, value: float) -> None:
    assert percentage(text) == value


@pytest.mark.parametrize("text", ["", "very sure", "0.8", "80% or 90%", "150%", "The answer is 42", "-5%", "1,000%", "1000"])
def test_what_states_no_one_percentage_is_not_guessed_at(text: str) -> None:
    assert percentage(text) is None


def test_stated_confidence_is_asked_of_each_text_and_the_silent_are_counted_apart() -> None:
    asked: list[str] = []

    def reply(problem, sample: int, seed: int) -> str:
        asked.append(problem.messages[0].content)
        return "sure" if "Proposed answer: no" in asked[-1] else "90%"

    found = asyncio.run(verbalised(records(says("{answer}", "no", "{answer}", "nay")), ScriptedAgent(reply), whole))
    assert len(asked) == 2 * 3 and "Question: Say 0.\nProposed answer: 0\n" in asked[0]
    assert found.predictions.confidences == (0.9,) * 6 and found.predictions.outcomes == (1, 1, 0) * 2
    assert found.n_unparsed == 2 and "2 of 8 replies state no percentage" in found.note


# ----------------------------------------------------------------------------------------------------------------- options


def test_the_likeliest_option_has_its_probability_among_those_given() -> None:
    found = options([[math.log(0.02), math.log(0.06)], [math.log(0.3), math.log(0.1)]], [(1,), (1,)], ["a", "b"])
    assert found.predictions.confidences == pytest.approx((0.75, 0.75)) and found.predictions.outcomes == (1, 0)
    assert found.chosen == (1, 0) and found.truth == (1, 1)
    several = options([[0.0, 1.0, 2.0]], [(1, 2)], ["a"])
    assert several.predictions.outcomes == (1,) and several.logits == ()


def test_the_capitals_can_be_asked_whatever_the_task() -> None:
    class Always:
        """Likes the letter B."""

        def score_tokens(self, pairs):
            return [([-0.5 if RENDERER.decode(tokens) == "B" else -3.0], [0.0]) for _, tokens in pairs]

    found = asyncio.run(capital_options(Always(), RENDERER))
    assert set(found.chosen) == {1} and found.predictions.n == 32 and len(found.truth) == len(Capitals().problems("test"))


def test_a_task_asked_by_likelihood_is_as_sure_as_its_own_options_in_place_of_agreement() -> None:
    task = ByLikelihood(Capitals(per_country=1), "letter")
    scorer = Unigram(tuple((0.5 if RENDERER.decode([i]) == "C" else 0.5 / (RENDERER.vocab_size - 1)) for i in range(RENDERER.vocab_size)))
    done = asyncio.run(measure(LikeliestOption(OptionReader(scorer, RENDERER), task), task, task.problems("test"), 1)).records
    (found,) = asyncio.run(ask(("agreement", "options"), task, done, says("1"), None, None))
    likely = 0.5 / (0.5 + 3 * 0.5 / (RENDERER.vocab_size - 1))
    assert found.form == "options" and found.predictions.confidences == pytest.approx([likely] * 32)
    assert found.predictions.outcomes == tuple(float(record.problem.answer == "C") for record in done) and set(found.chosen) == {2}


# --------------------------------------------------------------------------------------------------------------- all of them


def test_all_forms_are_asked_and_come_back_from_json_as_they_were() -> None:
    done = records(says("{answer}", "no"))
    found = asyncio.run(ask(("agreement", "p_true", "verbalised"), EchoTask(2), done, says("70%"), Believer(), RENDERER))
    assert [one.form for one in found] == ["agreement", "p_true", "verbalised"]
    again = [confidences_from(row) for row in json.loads(json.dumps(plain(found)))]
    assert tuple(again) == found


def test_an_impossible_option_comes_back_as_impossible() -> None:
    found = options([[-math.inf, 0.0]], [(1,)], ["a"])
    assert confidences_from(json.loads(json.dumps(plain(found)))) == found and isinstance(found, Confidences)


def test_an_unknown_way_of_asking_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="agreement, p_true, verbalised, options"):
        asyncio.run(ask(("gut",), EchoTask(2), records(says("1")), says("1"), Believer(), RENDERER))  # type: ignore[arg-type]
