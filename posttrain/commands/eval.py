"""`posttrain eval`: one model measured on one task, or on several."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from posttrain.commands.base import completeness, file_name, make_folder, progress, show
from posttrain.commands.measuring import SuiteArgs, chosen_tasks, confide, named, say_tools, subject
from posttrain.commands.models import model_path


@dataclass(frozen=True)
class Args(SuiteArgs):
    """Measure one model: accuracy, pass@k, length, diversity, each with its 95% interval over problems.

    Tasks of choice are asked by likelihood, of the option's letter, its text, and its text per byte, each a row of its own; a
    task in other circumstances is set beside the bare one, with their paired difference.
    With --out every attempt is kept with its exact tokens, and the same command goes on where it was cut off.
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file, a hub id, or a server: openai:http://HOST:PORT/v1#NAME."""


async def main(args: Args) -> int:
    """Measure, write, print."""
    from posttrain.evals.beside import side_by_side
    from posttrain.evals.measure import measure
    from posttrain.evals.records import plain
    from posttrain.runs.folder import write_atomically
    from posttrain.runs.records import EVALUATION

    make_folder(args.out)
    chosen = await chosen_tasks(args)
    model = subject(args.model, args)
    sure, asked = confide(model), [model.asked(task) for task, _ in chosen]  # what cannot be asked is said before the work
    evaluations, documents = [], []
    for (task, problems), each in zip(chosen, asked, strict=True):
        with progress("eval" if len(chosen) == 1 else task.name, len(problems) * each.samples) as bar, named(task):
            found = await measure(
                each.agent, task, problems, each.samples, args.seed, scorer=model.policy, on_attempt=lambda _, bar=bar: bar.advance(),
                keeper=model.keeper(each),
            )  # fmt: skip
        evaluations.append(replace(found, confidences=await sure(task, found.records)))
        documents.append({**evaluations[-1].to_json(unscored_ok=args.unscored_ok), "settings": each.settings()})
    beside = side_by_side(evaluations, args.unscored_ok)
    found = {
        "model_path": model_path(args.model), "split": args.split, "settings": model.settings,
        **(documents[0] if len(documents) == 1 else {"evaluations": documents}), **({"side_by_side": plain(beside)} if beside else {}),
    }  # fmt: skip
    if args.out is not None:
        write_atomically(args.out / EVALUATION, json.dumps(found, indent=1))
        _draw(evaluations, args.out, args.unscored_ok)
        _draw_beside(args.model, beside, args.out)
    if args.json:
        print(json.dumps(found))
    else:
        say_tools(args, evaluations)
        _show(evaluations, beside, args.unscored_ok)
    return completeness(max(evaluation["unscored_frac"].value for evaluation in evaluations))


def _show(evaluations, beside, unscored_ok: bool) -> None:
    """One task with all its rows; several in a table of each kind."""
    from posttrain.evals.table import aspects_table, evaluation_table, evaluations_table, side_table

    if len(evaluations) == 1:
        show(evaluation_table(evaluations[0], unscored_ok))
        _show_calibration(evaluations[0], unscored_ok)
        return
    show(evaluations_table(evaluations, unscored_ok))
    _show_calibrations(evaluations, unscored_ok)
    if any(evaluation.aspects for evaluation in evaluations):
        show(aspects_table(evaluations, unscored_ok))
    if beside:
        show(side_table(beside))


def _show_calibration(evaluation, unscored_ok: bool) -> None:
    """A row for each way in which the model was asked how sure it is."""
    from posttrain.evals.calibrated import form_calibration, form_lines
    from posttrain.evals.table import calibration_table

    found = [form_calibration(one, evaluation.seed) for one in evaluation.confidences]
    if found and (unscored_ok or not evaluation.withheld):
        show(calibration_table(found))
        print("\n".join(form_lines(found)))


def _show_calibrations(evaluations, unscored_ok: bool) -> None:
    """The same of several tasks, without the temperatures."""
    from posttrain.evals.calibrated import form_calibration
    from posttrain.evals.table import calibrations_table

    asked = [(e.task, form_calibration(one, e.seed)) for e in evaluations if unscored_ok or not e.withheld for one in e.confidences]
    if asked:
        show(calibrations_table(asked))


def _draw(evaluations, out: Path, unscored_ok: bool) -> None:
    """A reliability diagram for each task that is not withheld, and way of asking."""
    from posttrain.calibration_intervals import calibrate
    from posttrain.evals.calibrated import reliability_svg
    from posttrain.runs.folder import write_atomically

    for evaluation in evaluations:
        for one in evaluation.confidences if unscored_ok or not evaluation.withheld else ():
            picture = reliability_svg(f"{one.title}, {evaluation.task}", {"trained": calibrate(one.predictions)}, {"trained": "model"})
            if picture:
                write_atomically(out / f"reliability-{file_name(evaluation.task)}-{one.form}.svg", picture)


def _draw_beside(model: str, beside, out: Path) -> None:
    """Each ability bare and in use, where there are any."""
    from posttrain.evals.beside_picture import beside_svg
    from posttrain.runs.folder import write_atomically

    if picture := beside_svg(model, beside):
        write_atomically(out / "in-use.svg", picture)
