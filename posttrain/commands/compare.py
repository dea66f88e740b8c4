"""`posttrain compare`: what training changed between two models."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from posttrain.commands.base import completeness, make_folder, positional, progress, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, subject


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Say what training changed: two models on the same problems with the same seeds, every difference with its interval.

    It ends in a verdict on accuracy: better, worse, or tied at this n. Given two folders that `posttrain eval` wrote, it
    compares what is in them, and no model is asked anything.
    """

    base: Annotated[str, positional()] = "smollm2"
    """The model before, or the folder of its evaluation."""
    trained: Annotated[str, positional()] = ""
    """The model after, or the folder of its evaluation."""
    untouched_task: str = ""
    """A task that was not trained on, such as facts: accuracy lost there is the alignment tax."""
    untouched_samples: int = 4
    """Attempts at each of its problems."""


async def main(args: Args) -> int:
    """Measure both, or read what was measured; write; print."""
    from posttrain.evals.kept import adjusted
    from posttrain.runs.records import is_kept
    from posttrain.types import UserError

    if not args.trained:
        raise UserError("compare needs two models: posttrain compare BASE TRAINED --task …")
    kept = [is_kept(Path(name)) for name in (args.base, args.trained)]
    if any(kept) and not all(kept):
        raise UserError("compare takes two models, or two folders that posttrain eval wrote, and not one of each")
    make_folder(args.out)
    comparisons = _read(args) if all(kept) else await _measured(args)
    if len(comparisons) > 1:
        comparisons = adjusted(comparisons)
    found = _write(comparisons, args.out)
    if args.json:
        print(json.dumps(found))
    else:
        _print(comparisons, args.out)
    rows = [comparison["unscored_frac"] for comparison in comparisons]
    return completeness(max(side.value for row in rows for side in (row.base, row.trained)))


def _read(args: Args):
    """The comparisons of the tasks that both folders hold an evaluation of."""
    from posttrain.evals.comparison import Named
    from posttrain.evals.kept import compare_evaluations
    from posttrain.runs.records import read_kept
    from posttrain.types import UserError

    base, trained = (read_kept(Path(name)) for name in (args.base, args.trained))
    named = Named(args.base, base.model_path), Named(args.trained, trained.model_path)
    after = {evaluation.task: evaluation for evaluation in trained.evaluations}
    found = [compare_evaluations(*named, e, after[e.task], base.split, args.unscored_ok) for e in base.evaluations if e.task in after]
    if not found:
        raise UserError(f"'{args.base}' and '{args.trained}' have no task in common: measure both on one")
    return found


async def _measured(args: Args):
    """The comparisons of all tasks; the untouched task and the held-out text go with the first."""
    from posttrain.evals.compare import Subject, compare
    from posttrain.policy.models import resolve
    from posttrain.runs.history import training_history
    from posttrain.tasks import load

    chosen = await chosen_problems(args)
    untouched = load(args.untouched_task) if args.untouched_task else None
    models = [subject(name, args) for name in (args.base, args.trained)]
    history = training_history(Path(args.trained), models[1].policy.renderer)  # a damaged log is found before the work, not after
    found = []
    for i, (task, problems) in enumerate(chosen):
        also = untouched if i == 0 else None
        subjects, samples = [], args.samples
        for model in models:
            agent, samples, depends_on = model.asked(task, args.samples)
            renderer = model.policy.renderer
            subjects.append(Subject(
                model.name, str(resolve(model.name)), agent, model.policy, renderer.encode, renderer.decode, model.keeper(depends_on),
            ))  # fmt: skip
        n = len(problems) * samples * 2
        n += 2 * args.untouched_samples * min(len(problems), len(also.problems(args.split))) if also else 0
        with progress("compare" if len(chosen) == 1 else task.name, n) as bar:
            comparison = await compare(
                *subjects, task, problems, samples, args.seed, split=args.split, untouched_task=also, unscored_ok=args.unscored_ok,
                untouched_samples=args.untouched_samples, heldout_tokens=0 if i else 256, on_attempt=lambda _, bar=bar: bar.advance(),
            )  # fmt: skip
        found.append(replace(comparison, training=history))
    return found


def _write(comparisons, out: Path | None) -> dict:
    """The results as JSON, and as a page for each task; returned as well."""
    from posttrain.evals.report import write_report
    from posttrain.runs.folder import disk_errors, write_atomically

    documents = [comparison.to_json() for comparison in comparisons]
    found = documents[0] if len(documents) == 1 else {"tasks": [d["task"] for d in documents], "comparisons": documents}
    if out is not None:
        write_atomically(out / "comparison.json", json.dumps(found, indent=1))
        with disk_errors(out):
            for document, page in zip(documents, _pages(comparisons, out), strict=True):
                write_report(document, page)
    return found


def _pages(comparisons, out: Path) -> list[Path]:
    """report.html, or with several tasks a page that bears each one's name."""
    if len(comparisons) == 1:
        return [out / "report.html"]
    return [out / f"report-{re.sub(r'[^A-Za-z0-9.]+', '-', comparison.task)}.html" for comparison in comparisons]


def _print(comparisons, out: Path | None) -> None:
    """The table, the verdict, and where the pages are."""
    from posttrain.evals.report import headline
    from posttrain.evals.table import comparisons_table, table

    show(table(comparisons[0]) if len(comparisons) == 1 else comparisons_table(comparisons))
    for comparison in comparisons:
        whose = "verdict" if len(comparisons) == 1 else f"verdict on {comparison.task}"
        outcome = "none" if comparison.withheld else comparison.verdict.outcome
        print(f"{whose}: {outcome}. {headline(comparison.to_json())}")
    for page in _pages(comparisons, out) if out is not None else []:
        print(f"\nreport: {page}")
