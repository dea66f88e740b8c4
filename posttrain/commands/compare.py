"""`posttrain compare`: what training changed between two models."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from posttrain.commands.base import completeness, file_name, make_folder, positional, progress, show
from posttrain.commands.measuring import WRITTEN, Asked, Measured, SuiteArgs, chosen_tasks, confide, named, say_tools, subject
from posttrain.commands.models import model_path

if TYPE_CHECKING:
    from posttrain.evals.compare import Subject


@dataclass(frozen=True)
class Args(SuiteArgs):
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
    matched_temperature: Literal["", "entropy", "agreement"] = ""
    """Also sample the base at the temperature at which its entropy per token, or its answers' agreement, is the trained model's."""


async def main(args: Args) -> int:
    """Measure both, or read what was measured; write; print."""
    from posttrain.evals.beside import use_changes
    from posttrain.evals.kept import adjusted
    from posttrain.runs.records import is_kept
    from posttrain.types import UserError

    if not args.trained:
        raise UserError("compare needs two models: posttrain compare BASE TRAINED --task …")
    kept = [is_kept(Path(name)) for name in (args.base, args.trained)]
    if any(kept) and args.matched_temperature:
        raise UserError("--matched-temperature has to sample the base: give compare the two models in place of their evaluations' folders")
    if any(kept) and not all(kept):
        raise UserError("compare takes two models, or two folders that posttrain eval wrote, and not one of each")
    make_folder(args.out)
    comparisons, measured = _read(args) if all(kept) else await _measured(args)
    if len(comparisons) > 1:
        comparisons = adjusted(comparisons)
    used = use_changes(*zip(*measured, strict=True), args.unscored_ok) if measured else []
    found = _write(comparisons, used, args.out)
    if args.json:
        print(json.dumps(found))
    else:
        say_tools(args, [evaluation for both in measured for evaluation in both])
        _print(comparisons, used, args.out)
    rows = [comparison["unscored_frac"] for comparison in comparisons]
    return completeness(max(side.value for row in rows for side in (row.base, row.trained)))


def _read(args: Args):
    """The comparisons of the tasks that both folders hold an evaluation of, and the evaluations of those that asked the same problems."""
    from posttrain.evals.comparison import Named
    from posttrain.evals.kept import compare_evaluations, in_order_of
    from posttrain.runs.records import read_kept
    from posttrain.types import UserError

    base, trained = (read_kept(Path(name)) for name in (args.base, args.trained))
    sides = Named(args.base, base.model_path), Named(args.trained, trained.model_path)
    after = {evaluation.task: evaluation for evaluation in trained.evaluations}
    both = [(e, after[e.task]) for e in base.evaluations if e.task in after]
    found = [compare_evaluations(*sides, was, now, base.split, args.unscored_ok) for was, now in both]
    measured = [(was, aligned) for was, now in both if (aligned := in_order_of(was, now)) is not None]
    if not found:
        raise UserError(f"'{args.base}' and '{args.trained}' have no task in common: measure both on one")
    return found, measured


async def _measured(args: Args):
    """The comparisons of all tasks, and what they compare; the untouched task and the held-out text go with the first."""
    from posttrain.evals.compare import compare
    from posttrain.runs.history import training_history

    chosen = await chosen_tasks(args)
    _check_matching(args, chosen)
    untouched = await _untouched(args, len(chosen[0][1]))
    models = [subject(name, args) for name in (args.base, args.trained)]
    asked = [[model.asked(task) for model in models] for task, _ in chosen]  # what cannot be asked is said before the work
    renderer = models[1].policy and models[1].policy.renderer
    history = renderer and training_history(Path(args.trained), renderer)  # as is a damaged log
    found, measured = [], []
    for i, ((task, problems), each) in enumerate(zip(chosen, asked, strict=True)):
        also = untouched if i == 0 else None
        samples = each[0].samples
        n = len(problems) * samples * 2
        n += 2 * args.untouched_samples * min(len(problems), len(also.problems(args.split))) if also else 0
        with progress("compare" if len(chosen) == 1 else task.name, n) as bar, named(task):
            comparison = await compare(
                *map(_subject, models, each), task, problems, samples, args.seed, split=args.split, untouched_task=also,
                untouched_by=[_subject(model, model.asked(also)) for model in models] if also else (), unscored_ok=args.unscored_ok,
                untouched_samples=args.untouched_samples, heldout_tokens=0 if i else 256, on_attempt=lambda _, bar=bar: bar.advance(),
                matched=_matching(args, models[0], task), on_measured=lambda *both: measured.append(both),
            )  # fmt: skip
        found.append(replace(comparison, training=history))
    return found, measured


async def _untouched(args: Args, n: int):
    """The task that was not trained on, if one is named, `n` of whose gold answers score 1."""
    from posttrain.tasks import check_gold, load

    if not args.untouched_task:
        return None
    task = load(args.untouched_task)
    await check_gold(task, task.problems(args.split)[:n])
    return task


def _subject(model: Measured, asked: Asked) -> Subject:
    """The model as it is asked one task."""
    from posttrain.evals.compare import Subject

    renderer = model.policy and model.policy.renderer
    encode, decode = renderer and renderer.encode, renderer and renderer.decode
    return Subject(model.name, model_path(model.name), asked.agent, model.policy, encode, decode, model.keeper(asked), confide(model))


def _check_matching(args: Args, chosen) -> None:
    """Raises UserError where the base cannot be sampled at another temperature, or not on one of the tasks."""
    from posttrain.engine.endpoint import is_remote
    from posttrain.evals.choices import ByLikelihood
    from posttrain.evals.matched import check_matchable
    from posttrain.types import UserError

    if args.matched_temperature and is_remote(args.base):
        raise UserError("--matched-temperature samples the base at other temperatures and reads its log-probs: it needs a model here, not a server's")
    for task, problems in chosen if args.matched_temperature else ():
        if isinstance(task, ByLikelihood):
            raise UserError(f"--matched-temperature samples the base at other temperatures, and {task.name} samples nothing: add --choices {WRITTEN}")
        check_matchable(len(problems), args.samples, args.temperature, args.matched_temperature)


def _matching(args: Args, base: Measured, task):
    """What sets the trained model against the base at another temperature; None where that was not asked for."""
    from posttrain.evals.compare import paired_row
    from posttrain.evals.matched import match_base, most_attempts

    if not args.matched_temperature:
        return None

    def base_at(temperature: float) -> Subject:
        other = base.at(temperature)
        return _subject(other, other.asked(task))

    async def matched(before, after):
        with progress("base's temperature", most_attempts(after)) as bar:
            return await match_base(
                base_at, task, before, after, paired_row, args.matched_temperature, on_attempt=lambda _, bar=bar: bar.advance(),
            )  # fmt: skip

    return matched


def _write(comparisons, used, out: Path | None) -> dict:
    """The results as JSON, and as a page for each task; returned as well."""
    from posttrain.evals.records import plain
    from posttrain.evals.report import write_report
    from posttrain.runs.folder import disk_errors, write_atomically

    documents = [comparison.to_json() for comparison in comparisons]
    found = documents[0] if len(documents) == 1 else {"tasks": [d["task"] for d in documents], "comparisons": documents}
    beside = {"side_by_side": plain(used)}
    if used:
        found |= beside
    if out is not None:
        write_atomically(out / "comparison.json", json.dumps(found, indent=1))
        with disk_errors(out):
            for document, page in zip(documents, _pages(comparisons, out), strict=True):
                write_report(document | beside, page)
    return found


def _pages(comparisons, out: Path) -> list[Path]:
    """report.html, or with several tasks a page that bears each one's name."""
    if len(comparisons) == 1:
        return [out / "report.html"]
    return [out / f"report-{file_name(comparison.task)}.html" for comparison in comparisons]


def _print(comparisons, used, out: Path | None) -> None:
    """The tables, the verdict, and where the pages are."""
    from posttrain.evals.calibrated import change_lines
    from posttrain.evals.report import headline
    from posttrain.evals.table import besides_table, comparisons_table, table, use_table

    show(table(comparisons[0]) if len(comparisons) == 1 else comparisons_table(comparisons))
    if len(comparisons) > 1 and (besides := besides_table(comparisons)):
        show(besides)
    if used:
        show(use_table(used, *(side.label for side in (comparisons[0].base, comparisons[0].trained))))
    for comparison in comparisons:
        whose = "verdict" if len(comparisons) == 1 else f"verdict on {comparison.task}"
        outcome = "none" if comparison.withheld else comparison.verdict.outcome
        print(f"{whose}: {outcome}. {headline(comparison.to_json())}")
        for line in change_lines(comparison.calibration) if not comparison.withheld else ():
            print(f"  {line}")
    if out is not None:
        print("".join(f"\nreport: {page}" for page in _pages(comparisons, out)))
