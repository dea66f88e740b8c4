"""Curves over attempts and tokens, on agents whose rates are known, and the page that shows them."""

from __future__ import annotations

import asyncio
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals import scale
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.records import plain
from posttrain.evals.scale_page import page, pictures_of, sentences, tables_of
from posttrain.scaling.cost import spent_on
from posttrain.scaling.refine import Refine
from posttrain.seeds import fold, uniforms
from posttrain.statistics import pass_at_k
from posttrain.types import Problem
from tests.evals.echo_task import EchoTask

SAMPLES = 32


def rates(problem: Problem) -> float:
    """A quarter of the problems is out of reach, the others are solved with 1/10 to 9/10."""
    i = int(problem.answer)
    return 0.0 if i % 4 == 0 else (i % 9 + 1) / 10


def mixed(wrong: str = "no") -> ScriptedAgent:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        return problem.answer if uniforms([fold(seed, problem.id)], [sample])[0] < rates(problem) else wrong

    return ScriptedAgent(answer)


def evaluated(agent: ScriptedAgent, n: int = 40, samples: int = SAMPLES) -> Evaluation:
    task = EchoTask(n)
    return asyncio.run(measure(agent, task, task.problems("test"), samples))


def armed(agent: ScriptedAgent, rewards=None, n: int = 40, samples: int = SAMPLES, **settings) -> scale.Arm:
    evaluation = evaluated(agent, n, samples)
    judged = None if rewards is None else {id(a.rollout): rewards(a) for a in scale.scored_attempts(evaluation)}
    return asyncio.run(scale.arm("m", "m", None, evaluation, lambda text: text, judged, **settings))


@pytest.fixture(scope="module")
def arm() -> scale.Arm:
    return armed(mixed())


def values(arm: scale.Arm, name: str) -> list[float]:
    return [point.value.value for point in arm.curve(name).points]


def test_coverage_is_pass_at_k_and_marked_as_an_oracles(arm: scale.Arm) -> None:
    rights = [record.n_right for record in arm.evaluation.records]
    assert values(arm, scale.ORACLE) == [pytest.approx(float(pass_at_k(SAMPLES, rights, k).mean())) for k in (1, 2, 4, 8, 16, 32)]
    assert [curve.name for curve in arm.curves if curve.is_oracle] == [scale.ORACLE]


def test_all_ways_to_choose_among_one_attempt_are_accuracy(arm: scale.Arm) -> None:
    for curve in arm.curves:
        if curve.points[0].k == 1:
            assert curve.points[0].value.value == pytest.approx(arm.evaluation["accuracy"].value)


def test_a_vote_loses_what_is_right_less_than_half_the_time_and_coverage_does_not(arm: scale.Arm) -> None:
    solved = sum(record.n_right > SAMPLES / 2 for record in arm.evaluation.records)
    assert values(arm, "majority")[-1] == pytest.approx(solved / 40, abs=0.03)
    assert values(arm, scale.ORACLE)[-1] > values(arm, "majority")[-1] + 0.1


def test_a_perfect_reward_reaches_coverage_and_a_blind_one_stays_at_accuracy() -> None:
    perfect = armed(mixed(), lambda a: a.score.value)
    assert values(perfect, "best by reward") == pytest.approx(values(perfect, scale.ORACLE))
    blind = armed(mixed(), lambda a: 0.5)
    assert values(blind, "best by reward") == pytest.approx([blind.evaluation["accuracy"].value] * 6)
    assert values(blind, "vote weighted by reward") == pytest.approx(values(blind, "majority"), abs=0.02)


def test_rewards_that_are_no_weights_choose_and_do_not_vote() -> None:
    assert "vote weighted by reward" not in {curve.name for curve in armed(mixed(), lambda a: -a.score.value).curves}


def test_tokens_are_prompts_and_answers_of_every_attempt_and_judges_where_one_chose(arm: scale.Arm) -> None:
    records = arm.evaluation.records
    each = sum(len(c.prompt_token_ids) + len(c.token_ids) for r in records for a in r.attempts for c in a.rollout.completions) / len(records) / SAMPLES
    assert [point.tokens.value for point in arm.curve("majority").points] == [pytest.approx(k * each) for k in (1, 2, 4, 8, 16, 32)]
    judged = armed(mixed(), lambda a: a.score.value, verifier_tokens=lambda rollout: 100)
    assert judged.curve("best by reward").points[1].tokens.value == pytest.approx(2 * (each + 100))
    assert judged.curve("majority").points[1].tokens.value == pytest.approx(2 * each)
    assert judged.curve("best by reward").points[1].spent.verifier_tokens == pytest.approx(200)


def test_an_allocation_counts_its_looks_and_stays_within_its_budgets(arm: scale.Arm) -> None:
    points = arm.curve("majority, by difficulty").points
    assert len(points) == 3 and all(point.k <= budget + 1e-9 for point, budget in zip(points, (8, 16, 32), strict=True))
    for point in points:
        assert point.spent.difficulty_tokens > 0 and point.tokens.value == pytest.approx(point.spent.total_tokens)


def test_an_allocation_gains_over_the_vote_at_equal_attempts_where_problems_differ() -> None:
    """A third each is solved with .97, .65 and .1. What it gives is what a vote of all gives, and more where votes move to those in doubt."""

    def answer(problem: Problem, sample: int, seed: int) -> str:
        rate = (0.97, 0.65, 0.1)[int(problem.answer) % 3]
        return problem.answer if uniforms([fold(seed, problem.id)], [sample])[0] < rate else "no"

    arm = armed(ScriptedAgent(answer), n=120)
    votes, points = arm.curve("majority").points, arm.curve(scale.ALLOCATED).points
    at_its_tokens = np.interp(*(np.log([p.tokens.value for p in curve]) for curve in (points, votes)), [p.value.value for p in votes])
    gains = [point.value.value - vote for point, vote in zip(points, at_its_tokens, strict=True)]
    assert all(point.k <= budget for point, budget in zip(points, (8, 16, 32), strict=True))
    assert gains[0] > 0.02 and gains[1] > 0.01 and gains[2] > -0.02, "at the largest budget the vote of all has come to its end too"


def test_a_vote_that_goes_on_is_the_vote_itself_where_all_take_part() -> None:
    (pool,) = (asyncio.run(scale.pool(record, lambda text: text, None, None)) for record in evaluated(mixed(), 2, 8).records[1:])
    whole = scale.chosen("majority", pool, 8)
    assert scale._vote_going_on(pool, 4, 0) == pytest.approx(whole, abs=0.1 if 0 < whole < 1 else 0)


def test_only_the_strategies_that_were_asked_for_are_drawn_and_coverage_always() -> None:
    names = lambda **kept: [c.name for c in armed(mixed(), lambda a: 0.5, **kept).curves]  # noqa: E731
    assert names(strategies=("votes",)) == [scale.ORACLE, "majority", "vote weighted by reward"]
    assert names(strategies=("best",)) == [scale.ORACLE, "best by likelihood", "best by likelihood per token", "best by reward"]
    assert names(strategies=("allocate",)) == [scale.ORACLE, scale.ALLOCATED]


def test_a_search_stands_at_its_own_tokens_and_its_unscored_are_counted() -> None:
    task = EchoTask(12)
    refined = [scale.Search("revisions", k + 1, asyncio.run(measure(Refine(mixed(), k, "?"), task, task.problems("test"), 2))) for k in (3, 0)]
    arm = armed(mixed(), n=12, samples=8, searches=refined)
    one, four = arm.curve("revisions").points
    assert (one.k, four.k) == (1, 4) and not arm.curve("revisions").is_pooled
    spent = [spent_on(a.rollout).total_tokens for record in refined[0].evaluation.records for a in record.attempts]
    assert four.tokens.value == pytest.approx(sum(spent) / len(spent)) and four.tokens.value > 4 * one.tokens.value
    assert four.value == refined[0].evaluation["accuracy"]
    shrugs = asyncio.run(measure(ScriptedAgent(lambda p, sample, seed: "mumble"), task, task.problems("test"), 1))
    assert armed(mixed(), n=12, samples=8, searches=[scale.Search("revisions", 2, shrugs)]).to_json()["n_unscored"] == 12


def test_the_wall_names_what_was_never_solved_with_a_bound(arm: scale.Arm) -> None:
    never = {record.problem.id for record in arm.evaluation.records if record.n_right == 0}
    assert {row.id for row in arm.wall} == never and len(never) >= 10
    for row in arm.wall:
        assert (1 - row.rate_bound) ** row.n == pytest.approx(0.05)
        assert row.rate_bound == pytest.approx(3 / SAMPLES, rel=0.1), "the rule of three"


def test_the_law_is_fitted_on_few_attempts_alone(arm: scale.Arm) -> None:
    law = arm.law
    assert law.fitted_on == 4 and [k for k, _ in law.forecasts] == [8, 16, 32, 64, 128]
    forecast = dict(law.forecasts)[SAMPLES]
    assert law.held == (forecast.low <= law.measured.value <= forecast.high)
    assert law.single_p_value < 0.01, "problems of many rates are no single one"
    late = evaluated(ScriptedAgent(lambda p, sample, seed: p.answer if sample >= 4 else "no"))
    fooled = asyncio.run(scale.arm("m", "m", None, late, lambda text: text)).law
    assert not fooled.held, "what begins only after the fitted attempts cannot be forecast"


def test_what_could_not_be_scored_is_neither_right_nor_wrong() -> None:
    shrugs = armed(ScriptedAgent(lambda p, sample, seed: "mumble" if sample % 2 else p.answer), n=12, samples=8)
    points = shrugs.curve(scale.ORACLE).points
    assert [point.value.n for point in points] == [12, 12, 12, 0] and points[0].value.value == 1.0
    assert shrugs.law is None and not shrugs.wall and shrugs.to_json()["n_unscored"] == 48


# ------------------------------------------------------------------------------------------------------------------ page


@pytest.fixture(scope="module")
def found(arm: scale.Arm) -> dict:
    other = armed(mixed("never"), lambda a: a.score.value)
    arms = [arm.to_json(), other.to_json() | {"name": "<b> & c", "thinking_tokens": 16}]
    return plain({"task": "echo", "split": "test", "reward": "", "arms": arms})


def test_the_page_has_every_picture_well_formed_and_no_markup_of_others(found: dict) -> None:
    pictures = pictures_of(found)
    assert len(pictures) == 6, "two of each arm, all arms together, and lengths"
    for picture in pictures:
        ElementTree.fromstring(picture)
    html = page(found)
    assert html.count("<svg") == 6 and "<b> &" not in html and "http://" not in html.replace("http://www.w3.org", "")
    assert json.loads(html.split('id="figures">')[1].split("</script>")[0]) == found


def test_the_plot_sets_oracle_and_choice_apart_and_draws_the_forecast_and_the_wall(found: dict) -> None:
    (picture, *_) = pictures_of(found)
    svg = ElementTree.fromstring(picture)
    lines = svg.findall("{http://www.w3.org/2000/svg}polyline")
    dashes = [line.attrib["stroke-dasharray"] for line in lines]
    assert dashes.count("7 4") == 1 and dashes.count("2 3") == 1 and dashes.count("1 5") == 1 and dashes.count("none") == 4
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1", "2", "4", "128", "the wall", "forecast from 4", "coverage (oracle)", "majority"} <= set(texts)


def test_the_words_say_whether_the_forecast_held_and_where_the_wall_is(found: dict) -> None:
    said = "\n".join(sentences(found))
    law = found["arms"][0]["law"]
    assert ("the forecast held" in said) or ("did NOT hold" in said)
    assert f"the forecast {'held' if law['held'] else 'did NOT hold'}" in said
    assert f"{len(found['arms'][0]['wall'])} of 40 problems never solved in 32 attempts" in said


def test_every_number_of_a_table_has_its_interval_and_n(found: dict) -> None:
    tables = tables_of(found)
    curves = [table for table in tables if table[1][0] == "attempts"]
    strategies = [table for table in tables if table[1][0] == "strategy"]
    assert len(curves) == len(strategies) == 2 and len(tables) == 6
    for _, header, rows in (*curves, *strategies):
        assert all(len(row) == len(header) and row[-1] == "40" for row in rows) and all("[" in row[3] for row in rows)


def test_an_arm_of_which_too_few_attempts_could_be_scored_is_not_shown_unless_asked_for() -> None:
    hidden, asked_for = (armed(mixed(wrong="mumble"), n=8, samples=4, unscored_ok=ok) for ok in (False, True))
    found, shown = (plain({"task": "echo", "arms": [arm.to_json()]}) for arm in (hidden, asked_for))
    assert not tables_of(found) and not pictures_of(found) and tables_of(shown) and pictures_of(shown)
    assert all("could not be scored" in line for line in sentences(found)) and any("solved" in line for line in sentences(shown))
    assert "could not be scored" in page(found)
