"""Comparing two models whose difference is known beforehand."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posttrain.agents.scripted import END_OF_TEXT, ScriptedAgent
from posttrain.evals.compare import Comparison, Subject, compare, pieces
from posttrain.evals.scorer import Unigram
from posttrain.seeds import fold, uniforms
from posttrain.types import Agent, Message, Problem, Rollout, Sampling, Score
from tests.evals.echo_task import EchoTask, says, sometimes_right

UNIFORM = Unigram((1 / 256,) * 256)


def subject(agent: Agent, label: str = "base", **abilities: Any) -> Subject:
    return Subject(label, f"models/{label}", agent, **abilities)


def compared(
    base: Subject | Agent, trained: Subject | Agent, samples: int = 4, task: EchoTask | None = None, **settings: Any
) -> Comparison:
    task = task or EchoTask()
    base, trained = (s if isinstance(s, Subject) else subject(s, name) for s, name in ((base, "base"), (trained, "trained")))
    return asyncio.run(compare(base, trained, task, task.problems("test"), samples, **settings))


def to_bytes(text: str) -> list[int]:
    return list(text.encode())


def to_text(token_ids: Sequence[int]) -> str:
    return bytes(token_ids).decode(errors="replace")


# --------------------------------------------------------------------------------------------------------- differences


def test_a_model_compared_with_itself_differs_by_exactly_0_in_everything() -> None:
    coin = subject(sometimes_right(0.4), scorer=UNIFORM, tokenize=to_bytes)
    for row in compared(coin, coin, untouched_task=EchoTask(5)).rows:
        assert row.difference is not None and row.difference.value == 0, row.name
        if row.base is not None:
            assert (row.difference.stderr, row.difference.low, row.difference.high, row.p_value) == (0, 0, 0, 1), row.name


def test_two_models_that_are_equally_bad_are_not_called_the_same() -> None:
    difference = compared(says("no"), says("nay"))["accuracy"].difference
    assert difference is not None and difference.value == 0
    assert difference.low < -0.1 and difference.high > 0.1


def test_an_improvement_is_found_with_its_size() -> None:
    row = compared(sometimes_right(0.2, "base"), sometimes_right(0.7, "trained"), samples=16, task=EchoTask(60))["accuracy"]
    assert row.base is not None and row.trained is not None and row.difference is not None
    assert row.difference.value == pytest.approx(row.trained.value - row.base.value)
    assert 0 < row.difference.low < 0.5 < row.difference.high
    assert row.p_value is not None and row.p_value < 0.001


def test_the_same_seeds_make_the_comparison_paired() -> None:
    """Both toss the same coins, so whoever is right at 50% is right at 60%, and only the tenth in between differs."""
    paired = compared(sometimes_right(0.5), sometimes_right(0.6), task=EchoTask(60))["accuracy"].difference
    alone = compared(sometimes_right(0.5, "base"), sometimes_right(0.6, "trained"), task=EchoTask(60))["accuracy"].difference
    assert paired is not None and alone is not None
    assert paired.stderr < 0.6 * alone.stderr


def test_problems_that_one_model_has_no_scores_on_are_in_no_difference() -> None:
    half = ScriptedAgent(lambda problem, *_: "mumble" if int(problem.answer) % 2 else problem.answer)
    found = compared(half, says("no"))
    row = found["accuracy"]
    assert row.base is not None and row.trained is not None and row.difference is not None
    assert (row.base.n, row.trained.n, row.difference.n, row.difference.n_unscored) == (10, 20, 10, 40)
    assert row.difference.value == -1
    assert found["newly_lost"].difference is not None and found["newly_lost"].difference.n == 10


def test_both_pass_at_k_curves_are_on_the_same_k() -> None:
    found = compared(says("no"), says("{answer}", "no", "no", "no"), samples=6)
    assert [row.name for row in found.rows[:4]] == ["accuracy", "pass@2", "pass@4", "pass@6"], "pass@1 is accuracy"
    curves = found.pass_at_k
    assert curves.k == (1, 2, 4, 6)
    assert [m.value for m in curves.base] == [0, 0, 0, 0]
    # Two of the six attempts are right.
    assert [m.value for m in curves.trained] == pytest.approx([2 / 6, 1 - (4 * 3) / (6 * 5), 1 - 1 / 15, 1])


# ------------------------------------------------------------------------------------------------------------ problems


def mixed(kept: int, lost: int, gained: int) -> tuple[ScriptedAgent, ScriptedAgent]:
    """Two models of which the first solves `kept + lost` problems and the second `kept + gained`."""

    def solver(*spans: range) -> ScriptedAgent:
        return ScriptedAgent(lambda problem, *_: problem.answer if any(int(problem.answer) in span for span in spans) else "no")

    return solver(range(kept + lost)), solver(range(kept), range(kept + lost, kept + lost + gained))


def test_problems_gained_and_lost_are_counted_and_named() -> None:
    found = compared(*mixed(kept=5, lost=2, gained=6), samples=8)
    changes = [problem.change for problem in found.problems]
    assert changes == ["both"] * 5 + ["newly_lost"] * 2 + ["newly_solved"] * 6 + ["neither"] * 7
    values = {
        name: found[name].difference for name in ("newly_solved", "newly_lost", "significantly_better", "significantly_worse")
    }
    assert [m.value for m in values.values() if m] == [6 / 20, 2 / 20, 6 / 20, 2 / 20]
    assert found["newly_lost"].base is None and found["newly_lost"].better == "lower"
    assert (found.problems[5].base_rate, found.problems[5].trained_rate, found.problems[5].n_base) == (1, 0, 8)


def test_a_single_lucky_attempt_is_newly_solved_but_not_significant() -> None:
    found = compared(says("no"), says("{answer}", *["no"] * 7), samples=8)
    solved, significant = found["newly_solved"].difference, found["significantly_better"].difference
    assert solved is not None and solved.value == 1
    assert significant is not None and significant.value == 0


def test_a_problem_without_scores_before_is_not_newly_solved() -> None:
    found = compared(says("mumble"), says("{answer}"))
    assert {problem.change for problem in found.problems} == {"neither"}
    assert (found.problems[0].n_base, found.problems[0].n_trained, found.problems[0].trained_rate) == (0, 4, 1)
    assert math.isnan(found.problems[0].base_rate)


def test_examples_come_from_gains_losses_and_the_rest_in_turn() -> None:
    found = compared(*mixed(kept=5, lost=1, gained=6), n_examples=6, example_attempts=2)
    kind = {problem.id: problem.change for problem in found.problems}
    kinds = [kind[example.problem_id] for example in found.examples]
    assert kinds == ["newly_solved", "newly_lost", "both", "neither", "newly_solved", "both"]
    assert all(len(example.base) == len(example.trained) == 2 for example in found.examples)


def test_examples_show_each_token_with_its_log_prob() -> None:
    found = compared(subject(says("é 1"), decode=to_text), subject(says("é 1")), n_examples=1)
    (example,) = found.examples
    assert example.base[0].tokens == ("", "é", " ", "1", chr(END_OF_TEXT))
    assert example.base[0].logprobs == (0.0,) * 5
    assert example.trained[0].tokens == ("é 1",), "without a decoder the whole turn is shown"
    assert (example.base[0].score, example.base[0].outcome, example.base[0].explanation) == (
        0,
        "terminated",
        "compared with the number",
    )


@pytest.mark.parametrize("text", ["", "plain", "naïve 東京 👩‍👩‍👧 end", "ends in half a character: \N{REPLACEMENT CHARACTER}"])
def test_pieces_join_to_the_text_and_never_show_half_a_character(text: str) -> None:
    found = pieces(to_bytes(text), to_text)
    assert "".join(found) == text and len(found) == len(to_bytes(text))
    assert found.count("\N{REPLACEMENT CHARACTER}") == text.count("\N{REPLACEMENT CHARACTER}")


def test_pieces_keep_the_spaces_that_a_decoder_drops_at_the_start() -> None:
    words = [" the", " cat"]
    assert pieces([0, 1], lambda ids: "".join(words[i] for i in ids).removeprefix(" ")) == ["the", " cat"]


# -------------------------------------------------------------------------------------------------------- drift and tax


def unigram(favoured: str, weight: float) -> Unigram:
    """Draws the letters a to d, the favoured one `weight` times as often."""
    weights = np.zeros(256)
    weights[[ord(letter) for letter in "abcd"]] = [weight if letter == favoured else 1 for letter in "abcd"]
    return Unigram(tuple((weights / weights.sum()).tolist()))


def writes(model: Unigram, name: str, length: int = 20) -> ScriptedAgent:
    """Writes what the model draws, cut at `length` so that only drawn tokens remain."""
    edges = np.cumsum(model.probabilities)

    def answer(problem: Problem, sample: int, seed: int) -> str:
        drawn = np.searchsorted(edges, uniforms([fold(seed, name, sample)] * length, range(length)), side="right")
        return bytes(drawn.tolist()).decode()

    return ScriptedAgent(answer, Sampling(max_tokens=length))


def divergence(p: Unigram, q: Unigram) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p.probabilities, q.probabilities, strict=True) if a > 0)


def test_kl_is_found_in_both_directions_on_each_models_own_samples() -> None:
    p, q = unigram("a", 1), unigram("b", 50)
    base, trained = subject(writes(p, "base"), scorer=p), subject(writes(q, "trained"), scorer=q)
    found = compared(base, trained, task=EchoTask(80))
    for name, truth in (("kl_trained_base", divergence(q, p)), ("kl_base_trained", divergence(p, q))):
        for suffix, factor in (("per_token", 1), ("per_completion", 20)):
            measured = found[f"{name}_{suffix}"].difference
            assert measured is not None and measured.n == 80
            assert measured.low < factor * truth < measured.high
            assert measured.high - measured.low < 0.4 * factor * truth
    assert found["entropy_per_token"].trained is not None
    assert found["entropy_per_token"].trained.value == pytest.approx(q.entropy())


def test_kl_is_not_made_up_from_samples_of_another_distribution() -> None:
    cold = ScriptedAgent(lambda *_: "1", Sampling(temperature=0.5))
    found = compared(subject(cold, scorer=UNIFORM), subject(cold, scorer=UNIFORM))
    assert found["kl_trained_base_per_token"].difference is None
    assert "temperature 1" in found["kl_trained_base_per_token"].note


def test_kl_needs_two_models_that_read_the_same_prompt() -> None:
    class Polite(ScriptedAgent):
        """Renders the problem in its own way."""

        async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Any]:
            return await super().attempt(Problem(problem.id, (Message("user", "Please!"),), problem.answer), n, seed)

    found = compared(subject(says("1"), scorer=UNIFORM), subject(Polite(lambda *_: "1"), scorer=UNIFORM))
    assert found["kl_base_trained_per_token"].difference is None
    assert "same prompt tokens" in found["kl_base_trained_per_token"].note


def test_held_out_text_shows_what_was_forgotten() -> None:
    letters = np.bincount(to_bytes("the quick brown fox, and e e e e t t t"), minlength=256) + 0.5
    fluent = Unigram(tuple((letters / letters.sum()).tolist()))
    found = compared(subject(says("1"), scorer=fluent, tokenize=to_bytes), subject(says("1"), scorer=UNIFORM, tokenize=to_bytes))
    row = found["heldout_logprob_per_token"]
    assert row.trained is not None and row.difference is not None and row.better == "higher"
    assert row.trained.value == pytest.approx(-math.log(256))
    assert row.difference.high < 0 and row.difference.n > 30
    assert found["heldout_logprob_per_byte"].difference == row.difference, "here every token is a byte"


def test_with_two_tokenizers_only_bytes_are_compared() -> None:
    def pairs(text: str) -> list[int]:
        return to_bytes(text)[::2]

    found = compared(subject(says("1"), scorer=UNIFORM, tokenize=to_bytes), subject(says("1"), scorer=UNIFORM, tokenize=pairs))
    names = [row.name for row in found.rows]
    assert "heldout_logprob_per_byte" in names and "heldout_logprob_per_token" not in names
    difference = found["heldout_logprob_per_byte"].difference
    assert difference is not None and difference.value == pytest.approx(math.log(256) / 2, rel=0.01)


def test_the_alignment_tax_is_measured_on_problems_of_the_untouched_task() -> None:
    class Other(EchoTask):
        name = "other"

    def answer(problem: Problem, sample: int, seed: int) -> str:
        return problem.answer if int(problem.answer) % 2 else "no"

    row = compared(says("{answer}"), ScriptedAgent(answer), task=EchoTask(6), untouched_task=Other(20))["untouched_accuracy"]
    assert row.base is not None and row.difference is not None
    assert (row.base.value, row.difference.value, row.difference.n) == (1, -0.5, 6)
    assert "other" in row.title
    chosen = Other(20).problems("train")[:15]
    row = compared(says("1"), says("1"), task=EchoTask(6), untouched_task=Other(), untouched_problems=chosen)[
        "untouched_accuracy"
    ]
    assert row.base is not None and row.base.n == 15


def test_without_a_scorer_there_are_no_rows_that_would_need_one() -> None:
    names = [row.name for row in compared(says("1"), says("1")).rows]
    assert not [name for name in names if name.startswith(("kl", "entropy", "heldout"))]


# ------------------------------------------------------------------------------------------------- notes and the record


def test_notes_say_whose_numbers_to_distrust() -> None:
    cut = ScriptedAgent(lambda *_: "1234", Sampling(max_tokens=2))
    note = compared(says("mumble", "{answer}"), cut)["accuracy"].note
    assert "base: 50% of the attempts could not be scored" in note
    assert "trained: 100% of the attempts ran into the limit" in note
    assert "sampled differently" in note


def test_a_comparison_says_whose_score_is_at_chance_and_whose_at_the_ceiling() -> None:
    note = compared(says("no"), says("{answer}"))["accuracy"].note
    assert note.startswith("base: at chance: ") and "; trained: saturated: on these 20 problems" in note
    assert compared(says("{answer}"), says("{answer}"))["accuracy"].note.startswith("both: saturated: ")
    assert compared(says("no", "{answer}"), says("{answer}", "no"))["accuracy"].note == ""


def test_a_comparison_says_whose_attempts_hold_no_answer() -> None:
    class Reads(EchoTask):
        async def score(self, rollout: Rollout) -> Score:
            return replace(await super().score(rollout), parts={"parsed": float(rollout.text != "hm")})

    note = compared(says("hm", "hm", "hm", "{answer}"), says("no", "{answer}"), task=Reads())["accuracy"].note
    assert "base: 75% of the attempts hold no answer" in note and "trained" not in note


def test_one_problem_is_too_few_for_an_interval_and_the_row_says_so() -> None:
    row = compared(says("no"), says("{answer}"), task=EchoTask(1))["accuracy"]
    assert row.difference is not None and (row.difference.value, math.isnan(row.difference.low)) == (1, True)
    assert "too few for an interval" in row.note


def test_the_json_has_exactly_the_parts_that_the_report_page_reads() -> None:
    found = compared(subject(says("no"), decode=to_text), says("{answer}"), samples=2, task=EchoTask(3), seed=5, split="test")
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(document) == [
        "base", "trained", "task", "split", "samples", "n_problems", "seed", "sampling",
        "rows", "pass_at_k", "problems", "examples", "training", "verdict", "withheld", "paired", "p_holm",
        "crossover", "findings", "matched", "calibration",
    ]  # fmt: skip
    assert document["base"] == {"label": "base", "model_path": "models/base"}
    assert (document["task"], document["split"], document["samples"], document["n_problems"], document["seed"]) == (
        "echo",
        "test",
        2,
        3,
        5,
    )
    assert list(document["rows"][0]) == ["name", "title", "better", "base", "trained", "difference", "p_value", "note"]
    assert list(document["rows"][0]["base"]) == ["value", "stderr", "low", "high", "n", "n_unscored", "unit"]
    assert list(document["pass_at_k"]) == ["k", "base", "trained"]
    assert list(document["problems"][0]) == [
        "id",
        "prompt",
        "answer",
        "base_rate",
        "trained_rate",
        "n_base",
        "n_trained",
        "change",
    ]
    example = document["examples"][0]
    assert list(example) == ["problem_id", "prompt", "answer", "base", "trained"]
    assert set(example["base"][0]) == {"tokens", "logprobs", "advantage", "score", "outcome", "explanation"}
    assert example["trained"][0]["logprobs"] == [None] and example["base"][0]["advantage"] is None
    assert document["training"] is None
