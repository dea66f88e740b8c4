"""What the experiment on horizons counts: how often an interval holds, and runs taken together."""

from __future__ import annotations

import asyncio

import pytest

from experiments import horizon
from posttrain.agents.faulty import FaultySpeaker
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
