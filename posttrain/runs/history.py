"""A run's logs, as the report shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posttrain.renderer import Renderer
from posttrain.runs.folder import RunFolder, read_object

SHOWN_STEPS = 4
"""Steps whose attempts the report shows: the first, the last, and some between."""
SHOWN_PROBLEMS = 2
"""Problems of each of those steps."""


def training_history(path: Path, renderer: Renderer) -> dict[str, Any] | None:
    """Configuration, metrics of every step and some attempts of a run; None where `path` is no run's folder."""
    run = RunFolder(path)
    if not all((path / name).is_file() for name in ("config.json", "metrics.jsonl")):
        return None
    config = read_object(path / "config.json")
    timings = {row["step"]: row for row in run.rows("timings.jsonl")}
    metrics = [row | timings.get(row["step"], {}) for row in run.rows("metrics.jsonl")]
    return {
        "algorithm": config.get("algorithm", ""), "config": config, "metrics": metrics,
        "rollouts": _shown(run, [row["step"] for row in metrics], renderer),
    }  # fmt: skip


def _shown(run: RunFolder, steps: list[int], renderer: Renderer) -> list[dict[str, Any]]:
    if not steps:
        return []
    wanted = {steps[i * (len(steps) - 1) // (SHOWN_STEPS - 1)] for i in range(SHOWN_STEPS)}
    taken: dict[int, int] = dict.fromkeys(wanted, 0)
    shown = []
    for row in run.rows("rollouts.jsonl"):
        step = row["step"]
        if taken.get(step, SHOWN_PROBLEMS) < SHOWN_PROBLEMS:
            taken[step] += 1
            prompt = "\n".join(f"{m['role']}: {m['content']}" for m in row["messages"])
            attempts = [_attempt(attempt, renderer) for attempt in row["attempts"]]
            shown.append({"step": step, "problem_id": row["problem_id"], "prompt": prompt, "answer": row["answer"], "rollouts": attempts})
    return shown


def _attempt(row: dict[str, Any], renderer: Renderer) -> dict[str, Any]:
    ids = [t for turn in row["turns"] for t in turn["token_ids"]]
    return {
        "tokens": renderer.pieces(ids), "logprobs": [x for turn in row["turns"] for x in turn["sampling_logprobs"]],
        "advantage": row["advantage"], "score": row["score"], "outcome": row["outcome"], "explanation": row["explanation"],
    }  # fmt: skip
