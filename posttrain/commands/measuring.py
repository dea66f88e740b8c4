"""What `eval` and `compare` have in common."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posttrain.commands.base import Dtype


@dataclass(frozen=True)
class MeasureArgs:
    """What `eval` and `compare` have in common."""

    task: str = ""
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, mmlu:path=FILE; several after commas; arithmetic if no suite is named."""
    suite: Literal["", "capability", "alignment", "in-use"] = ""
    """Tasks that belong together, in place of --task, or in front of it."""
    data: Path | None = None
    """Folder of the suites' data files; what is not in it is left out, and said."""
    choices: str = "letter+text+byte"
    """How tasks of choice are asked: the likelihood of the option's letter, text, text per byte, or written: sampled as other tasks are."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 64
    """How many of them, from the first; 0 takes all."""
    samples: int = 32
    """Attempts at each problem; what is asked by likelihood is asked once."""
    max_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    seed: int = 0
    """The same seed gives the same attempts."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path | None = None
    """Folder for the results: JSON, every attempt with its token ids in records.jsonl, and with compare the page report.html."""
    resume: bool = True
    """Take what records.jsonl in --out already holds of the same problems, settings and model, and attempt only the rest."""
    unscored_ok: bool = False
    """Print a headline even where more than 5% of the attempts could not be scored."""
    json: bool = False
    """Print JSON."""


async def chosen_problems(args: MeasureArgs):
    """The tasks, each with the problems asked for, every one of whose gold answers scores 1; a task of choice once for each form."""
    from posttrain.evals.choices import asked_forms
    from posttrain.tasks import check_gold, load
    from posttrain.types import UserError

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0:
        raise UserError("--samples and --max-tokens must be at least 1, --problems and --temperature at least 0")
    tasks = [load(spec) for spec in _specs(args)]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError(f"two of the tasks are called {max(names, key=names.count)}: measure them in two calls")
    found = []
    for task in tasks:
        problems = task.problems(args.split)
        problems = list(problems[: args.problems] if args.problems else problems)
        await check_gold(task, problems)
        found += [(form, problems) for form in asked_forms(task, args.choices)]
    return found


def _specs(args: MeasureArgs) -> list[str]:
    """The suite's tasks, and those that are named. What the suite leaves out is said on stderr."""
    from posttrain.evals.suites import suite
    from posttrain.tasks import split_specs
    from posttrain.types import UserError

    if not args.suite:
        if args.data is not None:
            raise UserError("--data is for the files of a suite: say --suite, or name the file with the task (mmlu:path=FILE)")
        return split_specs(args.task or "arithmetic")
    found = suite(args.suite, args.data)
    for sentence in found.left_out:
        print(f"posttrain: {sentence}", file=sys.stderr)
    return [*found.specs, *(split_specs(args.task) if args.task else [])]


@dataclass(frozen=True)
class Measured:
    """A model that is being measured: its policy, and what attempts, reads options and keeps records for it."""

    name: str
    policy: Any
    agent: Any
    reader: Any
    drawn: dict
    """All that sampled attempts depend on, beside the problem, samples and seed."""
    out: Path | None
    resume: bool

    def asked(self, task: Any, samples: int):
        """The agent that attempts a task, how often, and what its records depend on beside the problem."""
        from posttrain.evals.choices import ByLikelihood, LikeliestOption

        if isinstance(task, ByLikelihood):
            return LikeliestOption(self.reader, task), 1, {name: self.drawn[name] for name in ("model", "dtype")} | {"asked": "likelihood"}
        through = getattr(task, "through", None)
        return (through(self.agent) if through else self.agent), samples, self.drawn

    def keeper(self, depends_on: dict):
        """What keeps the records, if there is a folder for them."""
        from posttrain.runs.records import NAME, RecordLog

        return RecordLog(self.out / NAME, depends_on, self.resume) if self.out else None


def subject(model: str, args: MeasureArgs) -> Measured:
    """The model, ready to be measured."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.local import LocalEngine
    from posttrain.evals.choices import OptionReader
    from posttrain.policy.hf import load_policy
    from posttrain.types import Sampling

    policy = load_policy(model, args.dtype)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(args.temperature, args.max_tokens))
    drawn = settings(model, agent.sampling, str(policy.base.dtype))
    return Measured(model, policy, agent, OptionReader(policy, policy.renderer), drawn, args.out, args.resume)


def settings(model: str, sampling, dtype: str) -> dict:
    """All that attempts depend on, beside the problem, samples and seed."""
    from dataclasses import asdict

    from posttrain.policy.models import resolve, revision

    drawn = {name: value for name, value in asdict(sampling).items() if name != "seed"}
    return {"model": revision(resolve(model)), "dtype": dtype, **drawn}
