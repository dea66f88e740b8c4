"""Answers of which every step is labelled right or wrong: {"prompt": …, "completions": ["step 1", "step 2", …], "labels": [true, false, …]}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.data.conversations import as_messages, check_order, text, with_system
from posttrain.data.loaded import Loaded, Unusable, WhenBad, load_rows
from posttrain.types import Message


@dataclass(frozen=True)
class Steps:
    """One answer, step by step."""

    id: str
    prompt: tuple[Message, ...]
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    """How likely each step is right: 1, 0, or in between where labels are shares."""


def load_steps(path: str | Path, when_bad: WhenBad = "error") -> Loaded[Steps]:
    """The labelled answers of a .jsonl or .jsonl.gz file. Raises UserError as `load_rows` does."""
    return load_rows(path, _steps, when_bad)


def _steps(place: str, row: Mapping[str, Any]) -> Steps:
    steps, labels = row.get("completions", row.get("steps")), row.get("labels")
    if not isinstance(steps, list) or not isinstance(labels, list) or not steps:
        raise Unusable("has no completions (the steps) with labels")
    if len(steps) != len(labels):
        raise Unusable(f"has {len(steps)} steps but {len(labels)} labels")
    if not all(isinstance(x, bool | int | float) and 0 <= x <= 1 for x in labels):
        raise Unusable("has a label that is neither true nor false nor between 0 and 1")
    if not row.get("prompt"):
        raise Unusable("has no prompt")
    prompt = with_system(as_messages(row["prompt"], "user"), row)
    if prompt[-1].role == "assistant":
        raise Unusable("has a prompt that ends in a turn of the assistant")
    check_order((*prompt, Message("assistant", "?")))
    if row.get("tools"):
        raise Unusable("has tools, which labelled steps are read without: leave them out")
    return Steps(str(row.get("id", place)), prompt, tuple(text(s, "step") for s in steps), tuple(float(x) for x in labels))
