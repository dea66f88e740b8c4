"""What a run passed through, read from its logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.runs.path import path_of


def logged(folder: Path, kl: list[float | None], rows: list[tuple[int, list[tuple[float | None, float | None]]]]) -> Path:
    """A run's two logs: the KL of each step, and (step, [(score, gold) of each attempt]) for each problem."""
    metrics: list[dict[str, Any]] = [{"step": i} | ({"policy/kl_ref_nats": x} if x is not None else {}) for i, x in enumerate(kl, 1)]
    attempts = [
        {"step": step, "attempts": [{"score": s, "parts": {} if g is None else {"gold": g}} for s, g in group]} for step, group in rows
    ]  # fmt: skip
    for name, lines in (("metrics.jsonl", metrics), ("rollouts.jsonl", attempts)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_step_is_the_mean_over_its_problems_by_hand(tmp_path: Path) -> None:
    run = logged(tmp_path, [0.0, 1.5], [(1, [(1, 0.5), (3, 0.5)]), (1, [(5, 1), (7, 0)]), (2, [(4, 0.2), (4, 0.4)]), (2, [(6, 0.8), (6, 1)])])
    first, second = path_of(run)
    assert (first.step, first.kl_nats, first.reward.value, first.reward.n) == (1, 0.0, 4.0, 2)
    assert first.gold is not None and first.gold.value == 0.5 and first.gold.low <= 0.5 <= first.gold.high
    assert (second.kl_nats, second.reward.value) == (1.5, 5.0) and second.gold is not None and second.gold.value == pytest.approx(0.6)
    assert first.reward.low < 4 < first.reward.high


def test_unscored_attempts_are_in_no_mean_and_steps_without_a_kl_in_no_path(tmp_path: Path) -> None:
    run = logged(tmp_path, [None, 0.3], [(1, [(1, None)]), (2, [(None, None), (2, None)]), (2, [(4, None), (None, None)])])
    (only,) = path_of(run)
    assert (only.step, only.reward.value, only.reward.n, only.reward.n_unscored, only.gold) == (2, 3.0, 2, 2, None)
