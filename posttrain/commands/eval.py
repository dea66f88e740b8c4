"""`posttrain eval`: one model measured on one task."""

from __future__ import annotations

import json
from dataclasses import dataclass

from posttrain.commands.base import completeness, make_folder, progress, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, subject


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Measure one model on one task: accuracy, pass@k, length, diversity, each with its 95% interval over problems."""

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""


async def main(args: Args) -> int:
    """Measure, write, print."""
    from posttrain.evals.measure import measure
    from posttrain.evals.table import evaluation_table
    from posttrain.policy.models import resolve
    from posttrain.runs.folder import write_atomically

    make_folder(args.out)
    task, problems = await chosen_problems(args)
    policy, agent = subject(args.model, args)
    with progress("eval", len(problems) * args.samples) as bar:
        evaluation = await measure(agent, task, problems, args.samples, args.seed, scorer=policy, on_attempt=lambda _: bar.advance())
    found = {"model_path": str(resolve(args.model)), "split": args.split, **evaluation.to_json()}
    if args.out is not None:
        write_atomically(args.out / "evaluation.json", json.dumps(found, indent=1))
    if args.json:
        print(json.dumps(found))
    else:
        show(evaluation_table(evaluation))
    return completeness(evaluation["unscored_frac"].value)
