"""What a run passed through, read from its logs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from posttrain.runs.path import path_of
from posttrain.training.reference import kl_metrics


def logged(folder: Path, kl: list[float | None], rows: list[tuple[int, list[tuple[float | None, float | None]]]]) -> Path:
    """A run's two logs: the KL of each step, and (step, [(score, gold) of each attempt]) for each problem."""
    metrics: list[dict[str, Any]] = [{"step": i} | (kl_metrics([[x - 0.5], [x, x + 1]]) if x is not None else {}) for i, x in enumerate(kl, 1)]
    attempts = [
        {"step": step, "attempts": [{"score": s, "parts": {} if g is None else {"gold": g}} for s, g in group]} for step, group in rows
    ]  # fmt: skip
    for name, lines in (("metrics.jsonl", metrics), ("rollouts.jsonl", attempts)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_step_is_the_mean_over_its_problems_by_hand(tmp_path: Path) -> None:
    run = logged(tmp_path, [0.0, 1.5], [(1, [(1, 0.5), (3, 0.5)]), (1, [(5, 1), (7, 0)]), (2, [(4, 0.2), (4, 0.4)]), (2, [(6, 0.8), (6, 1)])])
    first, second = path_of(run)
    assert (first.step, first.kl_nats.value, first.reward.value, first.reward.n) == (1, 0.0, 4.0, 2)
    assert first.gold is not None and first.gold.value == 0.5 and first.gold.low <= 0.5 <= first.gold.high
    assert (second.kl_nats.value, second.reward.value) == (1.5, 5.0) and second.gold is not None and second.gold.value == pytest.approx(0.6)
    assert first.reward.low < 4 < first.reward.high
    assert second.kl_nats.n == 2 and second.kl_nats.stderr == pytest.approx(0.5) and 1.5 - second.kl_nats.low == pytest.approx(12.706 * 0.5, rel=1e-4)


def test_a_kl_of_one_problem_and_one_logged_without_an_interval_have_none(tmp_path: Path) -> None:
    run = logged(tmp_path, [0.5], [(1, [(1, None)])])
    for metrics in (kl_metrics([[0.25, 0.75]]), {"policy/kl_ref_nats": 0.5}):
        (run / "metrics.jsonl").write_text(json.dumps({"step": 1} | {k: v if v == v else None for k, v in metrics.items()}) + "\n")
        (only,) = path_of(run)
        assert only.kl_nats.value == 0.5 and math.isnan(only.kl_nats.low) and math.isnan(only.kl_nats.high)


def test_unscored_attempts_are_in_no_mean_and_steps_without_a_kl_in_no_path(tmp_path: Path) -> None:
    run = logged(tmp_path, [None, 0.3], [(1, [(1, None)]), (2, [(None, None), (2, None)]), (2, [(4, None), (None, None)])])
    (only,) = path_of(run)
    assert (only.step, only.reward.value, only.reward.n, only.reward.n_unscored, only.gold) == (2, 3.0, 2, 2, None)
