"""`posttrain eval`: one model measured on one task, or on several."""

from __future__ import annotations

import json
from dataclasses import dataclass

from posttrain.commands.base import completeness, make_folder, progress, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, model_path, number_format, settings, subject


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Measure one model: accuracy, pass@k, length, diversity, each with its 95% interval over problems.

    With --out every attempt is kept with its exact tokens, and the same command goes on where it was cut off.
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file, a hub id, or a server: openai:http://HOST:PORT/v1#NAME."""


async def main(args: Args) -> int:
    """Measure, write, print."""
    from posttrain.evals.measure import measure
    from posttrain.evals.table import evaluation_table, evaluations_table
    from posttrain.runs.folder import write_atomically
    from posttrain.runs.records import EVALUATION

    make_folder(args.out)
    chosen = await chosen_problems(args)
    policy, agent, keeper = subject(args.model, args)
    evaluations = []
    for task, problems in chosen:
        with progress("eval" if len(chosen) == 1 else task.name, len(problems) * args.samples) as bar:
            evaluations.append(await measure(
                agent, task, problems, args.samples, args.seed, scorer=policy, on_attempt=lambda _, bar=bar: bar.advance(), keeper=keeper,
            ))  # fmt: skip
    documents = [evaluation.to_json() for evaluation in evaluations]
    found = {
        "model_path": model_path(args.model), "split": args.split, "settings": settings(args.model, agent.sampling, number_format(policy)),
        **(documents[0] if len(documents) == 1 else {"evaluations": documents}),
    }  # fmt: skip
    if args.out is not None:
        write_atomically(args.out / EVALUATION, json.dumps(found, indent=1))
    if args.json:
        print(json.dumps(found))
    elif len(evaluations) == 1:
        show(evaluation_table(evaluations[0], args.unscored_ok))
    else:
        show(evaluations_table(evaluations, args.unscored_ok))
    return completeness(max(evaluation["unscored_frac"].value for evaluation in evaluations))
