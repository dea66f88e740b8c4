"""Multiple choice by likelihood: what is read, which option is taken, and that it is kept and found again like any attempt."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from posttrain.calibration_intervals import calibrate
from posttrain.evals.choices import (
    AT_ONCE, FORMS, ByLikelihood, Form, LikeliestOption, OptionReader, asked_forms, option_logprobs,
)  # fmt: skip
from posttrain.evals.confidence import read_options
from posttrain.evals.kept import compare_evaluations
from posttrain.evals.comparison import Named
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.scorer import Unigram
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.runs.records import NAME, RecordLog, read_records
from posttrain.tasks import load
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.capitals import Capitals
from posttrain.types import Problem, UserError

RENDERER = Renderer(tiny_tokenizer())
TASK = Capitals(per_country=1)


class Counting(Unigram):
    """A unigram that knows how often it was called, and for how many texts."""

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        CALLS.append(len(pairs))
        return super().score_tokens(pairs)


CALLS: list[int] = []


def favouring(*texts: str) -> Counting:
    """A unigram in which the tokens of these texts are ten times as likely as all others."""
    liked = {token for text in texts for token in RENDERER.encode(text)}
    weights = [10.0 if token in liked else 1.0 for token in range(RENDERER.vocab_size)]
    return Counting(tuple(weight / sum(weights) for weight in weights))


def asked(scorer: Unigram, form: Form, task=TASK, n: int = 12, **settings) -> tuple[Evaluation, ByLikelihood]:
    by = ByLikelihood(task, form)
    agent = LikeliestOption(OptionReader(scorer, RENDERER), by)
    return asyncio.run(measure(agent, by, by.problems("test")[:n], 1, **settings)), by


def test_the_likeliest_letter_is_the_answer() -> None:
    found, by = asked(favouring("C"), "letter")
    assert {attempt.rollout.text for record in found.records for attempt in record.attempts} == {"C"}
    right = [record.problem.answer == "C" for record in found.records]
    assert found["accuracy"].value == sum(right) / len(right) and found["accuracy"].n == 12
    assert found.chance == 0.25 and found.task == "capitals by letter" and by.solution(by.problems("test")[0]) in "ABCD"


def test_text_is_a_sum_over_tokens_and_per_byte_divides_it_by_the_bytes() -> None:
    scorer = favouring("Paris")
    found, by = asked(scorer, "text", n=1)
    readings, options = found.records[0].attempts[0].rollout.readings, found.records[0].problem.data["options"]
    for reading, option in zip(readings, options, strict=True):
        assert list(reading.token_ids) == RENDERER.encode(option)
        assert reading.logprobs == tuple(math.log(scorer.probabilities[token]) for token in reading.token_ids)
    sums = [sum(reading.logprobs) for reading in readings]
    assert option_logprobs(readings, options, "text") == sums
    assert option_logprobs(readings, ["12345", "Zürich", "a", "b"], "byte") == [sums[0] / 5, sums[1] / 7, sums[2], sums[3]]


def test_the_model_reads_what_it_would_before_it_writes() -> None:
    found, by = asked(favouring("A"), "letter", n=2)
    for record in found.records:
        for reading, letter in zip(record.attempts[0].rollout.readings, "ABCD", strict=True):
            assert reading.prompt_token_ids == RENDERER.prompt(record.problem.messages)
            assert list(reading.token_ids) == RENDERER.encode(letter)
    found, by = asked(favouring("A"), "text", n=1)
    (record,) = found.records
    assert record.attempts[0].rollout.readings[0].prompt_token_ids == RENDERER.prompt(by.choice(record.problem).messages)


def test_behind_a_conversation_only_the_last_turn_is_read_as_the_option() -> None:
    found, by = asked(favouring("A"), "text", task=load("conversation:of=capitals,per_country=1,turns=2"), n=1)
    (record,) = found.records
    for reading, option in zip(record.attempts[0].rollout.readings, record.problem.data["options"], strict=True):
        assert reading.prompt_token_ids == RENDERER.prompt(by.choice(record.problem).messages)
        assert list(reading.token_ids) == RENDERER.encode(option)


def test_a_short_option_wins_by_the_sum_and_a_likely_one_per_byte() -> None:
    class Two(Capitals):
        def problems(self, split: str) -> list[Problem]:
            from posttrain.tasks.choices import choice_problem

            return [choice_problem("1", "Which?", ["aaaaaaaa", "z"], [0])]

    scorer = favouring("a")
    assert asked(scorer, "text", task=Two(), n=1)[0].records[0].attempts[0].rollout.text == "B"
    assert asked(scorer, "byte", task=Two(), n=1)[0].records[0].attempts[0].rollout.text == "A"


def test_whoever_waits_is_read_together_and_a_second_form_reads_nothing_again() -> None:
    CALLS.clear()
    reader = OptionReader(favouring("A"), RENDERER)
    problems = TASK.problems("test")[: AT_ONCE + 3]
    for form in ("text", "byte"):
        by = ByLikelihood(TASK, form)
        asyncio.run(measure(LikeliestOption(reader, by), by, problems, 1))
    assert len(CALLS) == 2 and sum(CALLS) <= 4 * len(problems)


def test_broken_weights_are_named_rather_than_averaged() -> None:
    with pytest.raises(UserError, match="weights are broken"):
        asked(Unigram((math.nan,) * RENDERER.vocab_size), "letter")


def test_nothing_that_was_written_is_measured_where_nothing_was_written() -> None:
    names = [quantity.name for quantity in asked(favouring("A"), "letter")[0].quantities]
    assert names == ["accuracy", "pass@1", "truncated_frac", "unscored_frac"]


def test_guessing_scores_the_mean_share_of_right_options_and_the_warning_at_chance_is_given() -> None:
    found, _ = asked(favouring("B"), "letter", n=32)
    assert any("at chance: not to be told from guessing alone, 25%" in note for note in found.notes)


def test_readings_are_kept_exactly_and_asked_for_no_more(tmp_path: Path) -> None:
    log = lambda: RecordLog(tmp_path / NAME, {"model": "m", "asked": "likelihood"})  # noqa: E731
    first, _ = asked(favouring("C"), "letter", keeper=log())
    written = (tmp_path / NAME).read_bytes()
    CALLS.clear()
    again, _ = asked(favouring("A"), "letter", keeper=log())
    assert CALLS == [] and again == first and (tmp_path / NAME).read_bytes() == written
    other, _ = asked(favouring("A"), "text", keeper=log())
    assert CALLS and other.task != first.task
    rows = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    assert len({row["key"] for row in rows}) == 24 and {len(row["attempts"][0]["readings"]) for row in rows} == {4}
    kept = read_records(tmp_path / NAME, first.task, rows[0]["settings"], [record.problem.id for record in first.records])
    assert [r.attempts for r in kept] == [r.attempts for r in first.records]


def test_a_measurement_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    log = lambda: RecordLog(tmp_path / NAME, {"model": "m"})  # noqa: E731
    whole, _ = asked(favouring("C"), "letter", keeper=log())
    lines = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(b"".join(lines[:5]) + lines[5][:20])
    CALLS.clear()
    again, _ = asked(favouring("C"), "letter", keeper=log())
    assert again == whole and sum(CALLS) == 7 * 4


def test_two_models_are_compared_on_choices_as_on_anything() -> None:
    before, after = asked(favouring("A"), "letter", n=32)[0], asked(favouring("B"), "letter", n=32)[0]
    row = compare_evaluations(Named("a", "a"), Named("b", "b"), before, after)["accuracy"]
    assert row.difference is not None and row.difference.value == pytest.approx(after["accuracy"].value - before["accuracy"].value)


def test_confidence_is_the_share_of_the_likeliest_option() -> None:
    found, by = asked(favouring("A"), "letter", n=8)
    read = read_options(by, found.records).predictions
    assert read.confidences == pytest.approx([10 / 13] * 8)
    assert sum(read.outcomes) / 8 == found["accuracy"].value
    assert calibrate(read).ece.error.value == pytest.approx(abs(10 / 13 - found["accuracy"].value))


def test_the_forms_are_named_and_only_tasks_of_choice_have_them() -> None:
    assert [task.name for task in asked_forms(TASK, "letter+written+byte")] == ["capitals by letter", "capitals", "capitals by text per byte"]
    assert asked_forms(Arithmetic(), "letter+text") == [Arithmetic()]
    assert len(asked_forms(TASK, "+".join(FORMS))) == 3
    with pytest.raises(UserError, match="not asked by 'vowel': say one or more of letter"):
        asked_forms(TASK, "vowel")
    assert asked_forms(load("conversation:of=capitals"), "text")[0].beside == "capitals by text"
