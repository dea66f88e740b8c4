"""Attempts on disk: whole up to the last thing that happened, and as they were when they are read."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from posttrain.agents.recorded import Recorded
from posttrain.agents.tool_agent import ToolAgent
from posttrain.policy.hf import Policy, load_policy
from posttrain.runs.attempts import AttemptLog, read_attempts
from posttrain.types import Problem, Rollout, UserError
from tests.agents.test_tool_agent import PROBLEM, WRITTEN, attempt, forced


@pytest.fixture(scope="module")
def agent() -> ToolAgent:
    policy: Policy = load_policy("tiny", "float32")
    return forced(policy, WRITTEN)


def logged(agent: ToolAgent, path: Path) -> tuple[ToolAgent, AttemptLog]:
    log = AttemptLog(path)
    return replace(agent, journal=log.journal), log


def test_what_is_read_is_what_was_attempted_to_the_last_token(agent: ToolAgent, tmp_path: Path) -> None:
    rollouts = attempt(logged(agent, tmp_path / "steps.jsonl")[0], 2)
    kept = read_attempts(tmp_path / "steps.jsonl")
    assert [a.rollout for a in kept] == rollouts
    assert [a.transcript.completions for a in kept] == [r.completions for r in rollouts]
    rows = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows if row["sample"] == 0] == ["begun", *["said", "told"] * 3, "ended"]
    said = [row["completion"] for row in rows if row["event"] == "said" and row["sample"] == 0]
    assert sum(len(c["read_token_ids"]) + len(c["token_ids"]) for c in said) == len(rollouts[0].completions[-1].prompt_token_ids) + len(said[-1]["token_ids"])


def test_an_attempt_cut_off_anywhere_is_taken_up_and_ends_as_it_would_have(agent: ToolAgent, tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    (whole,) = attempt(logged(agent, path)[0])
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for n, torn in ((1, b""), (2, b'{"event":"to'), (3, b""), (4, b"{"), (6, b""), (7, b"")):
        cut = tmp_path / f"cut{n}.jsonl"
        cut.write_bytes(b"".join(lines[:n]) + torn)
        again, log = logged(agent, cut)
        (kept,) = log.kept.values()
        assert kept.rollout is None
        assert asyncio.run(again.go_on(kept.transcript, kept.seed)) == whole
        assert _without_seconds(cut) == _without_seconds(path)


def _without_seconds(path: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]


def test_a_fork_stands_in_its_own_file_with_the_turns_that_it_began_with(agent: ToolAgent, tmp_path: Path) -> None:
    (whole,) = attempt(logged(agent, tmp_path / "a.jsonl")[0])
    (kept,) = read_attempts(tmp_path / "a.jsonl")
    begun = replace(kept.transcript, turns=kept.transcript.turns[:2])
    forked, _ = logged(agent, tmp_path / "b.jsonl")
    rollout = asyncio.run(forked.go_on(begun, 7))
    (again,) = read_attempts(tmp_path / "b.jsonl")
    assert again.rollout == rollout and again.seed == 7
    assert rollout.completions[:2] == whole.completions[:2] and rollout.completions[2].sampling.seed != whole.completions[2].sampling.seed


def test_a_replay_runs_no_tool_and_says_the_same_or_where_it_departed(agent: ToolAgent, tmp_path: Path) -> None:
    (whole,) = attempt(logged(agent, tmp_path / "a.jsonl")[0])
    (kept,) = read_attempts(tmp_path / "a.jsonl")

    def replayed(speaker: ToolAgent) -> Rollout:
        return attempt(replace(speaker, world=Recorded(kept.transcript)))[0]

    assert replayed(agent) == whole
    other = forced(load_policy("tiny", "float32"), [WRITTEN[0], WRITTEN[1], "So it is 6."])
    assert replayed(other).error == "Departed: turn 2 is not what was said then", "the turn that could not be read reaches no partner"
    assert replayed(forced(load_policy("tiny", "float32"), [WRITTEN[0], *WRITTEN[:1], "x"])).outcome == "error"


def test_a_line_that_is_no_step_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"event":"said","id":"p","sample":0}\n')
    with pytest.raises(UserError, match="line 1 of .* is no step"):
        read_attempts(path)


def test_attempts_at_several_problems_share_a_file(agent: ToolAgent, tmp_path: Path) -> None:
    again, _ = logged(agent, tmp_path / "steps.jsonl")

    async def both() -> list[list[Rollout]]:
        other = Problem("q", PROBLEM.messages, "5")
        return await asyncio.gather(again.attempt(PROBLEM, 1), again.attempt(other, 2))

    rollouts = [r for group in asyncio.run(both()) for r in group]
    kept = {(a.transcript.problem.id, a.transcript.sample): a.rollout for a in read_attempts(tmp_path / "steps.jsonl")}
    assert kept == {(r.problem.id, r.sample): r for r in rollouts}
