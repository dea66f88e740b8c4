"""Records on disk: found again where nothing that they depend on has changed, and only there."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from posttrain.agents.scripted import ScriptedAgent
from posttrain.evals.measure import Evaluation, measure
from posttrain.evals.records import Attempt, Record, record_from, record_row
from posttrain.runs.records import RecordLog, is_kept, read_kept
from posttrain.types import Completion, Message, Problem, Rollout, Sampling, Score, ToolCall, UserError
from tests.evals.echo_task import EchoTask, sometimes_right

SETTINGS = {"model": "abc", "temperature": 1.0}


class Counting(ScriptedAgent):
    """Right half the time, and counts the problems that it is asked."""

    def __init__(self, fails: Mapping[str, type[BaseException]] | None = None) -> None:
        super().__init__(sometimes_right(0.5).answer)
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "fails", fails or {})

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        self.asked.append(problem.id)
        if problem.id in self.fails:
            await asyncio.sleep(0.02)  # what the others need to be written
            raise self.fails[problem.id]()
        return await super().attempt(problem, n, seed)


def evaluated(agent: Any, path: Path, task: EchoTask | None = None, samples: int = 4, seed: int = 0, **settings: Any) -> Evaluation:
    task = task or EchoTask(8)
    log = RecordLog(path, {**SETTINGS, **settings})
    return asyncio.run(measure(agent, task, task.problems("test"), samples, seed, keeper=log))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


# ------------------------------------------------------------------------------------------------------------- the rows


def test_a_record_comes_back_as_it_went_with_every_token() -> None:
    called = Message("assistant", "hm", (ToolCall("python", {"code": "1+1"}, "call-1"),))
    problem = Problem("p", (Message("system", "Be brief."), Message("user", "1+1?")), "2", {"unit": "none", "parts": [1, 2]})
    completion = Completion((1, 2), (3, 4), (-0.5, -1e-3), "length", Sampling(0.7, 9, top_k=5, seed=11), 1, 3)
    rollout = Rollout(problem, (called, Message("tool", "2", tool_call_id="call-1")), (completion,), "truncated", 1)
    record = Record(problem, (Attempt(rollout, Score(0.5, {"parsed": 1.0}, "half")),))
    assert record_from(json.loads(json.dumps(record_row(record), allow_nan=False))) == record


def test_what_could_not_be_scored_comes_back_as_that() -> None:
    problem = Problem("p", (Message("user", "?"),), "2")
    failed = Attempt(Rollout(problem, (), outcome="error", error="no engine"), Score(math.nan, {"part": math.nan}, "failed"))
    (found,) = record_from(json.loads(json.dumps(record_row(Record(problem, (failed,)))))).attempts
    assert found.score.is_unscored and math.isnan(found.score.parts["part"]) and found.rollout == failed.rollout


# ------------------------------------------------------------------------------------------------------------ going on


def test_what_was_measured_is_not_attempted_again_and_says_the_same(path: Path) -> None:
    first, second = Counting(), Counting()
    before = evaluated(first, path)
    written = path.read_bytes()
    after = evaluated(second, path)
    assert (len(first.asked), second.asked, path.read_bytes()) == (8, [], written)
    assert after == before


def test_a_measurement_that_was_cut_off_attempts_only_the_rest_and_ends_as_if_it_had_not_been(path: Path, tmp_path: Path) -> None:
    cut, rest = Counting({"test-5": KeyboardInterrupt}), Counting()
    with pytest.raises(KeyboardInterrupt):
        evaluated(cut, path)
    done = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    after = evaluated(rest, path)
    assert 0 < len(done) < 8 and sorted(done + rest.asked) == sorted(f"test-{i}" for i in range(8))
    assert after == evaluated(Counting(), tmp_path / "whole.jsonl")


def test_a_line_that_a_kill_tore_is_forgotten_and_its_problem_attempted_again(path: Path) -> None:
    before = evaluated(Counting(), path)
    path.write_bytes(path.read_bytes()[:-20])
    again = Counting()
    assert evaluated(again, path) == before
    assert len(again.asked) == 1 and len(path.read_text().splitlines()) == 8


@pytest.mark.parametrize(
    "changed", [{"samples": 5}, {"seed": 1}, {"model": "another"}, {"temperature": 0.5}], ids=lambda changed: next(iter(changed))
)
def test_another_model_or_setting_is_measured_anew_into_the_same_file(changed: dict[str, Any], path: Path) -> None:
    evaluated(Counting(), path)
    before, again = path.read_bytes(), Counting()
    evaluated(again, path, **changed)
    assert len(again.asked) == 8 and path.read_bytes().startswith(before) and len(path.read_text().splitlines()) == 16


def test_a_problem_that_was_mended_is_measured_anew_and_the_others_are_not(path: Path) -> None:
    class Mended(EchoTask):
        def problems(self, split: str) -> list[Problem]:
            return [replace(p, answer="three") if p.answer == "3" else p for p in super().problems(split)]

    evaluated(Counting(), path)
    again = Counting()
    evaluated(again, path, task=Mended(8))
    assert again.asked == ["test-3"]


def test_problems_at_which_the_machinery_failed_are_attempted_again(path: Path) -> None:
    def answer(problem: Problem, sample: int, seed: int) -> str:
        if problem.answer == "2":
            raise ConnectionError("no engine")
        return problem.answer

    broken, again = evaluated(ScriptedAgent(answer), path), Counting()
    assert broken["unscored_frac"].value == pytest.approx(1 / 8)
    assert evaluated(again, path)["unscored_frac"].value == 0 and again.asked == ["test-2"]
    assert evaluated(Counting(), path)["unscored_frac"].value == 0, "the newest record of a problem counts"


def test_what_could_not_be_scored_is_judged_again_and_not_attempted(path: Path) -> None:
    class Broken(EchoTask):
        async def score(self, rollout: Rollout) -> Score:
            raise RuntimeError("the judge's process died")

    assert evaluated(Counting(), path, task=Broken(8))["unscored_frac"].value == 1
    still, mended = Counting(), Counting()
    assert evaluated(still, path, task=Broken(8))["unscored_frac"].value == 1
    assert still.asked == [] and len(path.read_text().splitlines()) == 8, "nothing new is worth no line"
    assert evaluated(mended, path) == evaluated(Counting(), path.with_name("whole.jsonl")) and mended.asked == []


def test_without_resuming_all_is_attempted_and_added(path: Path) -> None:
    task, again = EchoTask(8), Counting()
    evaluated(Counting(), path)
    asyncio.run(measure(again, task, task.problems("test"), 4, keeper=RecordLog(path, SETTINGS, resume=False)))
    assert len(again.asked) == 8 and len(path.read_text().splitlines()) == 16


@pytest.mark.parametrize("damage", ["nonsense", "[]", '{"id": "test-0"}'])
def test_a_damaged_line_is_named_by_its_number(damage: str, path: Path) -> None:
    evaluated(Counting(), path)
    path.write_text(damage + "\n" + path.read_text())
    with pytest.raises(UserError, match="line 1 of .* is not a record"):
        evaluated(Counting(), path)


# ------------------------------------------------------------------------------------------------- reading what was kept


def kept(folder: Path, **changes: Any) -> Evaluation:
    """An evaluation's folder, as the command leaves it."""
    found = evaluated(Counting(), folder / "records.jsonl")
    document = {"model_path": "m", "split": "test", "settings": SETTINGS, **found.to_json(), **changes}
    (folder / "evaluation.json").write_text(json.dumps(document))
    return found


def test_an_evaluation_is_made_again_from_its_folder(tmp_path: Path) -> None:
    found = kept(tmp_path)
    assert is_kept(tmp_path) and read_kept(tmp_path).evaluations == (found,)
    (tmp_path / "config.json").write_text("{}")
    assert not is_kept(tmp_path), "a model's folder is a model, whatever else lies in it"


def test_an_evaluation_without_its_records_is_refused(tmp_path: Path) -> None:
    kept(tmp_path)
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(UserError, match="has no record of test-0"):
        read_kept(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"task": "echo"}')
    with pytest.raises(UserError, match="of an older kind"):
        read_kept(tmp_path)
