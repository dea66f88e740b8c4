"""What a run passed through on its way: reward and gold reward of its own samples against how far it had gone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.runs.folder import RunFolder
from posttrain.statistics import clustered_mean
from posttrain.types import Measurement


@dataclass(frozen=True)
class Waypoint:
    """One step, as the attempts that it began with show it."""

    step: int
    kl_nats: Measurement
    """Of whole attempts to the model that the run began with: the mean over the step's problems."""
    reward: Measurement
    """What was optimised: the mean over the step's problems."""
    gold: Measurement | None
    """What was only watched; None where nothing was."""


def path_of(run: Path) -> list[Waypoint]:
    """The steps of a run that logged its KL, from its logs; unscored attempts are in no mean."""
    folder = RunFolder(run)
    kl = {row["step"]: _kl(row) for row in folder.rows("metrics.jsonl") if row.get("policy/kl_ref_nats") is not None}
    groups: dict[int, list[list[dict]]] = {}
    for row in folder.rows("rollouts.jsonl"):
        groups.setdefault(row["step"], []).append(row["attempts"])
    return [Waypoint(step, kl[step], _mean(attempts, "score"), _gold(attempts)) for step, attempts in groups.items() if step in kl]


def _kl(row: Mapping[str, Any]) -> Measurement:
    """As the step measured it; without an interval where it had one problem."""
    known = lambda name: math.nan if row.get(f"policy/kl_ref_{name}") is None else row[f"policy/kl_ref_{name}"]  # noqa: E731
    return Measurement(row["policy/kl_ref_nats"], known("stderr"), known("low"), known("high"), row.get("policy/kl_ref_n", 0), 0, "nats")


def _gold(groups: list[list[dict]]) -> Measurement | None:
    return _mean([[a["parts"] for a in group] for group in groups], "gold") if any("gold" in a["parts"] for g in groups for a in g) else None


def _mean(groups: list[list[dict]], name: str) -> Measurement:
    values = [[math.nan if row.get(name) is None else row[name] for row in group] for group in groups]
    return clustered_mean(values, "reward")
