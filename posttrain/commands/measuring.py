"""What `eval` and `compare` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.commands.base import Dtype


@dataclass(frozen=True)
class MeasureArgs:
    """What `eval` and `compare` have in common."""

    task: str = "arithmetic"
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, gsm8k:path=FILE."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 64
    """How many of them, from the first; 0 takes all."""
    samples: int = 32
    """Attempts at each problem."""
    max_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    seed: int = 0
    """The same seed gives the same attempts."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path | None = None
    """Folder for the results: JSON, and with compare the page report.html."""
    json: bool = False
    """Print JSON."""


async def chosen_problems(args: MeasureArgs):
    """The task, checked, and the problems asked for."""
    from posttrain.tasks import check_gold, load
    from posttrain.types import UserError

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0:
        raise UserError("--samples and --max-tokens must be at least 1, --problems and --temperature at least 0")
    task = load(args.task)
    problems = task.problems(args.split)
    problems = list(problems[: args.problems] if args.problems else problems)
    await check_gold(task, problems[:16])
    return task, problems


def subject(model: str, args: MeasureArgs):
    """A policy and the agent that samples from it."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.types import Sampling

    policy = load_policy(model, args.dtype)
    return policy, ModelAgent(LocalEngine(policy), policy.renderer, Sampling(args.temperature, args.max_tokens))
