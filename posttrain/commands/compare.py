"""`posttrain compare`: what training changed between two models."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from posttrain.commands.base import completeness, make_folder, positional, progress, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, subject


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Say what training changed: two models on the same problems with the same seeds, every difference with its interval."""

    base: Annotated[str, positional()] = "smollm2"
    """The model before."""
    trained: Annotated[str, positional()] = ""
    """The model after."""
    untouched_task: str = ""
    """A task that was not trained on, such as facts: accuracy lost there is the alignment tax."""
    untouched_samples: int = 4
    """Attempts at each of its problems."""


async def main(args: Args) -> int:
    """Measure both, write, print."""
    from posttrain.evals.compare import Subject
    from posttrain.evals.compare import compare as measure_both
    from posttrain.evals.report import write_report
    from posttrain.evals.table import table
    from posttrain.policy.models import resolve
    from posttrain.runs.folder import disk_errors, write_atomically
    from posttrain.runs.history import training_history
    from posttrain.tasks import load
    from posttrain.types import UserError

    if not args.trained:
        raise UserError("compare needs two models: posttrain compare BASE TRAINED --task …")
    make_folder(args.out)
    task, problems = await chosen_problems(args)
    untouched = load(args.untouched_task) if args.untouched_task else None
    n = len(problems) * args.samples * 2
    n += 2 * args.untouched_samples * min(len(problems), len(untouched.problems(args.split))) if untouched else 0
    subjects = []
    for name in (args.base, args.trained):
        policy, agent = subject(name, args)
        subjects.append(Subject(name, str(resolve(name)), agent, policy, policy.renderer.encode, policy.renderer.decode))
    history = training_history(Path(args.trained), policy.renderer)  # a damaged log is found before the work, not after
    with progress("compare", n) as bar:
        comparison = await measure_both(
            *subjects, task, problems, args.samples, args.seed, split=args.split, untouched_task=untouched,
            untouched_samples=args.untouched_samples, on_attempt=lambda _: bar.advance(),
        )  # fmt: skip
    comparison = replace(comparison, training=history)
    found = comparison.to_json()
    if args.out is not None:
        write_atomically(args.out / "comparison.json", json.dumps(found, indent=1))
        with disk_errors(args.out):
            write_report(found, args.out / "report.html")
    if args.json:
        print(json.dumps(found))
    else:
        show(table(comparison))
        if args.out is not None:
            print(f"\nreport: {args.out / 'report.html'}")
    row = comparison["unscored_frac"]
    return completeness(max(row.base.value, row.trained.value))
