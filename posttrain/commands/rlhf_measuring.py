"""What `rlhf` measures: every model on the same test prompts with the same seeds, beside what it lost elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posttrain.commands.rlhf import Args
    from posttrain.evals.frontier import Samples
    from posttrain.evals.tax import Readings
    from posttrain.policy.hf import Policy
    from posttrain.types import Problem, Task


async def measured(args: Args, start: str, learned: Mapping[str, str]) -> dict[str, Any]:
    """The frontier, the paths of the runs, the tax and the reward model's own measurement, as JSON."""
    from posttrain.commands.base import progress
    from posttrain.commands.rlhf_path import seen
    from posttrain.evals.frontier import best_of_n
    from posttrain.evals.records import plain
    from posttrain.evals.tax import Tax
    from posttrain.policy.hf import load_policy
    from posttrain.runs.path import path_of
    from posttrain.training.scored import prompts_that_fit, scored_task

    task = await scored_task(learned["task"], learned["reward"], args.dtype, gold=learned["gold"])
    start_policy = load_policy(start, args.dtype)
    problems = prompts_that_fit(task.problems("test"), start_policy).items[: args.problems]
    start_policy.model.requires_grad_(False)
    points, drawn, before = [], None, None
    with progress("measure", 1 + len(args.methods)) as bar:
        for name in ("start", *args.methods):
            policy = start_policy if name == "start" else load_policy(str(args.out / name), args.dtype)
            row, samples, now = await _point(args, name, policy, start_policy, task, problems)
            points.append(row | asdict(Tax.between(before, now)))
            drawn, before = drawn or samples, before or now
            bar.advance(name)
    return plain({
        "about": _about(args, task, len(problems), has_gold=points[0]["gold"] is not None), "points": points, "best_of_n": best_of_n(drawn),
        "spread": drawn.spread(), "paths": {name: seen(args.out) if name == "dpo" else path_of(args.out / name) for name in args.methods},
        "reward_model": _last_metrics(args.out / "reward_model"),
    })  # fmt: skip


async def _point(
    args: Args, name: str, policy: Policy, start: Policy, task: Task, problems: list[Problem]
) -> tuple[dict[str, Any], Samples, Readings]:
    """One model: its place on the frontier, the answers that say so, and its readings elsewhere."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.local import LocalEngine
    from posttrain.evals.frontier import draw, point
    from posttrain.evals.tax import readings
    from posttrain.tasks import load
    from posttrain.types import Sampling

    engine, renderer = LocalEngine(policy), policy.renderer
    samples = await draw(ModelAgent(engine, renderer, Sampling(1.0, args.max_tokens)), task, problems, args.samples, args.seed)
    asked = ModelAgent(engine, renderer, Sampling(1.0, 32))
    now = await readings(asked, policy, renderer, load("facts"), args.problems, n_documents=args.documents, seed=args.seed)
    return asdict(point(name, samples, start)), samples, now


def _about(args: Args, task: Task, n: int, has_gold: bool) -> str:
    from posttrain.commands.rlhf_path import n_drawn

    few = f" ({n} is all there are)" if n < args.problems else ""
    lone = "; one prompt gives no interval" if n == 1 else ""
    gold = args.gold or (f"the score of {args.task}" if has_gold else "none")
    drawn = n_drawn(args.out) if "dpo" in args.methods else 0
    watched = f"; {drawn} answers were drawn to show DPO's path, and not learned from" if drawn else ""
    return f"{args.model} on {task.name}: {n} test prompts{few}, {args.samples} answers each{lone}; gold: {gold}; untouched: facts and a novella{watched}."


def _last_metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
