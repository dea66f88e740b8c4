"""Reliability measured on speakers whose error rates are known: p comes back, and length is told from conditioning on errors."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.agents.conversation import Limits
from posttrain.agents.faulty import FaultySpeaker
from posttrain.agents.scripted import ScriptedAgent
from posttrain.agents.tool_agent import ToolAgent
from posttrain.evals.failures import KINDS
from posttrain.evals.histories import AtLength, after_histories, cause
from posttrain.evals.measure import measure
from posttrain.evals.reliability import AtHorizon, Reliability, at_horizon, reliability
from posttrain.evals.reliability_page import page, tables_of
from posttrain.runs.clock import Clock
from posttrain.tasks.files_job import FilesJob
from posttrain.tasks.jobs import Jobs
from posttrain.tasks.ledger import Ledger
from posttrain.types import Rollout, Score

LEDGER = Ledger(operations=("add", "transfer"), accounts=3)


def measured(jobs: Jobs, horizons: tuple[int, ...], problems: int, samples: int, **faults: float) -> Reliability:
    async def at(horizon: int):
        task, clock = replace(jobs, horizon=horizon), Clock()
        agent = ToolAgent(FaultySpeaker(task, **faults), task.world, Limits(steps=4 * horizon + 4), clock)
        return await at_horizon(task, await measure(agent, task, task.problems("test")[:problems], samples), clock.seconds)

    async def run() -> Reliability:
        return reliability("ledger", [await at(h) for h in horizons])

    return asyncio.run(run())


def histories(jobs: Jobs, lengths: tuple[int, ...], problems: int, samples: int, **faults: float) -> list[AtLength]:
    agent = ToolAgent(FaultySpeaker(jobs, **faults), jobs.world)
    return asyncio.run(after_histories(agent, jobs, jobs.problems("test")[:problems], lengths, samples))


@pytest.fixture(scope="module")
def constant() -> Reliability:
    return measured(LEDGER, (1, 2, 4, 8), 24, 4, error=0.1)


def test_a_constant_error_rate_comes_back_from_steps_from_success_and_from_survival(constant: Reliability) -> None:
    longest = constant.longest
    assert longest.step.low <= 0.9 <= longest.step.high and longest.step.high - longest.step.low < 0.15
    assert constant.fit.step.low <= 0.9 <= constant.fit.step.high
    assert constant.fit.half_life.low <= 6.58 <= constant.fit.half_life.high
    assert all(m.low <= 0.9**t <= m.high for t, m in enumerate(longest.survival, 1))
    assert longest.slope.low <= 0 <= longest.slope.high and constant.fit.shape.low <= 1 <= constant.fit.shape.high
    assert any(note.startswith("p^t holds") for note in constant.notes)


def test_survival_to_the_end_is_success_where_nothing_is_repaired(constant: Reliability) -> None:
    for at in constant.at:
        assert at.survival[at.horizon - 1].value == pytest.approx(at.evaluation["accuracy"].value)
        assert sum(m.value for m in at.failures.values()) == pytest.approx(1)
        assert at.failures["success"].value + at.failures["wrong argument"].value == pytest.approx(1)
        assert 0 < at.costs["seconds"].value < 10 and at.costs["turns"].value == pytest.approx(at.horizon + 1)


def test_all_of_several_is_rarer_than_one_and_one_of_several_is_more_frequent(constant: Reliability) -> None:
    for at in constant.at:
        assert at.evaluation[at.most_reliable].value <= at.evaluation["accuracy"].value <= at.evaluation["pass@4"].value


def test_errors_that_grow_with_length_show_in_the_slope() -> None:
    found = measured(LEDGER, (12,), 24, 4, error=0.0, drift=0.03)
    assert found.longest.slope.low > 0 and any("does not hold: errors come more often" in note for note in found.notes)


def test_conditioning_on_errors_is_told_from_length() -> None:
    jobs = replace(LEDGER, horizon=9)
    neither = histories(jobs, (8,), 24, 6, error=0.15)
    length = histories(jobs, (8,), 24, 6, error=0.05, drift=0.05)
    errors = histories(jobs, (8,), 24, 6, error=0.05, conditioned=0.7)
    assert neither[0].conditioning.low <= 0 <= neither[0].conditioning.high and neither[0].drift.low <= 0 <= neither[0].drift.high
    assert length[0].drift.high < 0 and length[0].drift.low <= -0.4 <= length[0].drift.high
    assert length[0].conditioning.low <= 0 <= length[0].conditioning.high
    assert errors[0].conditioning.high < 0 and errors[0].conditioning.low <= -0.35 <= errors[0].conditioning.high
    assert errors[0].drift.low <= 0 <= errors[0].drift.high
    assert cause(length) == "after 8 steps, it errs more because of length alone"
    assert cause(errors) == "after 8 steps, it errs more because of errors in its history"
    assert cause(neither) == "after 8 steps, neither length nor earlier errors show an effect"


def test_files_are_a_world_to_be_measured_in_too() -> None:
    found = measured(FilesJob(), (3,), 16, 4, error=0.2)
    assert found.longest.step.low <= 0.8 <= found.longest.step.high


def test_an_agent_without_a_world_can_be_asked_for_the_next_step() -> None:
    jobs = replace(LEDGER, horizon=2)
    agent = ScriptedAgent(lambda problem, sample, seed: jobs.solution(problem).split("</tool_call>\n")[problem.data["stop_after"] - 1] + "</tool_call>")
    (found,) = asyncio.run(after_histories(agent, jobs, jobs.problems("test")[:4], (1,), 1))
    assert found.healed.value == found.injected.value == 1


# ---------------------------------------------------------------------------------------------------------- the command


def command(capsys: pytest.CaptureFixture, *more: str) -> dict:
    assert cli.run(["reliability", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_writes_a_page_and_goes_on_from_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ("--model", "faulty:error=0.2", "--horizons", "1,3", "--problems", "6", "--samples", "2", "--out", str(tmp_path))
    first = command(capsys, *flags)
    records = (tmp_path / "records.jsonl").read_text()
    assert command(capsys, *flags) == first and (tmp_path / "records.jsonl").read_text() == records
    assert [row["horizon"] for row in first["horizons"]] == [1, 3] and set(first["horizons"][0]["failures"]) == set(KINDS)
    assert [at["length"] for at in first["histories"]] == [2]
    html = (tmp_path / "report.html").read_text()
    assert "survival at horizon 3" in html and "p^t" in html and html.count("<svg") == 3 and "<script src" not in html
    lines = records.splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join(lines[:5]) + lines[5][:40])
    again = command(capsys, *flags)
    assert {k: v for k, v in again.items() if k != "horizons"} == {k: v for k, v in first.items() if k != "horizons"}
    assert [h["attempts"] for h in again["horizons"]] == [h["attempts"] for h in first["horizons"]]


def test_the_command_prints_tables(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["reliability", "--model", "faulty", "--task", "files", "--horizons", "2", "--problems", "4", "--samples", "2", "--injected", "0"]) == 0
    out = capsys.readouterr().out
    assert "What became of the attempts" in out and "ran out" in out and "95% intervals" in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--task", "arithmetic"), "--task ledger or files"), (("--horizons", "two"), "whole numbers"), (("--horizons", "0"), "at least 1"),
        (("--task", "ledger:horizon=4"), "--horizons"), (("--model", "faulty:errors=1"), "error"), (("--model", "faulty:error=2"), "between 0 and 1"),
        (("--injected", "2"), "--injected"),
    ],
)  # fmt: skip
def test_bad_flags_are_told_in_a_sentence(flags: tuple[str, ...], words: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["reliability", "--model", "faulty", *flags]) == 2
    assert words in capsys.readouterr().err


def test_nothing_at_all_right_is_reported_as_that() -> None:
    found = measured(LEDGER, (1, 2), 6, 2, error=1.0)
    assert found.fit.step.value == 0 and found.longest.step.value == 0 and "<svg" in page(found)


def test_where_too_few_attempts_could_be_judged_no_success_is_shown_unless_asked_for() -> None:
    jobs = replace(LEDGER, horizon=1)

    class Mute(Ledger):
        async def score(self, rollout: Rollout) -> Score:
            raise RuntimeError("the judge's process died")

    async def at() -> AtHorizon:
        mute = Mute(operations=jobs.operations, accounts=jobs.accounts, horizon=1)
        agent = ToolAgent(FaultySpeaker(jobs), jobs.world, Limits(steps=8), Clock())
        return await at_horizon(jobs, await measure(agent, mute, jobs.problems("test")[:3], 1), {})

    (one,) = [asyncio.run(at())]
    found, asked_for = reliability("ledger", [one]), reliability("ledger", [one], unscored_ok=True)
    assert tables_of(found)[0][2][0][1:4] == ["withheld"] * 3 and found.fit is None and found.to_json()["horizons"][0]["withheld"]
    assert tables_of(asked_for)[0][2][0][1] == "–" and not asked_for.to_json()["horizons"][0]["withheld"]
    assert any(note.startswith("horizon 1: 100% of the attempts could not be scored") for note in found.notes)
    assert any(note.startswith("horizon 1: 3 problems are too few") for note in found.notes) and "could not be scored" in page(found)
