"""`posttrain eval`: one model measured on one task, or on several."""

from __future__ import annotations

import json
from dataclasses import dataclass

from posttrain.commands.base import completeness, make_folder, progress, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, subject


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Measure one model: accuracy, pass@k, length, diversity, each with its 95% interval over problems.

    Tasks of choice are asked by likelihood, of the option's letter, its text, and its text per byte, each a row of its own; a
    task in other circumstances is set beside the bare one, with their paired difference.
    With --out every attempt is kept with its exact tokens, and the same command goes on where it was cut off.
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""


async def main(args: Args) -> int:
    """Measure, write, print."""
    from posttrain.evals.beside import side_by_side
    from posttrain.evals.measure import measure
    from posttrain.evals.records import plain
    from posttrain.evals.table import aspects_table, evaluation_table, evaluations_table, side_table
    from posttrain.policy.models import resolve
    from posttrain.runs.folder import write_atomically
    from posttrain.runs.records import EVALUATION

    make_folder(args.out)
    chosen = await chosen_problems(args)
    model = subject(args.model, args)
    evaluations, documents = [], []
    for task, problems in chosen:
        agent, samples, depends_on = model.asked(task, args.samples)
        with progress("eval" if len(chosen) == 1 else task.name, len(problems) * samples) as bar:
            evaluations.append(await measure(
                agent, task, problems, samples, args.seed, scorer=model.policy, on_attempt=lambda _, bar=bar: bar.advance(),
                keeper=model.keeper(depends_on),
            ))  # fmt: skip
        documents.append({**evaluations[-1].to_json(), "settings": depends_on})
    beside = side_by_side([task for task, _ in chosen], evaluations)
    found = {
        "model_path": str(resolve(args.model)), "split": args.split, "settings": model.drawn,
        **(documents[0] if len(documents) == 1 else {"evaluations": documents}), **({"side_by_side": plain(beside)} if beside else {}),
    }  # fmt: skip
    if args.out is not None:
        write_atomically(args.out / EVALUATION, json.dumps(found, indent=1))
    if args.json:
        print(json.dumps(found))
    elif len(evaluations) == 1:
        show(evaluation_table(evaluations[0], args.unscored_ok))
    else:
        show(evaluations_table(evaluations, args.unscored_ok))
        for evaluation in evaluations:
            if evaluation.aspects:
                show(aspects_table(evaluation, args.unscored_ok))
        if beside:
            show(side_table(beside))
    return completeness(max(evaluation["unscored_frac"].value for evaluation in evaluations))
