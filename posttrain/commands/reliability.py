"""`posttrain reliability`: how far a model with tools can be relied on as its jobs become longer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posttrain.commands.base import Dtype, completeness, make_folder, progress, show
from posttrain.commands.models import keeper, watched

if TYPE_CHECKING:
    from posttrain.agents.conversation import Speaker
    from posttrain.evals.histories import AtLength
    from posttrain.evals.reliability import AtHorizon, Reliability
    from posttrain.tasks.jobs import Jobs


@dataclass(frozen=True)
class Args:
    """Measure a model with tools on jobs of growing length: success, pass^k, survival step by step, why it failed, what it cost.

    With --out every attempt is kept, a page is written, and the same command goes on where it was cut off.
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file, a hub id, or a server: openai:URL[#MODEL][,tokenizer=MODEL];
    faulty:error=0.1,drift=0,conditioned=0 errs as often as it is told to."""
    task: str = "ledger"
    """ledger or files, perhaps with options: NAME[:key=value,…]."""
    horizons: str = "1,2,4,8"
    """How many operations the jobs have, with commas."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 32
    """How many jobs of each length."""
    samples: int = 8
    """Attempts at each."""
    injected: float = 0.5
    """The share of errors in histories that are given to it, to tell what errors do from what length does; 0 leaves that out."""
    steps: int = 0
    """The most turns of an attempt; 0 allows 4, and 4 for each operation."""
    max_tokens: int = 96
    """Longest turn, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    seed: int = 0
    """The same seed gives the same attempts."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path | None = None
    """Folder for the results: reliability.json, report.html, every attempt in records.jsonl, and their times."""
    resume: bool = True
    """Take what --out already holds of the same problems, settings and model, and attempt only the rest."""
    unscored_ok: bool = False
    """Show success even where more than 5% of the attempts could not be judged."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Attempt the jobs of each length, then the next step after histories; write, print."""
    from posttrain.evals.reliability import reliability
    from posttrain.runs.clock import NAME, Clock

    jobs = _jobs(args)
    make_folder(args.out)
    speaker, settings = _speaker(args, jobs[-1])
    clock = Clock(args.out / NAME if args.out else None)
    at = [await _at(args, each, speaker, settings, clock) for each in jobs]
    histories = await _histories(args, jobs[-1], speaker, settings)
    found = reliability(args.task, at, histories, args.unscored_ok)
    _tell(args, found)
    return completeness(max(each.evaluation["unscored_frac"].value for each in at))


def _jobs(args: Args) -> list[Jobs]:
    """The task at each length, from the shortest. Raises UserError for what is no job, and for flags out of range."""
    from posttrain.tasks import load
    from posttrain.tasks.jobs import Jobs
    from posttrain.types import UserError

    task = load(args.task)
    if not isinstance(task, Jobs):
        raise UserError(f"reliability needs jobs of any length, and {task.name} has none: take --task ledger or files")
    if "horizon" in args.task:
        raise UserError("give the lengths of jobs as --horizons 1,2,4,8, and not as an option of the task")
    try:
        horizons = sorted({int(part) for part in args.horizons.split(",")})
    except ValueError:
        raise UserError(f"--horizons takes whole numbers with commas, such as 1,2,4,8, not '{args.horizons}'") from None
    if min(horizons[0], args.problems, args.samples, args.max_tokens) < 1 or min(args.steps, args.temperature) < 0 or not 0 <= args.injected <= 1:
        raise UserError(
            "--horizons, --problems, --samples and --max-tokens must be at least 1, --steps and --temperature at least 0, --injected between 0 and 1"
        )
    return [replace(task, horizon=h, n_train=max(task.n_train, args.problems), n_test=max(task.n_test, args.problems)) for h in horizons]


def _speaker(args: Args, jobs: Jobs) -> tuple[Speaker, dict[str, Any]]:
    """Who speaks, and all that its attempts depend on beside the problem, samples and seed."""
    if args.model.partition(":")[0] == "faulty":
        from posttrain.agents.faulty import FaultySpeaker
        from posttrain.tasks.options import parse_options, typed_options

        known = {"error": 0.1, "drift": 0.0, "conditioned": 0.0}
        options = typed_options("faulty", parse_options(args.model.partition(":")[2]), known)
        return FaultySpeaker(jobs, **options), {"model": "faulty", **known, **options}
    from posttrain.commands.attempting import speaker_for
    from posttrain.commands.models import settings
    from posttrain.types import Sampling

    sampling = Sampling(args.temperature, args.max_tokens)
    speaker, policy = speaker_for(args.model, args.dtype, sampling)
    return speaker, settings(args.model, sampling, policy)


async def _at(args: Args, jobs: Jobs, speaker: Speaker, settings: dict[str, Any], clock: Any) -> AtHorizon:
    """The jobs of one length."""
    from posttrain.agents.conversation import Limits
    from posttrain.agents.tool_agent import ToolAgent
    from posttrain.evals.reliability import at_horizon
    from posttrain.tasks import check_gold

    problems, steps = jobs.problems(args.split)[: args.problems], args.steps or 4 + 4 * jobs.horizon
    await check_gold(jobs, problems)
    agent = ToolAgent(speaker, jobs.world, Limits(steps, tokens=steps * args.max_tokens), clock)
    log = keeper(args.out, lambda: {**settings, "steps": steps}, args.resume)
    evaluation = await watched(f"horizon {jobs.horizon}", agent, jobs, problems, args.samples, args.seed, log)
    return await at_horizon(jobs, evaluation, clock.seconds)


async def _histories(args: Args, jobs: Jobs, speaker: Speaker, settings: dict[str, Any]) -> list[AtLength]:
    """The next step of the longest jobs, after histories as long as the others leave room for."""
    from posttrain.agents.conversation import Limits
    from posttrain.agents.tool_agent import ToolAgent
    from posttrain.evals.histories import after_histories

    lengths = [int(part) - 1 for part in sorted(set(args.horizons.split(",")), key=int) if int(part) > 1]
    if not args.injected or not lengths:
        return []
    agent = ToolAgent(speaker, jobs.world, Limits(8, tokens=8 * args.max_tokens))
    log = keeper(args.out, lambda: {**settings, "steps": 8}, args.resume)
    problems = jobs.problems(args.split)[: args.problems]
    with progress("next steps", 1):
        return await after_histories(agent, jobs, problems, lengths, args.samples, args.injected, args.seed, log)


def _tell(args: Args, found: Reliability) -> None:
    from rich.table import Table

    from posttrain.evals.reliability_page import page, tables_of
    from posttrain.runs.folder import write_atomically

    document = {"model": args.model, "split": args.split, **found.to_json()}
    if args.out is not None:
        write_atomically(args.out / "reliability.json", json.dumps(document, indent=1))
        write_atomically(args.out / "report.html", page(found))
    if args.json:
        print(json.dumps(document))
        return
    for title, header, rows in tables_of(found):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        show(table)
    print("\n".join(found.notes))
    if args.out is not None:
        print(f"report: {args.out / 'report.html'}")
