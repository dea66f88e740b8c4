"""What the experiments on horizons count: how often an interval holds, runs taken together, and what a model is shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import horizon, trained_horizon
from experiments.common import write_jsonl
from posttrain.agents.faulty import FaultySpeaker
from posttrain.data.conversations import load_conversations
from posttrain.evals.reliability import reliability
from posttrain.tasks.ledger import Ledger


def test_the_interval_of_a_constant_rate_holds_it_as_often_as_it_says() -> None:
    held = horizon.covered(horizon.Config(drawn=200))
    assert held.n == 200 and held.value >= 0.93


def test_runs_taken_together_count_every_step_that_was_at_risk_once() -> None:
    def of_run(seed: int) -> horizon.Reliability:
        jobs = Ledger(3, n_test=4, seed=seed)
        return reliability("ledger", [asyncio.run(horizon.of_horizon(jobs, FaultySpeaker(jobs, 0.3), 4, 2, seed))])

    runs = [of_run(0), of_run(1)]
    judged = [v for run in runs for verdicts in run.longest.verdicts_PS for v in verdicts]
    whole = horizon.together(runs)
    assert whole.n == 8 and whole.value == pytest.approx(sum(v.right for v in judged) / sum(v.right + v.failed for v in judged))
    assert horizon.together(runs[:1]) == runs[0].longest.step


def test_a_model_is_shown_what_the_expert_did_with_its_tools(tmp_path: Path) -> None:
    jobs = replace(trained_horizon.Config().jobs(2), n_train=2)
    problem = jobs.problems("train")[0]
    write_jsonl(tmp_path / "shown.jsonl", [asyncio.run(trained_horizon.demonstration(jobs, problem, error, 0)) for error in (0.0, 1.0)])
    right, wrong = load_conversations(tmp_path / "shown.jsonl").items
    assert [m.role for m in right.messages] == ["user", "assistant", "tool", "user", "assistant", "tool", "user", "assistant"]
    assert right.messages[-1].content == problem.answer and {tool["function"]["name"] for tool in right.tools} == {"add", "transfer", "balance"}
    said = [[dict(call.arguments) for m in each.messages for call in m.tool_calls] for each in (right, wrong)]
    assert [dict(operation["arguments"]) for operation in problem.data["operations"]] == said[0] != said[1]
