"""Run in a worker: which reasoning-gym judges evaluate what a model wrote, by their source."""

from __future__ import annotations

import inspect
import re

from reasoning_gym.factory import DATASETS


def names() -> list[str]:
    """The generators whose judge calls `eval`, `exec` or `parse_expr` on its answer."""
    pattern = re.compile(r"\b(eval|exec|parse_expr|sympify)\(\s*(str\()?(answer|user)")
    judges = {name: inspect.getsource(dataset.score_answer) for name, (dataset, _) in DATASETS.items()}
    return sorted(name for name, source in judges.items() if pattern.search(source))
