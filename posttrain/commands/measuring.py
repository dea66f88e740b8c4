"""What `eval`, `compare` and `scale` have in common: what is asked, and of which model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posttrain.commands.base import Dtype
from posttrain.commands.models import endpoint_for, engine_for, keeper, settings

if TYPE_CHECKING:
    from posttrain.evals.choices import OptionReader
    from posttrain.evals.measure import Evaluation
    from posttrain.policy.hf import Policy
    from posttrain.runs.records import RecordLog
    from posttrain.types import Agent, Sampling, Task, World

WRITTEN = "written"


@dataclass(frozen=True)
class MeasureArgs:
    """What the three have in common."""

    task: str = "arithmetic"
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, gsm8k:path=FILE; several after commas."""
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
    calibration: tuple[Literal["agreement", "p_true", "verbalised", "options"], ...] = ("agreement",)
    """Ways to ask how sure the model is: agreement of its attempts (free), p_true, verbalised (both ask about its own answers), options."""
    unscored_ok: bool = False
    """Print a headline even where more than 5% of the attempts could not be scored."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class SuiteArgs(MeasureArgs):
    """What `eval` and `compare` have in common: tasks in suites, and tasks of choice by likelihood."""

    task: str = ""
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, mmlu:path=FILE; several after commas; arithmetic if no suite is named.
    conversation:of=TASK and loop:of=TASK are a task in use: late in a long conversation, and in an agent's loop with tools."""
    suite: Literal["", "capability", "alignment", "in-use"] = ""
    """Tasks that belong together, in place of --task, or in front of it."""
    data: Path | None = None
    """Folder of the suites' data files; what is not in it is left out, and said."""
    choices: str = "letter+text+byte"
    """How tasks of choice are asked: the likelihood of the option's letter, text, text per byte, or written: sampled as other tasks are."""
    tools: str = ""
    """Let the model call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most, each of at most --max-tokens."""
    refusal_judge: str = ""
    """A model that tells refusals in xstest, named as a model is, a server's too; phrases tell them where none is given."""


async def chosen_problems(args: MeasureArgs, specs: Sequence[str], choices: str = WRITTEN):
    """The tasks, each with the problems asked for, every one of whose gold answers scores 1; a task of choice once for each form."""
    from posttrain.evals.beside import check_beside
    from posttrain.evals.choices import asked_forms
    from posttrain.evals.loops import load_used
    from posttrain.tasks import check_gold
    from posttrain.types import UserError

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0:
        raise UserError("--samples and --max-tokens must be at least 1, --problems and --temperature at least 0")
    tasks = [load_used(spec) for spec in specs]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError(f"two of the tasks are called {max(names, key=names.count)}: measure them in two calls")
    found = []
    for task in tasks:
        problems = task.problems(args.split)
        problems = list(problems[: args.problems] if args.problems else problems)
        await check_gold(task, problems)
        found += [(form, problems) for form in asked_forms(task, choices)]
    check_beside(found)
    return found


async def chosen_tasks(args: SuiteArgs):
    """The tasks of `eval` and `compare` with their problems: in suites or by name, by likelihood or written, refusals told as asked for."""
    from posttrain.commands.judging import judged

    chosen = await chosen_problems(args, chosen_specs(args), args.choices)
    return await judged(chosen, args.refusal_judge, args.dtype) if args.refusal_judge else chosen


def chosen_specs(args: SuiteArgs) -> list[str]:
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
class Asked:
    """How a model is asked one task."""

    agent: Agent
    samples: int
    """Attempts at each problem."""
    depends_on: Callable[[], Mapping[str, Any]]
    """All that its attempts depend on, beside the problem, samples and seed; finding out reads the model's weights."""
    judged_by: Mapping[str, Any] = field(default_factory=dict)
    """Who scores them, where the task may take another judge."""

    def settings(self) -> dict[str, Any]:
        """All that its records depend on, beside the problem, samples and seed."""
        return {**self.depends_on(), **self.judged_by}


@dataclass(frozen=True)
class Measured:
    """A model that is being measured, and what attempts, reads options and keeps records for it."""

    name: str
    policy: Policy | None
    """None where a server samples."""
    agent: Agent
    """The bare model, which answers in one turn."""
    sampling: Sampling
    args: SuiteArgs
    world: World | None = None
    """Of --tools that are the same for every task."""

    def asked(self, task: Task) -> Asked:
        """Who attempts a task, how often. Raises UserError for a task that cannot be asked in this way, or not of this model."""
        from posttrain.evals.choices import ByLikelihood, LikeliestOption
        from posttrain.types import UserError

        if isinstance(task, ByLikelihood):
            return Asked(LikeliestOption(self._reader, task), 1, self._read)
        through, how = getattr(task, "through", None), dict(getattr(task, "depends_on", {}))
        if through and self.args.tools:
            raise UserError(f"'{task.name}' says itself how it is attempted: measure it without --tools")
        if self.args.tools:
            through, how = self._with_tools(task), how | {"tools": self.args.tools, "tool_steps": self.args.tool_steps}
        agent, judged_by = through(self.agent) if through else self.agent, getattr(task, "judged_by", {})
        return Asked(agent, self.args.samples, lambda: self.settings | how, judged_by)

    def _with_tools(self, task: Task) -> Callable[[Agent], Agent]:
        from posttrain.agents.in_loop import in_loop
        from posttrain.agents.toolboxes import own_world

        return lambda agent: in_loop(agent, self.world or own_world(task), self.args.tool_steps)

    def keeper(self, asked: Asked) -> RecordLog | None:
        """What keeps the records, if there is a folder for them."""
        return keeper(self.args.out, asked.depends_on, self.args.resume, asked.judged_by)

    def at(self, temperature: float) -> Measured:
        """The same model, sampled at another temperature."""
        sampling = replace(self.sampling, temperature=temperature)
        return replace(self, agent=replace(self.agent, sampling=sampling), sampling=sampling)  # type: ignore[type-var]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that sampled attempts depend on, beside the problem, samples and seed."""
        return settings(self.name, self.sampling, self.policy)

    def _read(self) -> dict[str, Any]:
        """What a likelihood depends on: not on how one would sample."""
        return {name: self.settings[name] for name in ("model", "dtype")} | {"asked": "likelihood"}

    @cached_property
    def _reader(self) -> OptionReader:
        from posttrain.evals.choices import OptionReader
        from posttrain.types import UserError

        if self.args.tools:
            raise UserError(f"tools are for what is written, and a likelihood asks without them: ask tasks of choice with --choices {WRITTEN}")
        if self.policy is None:
            raise UserError(f"'{self.name}' is a server's, whose log-probs of the options are not known: ask tasks of choice with --choices {WRITTEN}")
        return OptionReader(self.policy, self.policy.renderer)


@contextmanager
def named(task: Task) -> Iterator[None]:
    """Says on which task it was that a model's context did not suffice."""
    from posttrain.types import ContextFull, UserError

    try:
        yield
    except ContextFull as error:
        raise UserError(f"{task.name}: {error}") from None


def subject(model: str, args: SuiteArgs) -> Measured:
    """The model, ready to be measured. Raises UserError for tools that do not exist, and for what `sampler` cannot load."""
    from posttrain.agents.conversation import Limits
    from posttrain.agents.toolboxes import OWN, load_world
    from posttrain.types import Sampling, UserError

    Limits(args.tool_steps)
    if not args.tools and args.tool_steps != SuiteArgs.tool_steps:
        raise UserError("--tool-steps has no effect without --tools")
    world = load_world(args.tools) if args.tools not in ("", OWN) else None
    sampling = Sampling(args.temperature, args.max_tokens)
    policy, agent = sampler(model, args.dtype, sampling)
    return Measured(model, policy, agent, sampling, args, world)


def sampler(model: str, dtype: Dtype, sampling: Sampling) -> tuple[Policy | None, Agent]:
    """A policy and the agent that samples from it; or no policy and an agent that asks a server, which may fail."""
    from posttrain.agents.chat import ChatAgent, Reported
    from posttrain.agents.loop import ModelAgent

    if (endpoint := endpoint_for(model)) is not None:
        return None, Reported(ChatAgent(endpoint, sampling), sampling)
    policy, engine, renderer = engine_for(model, dtype)
    agent = ModelAgent(engine, renderer, sampling)
    return policy, agent if policy else Reported(agent, sampling)


def confide(model: Measured):
    """What asks the model how sure it is of the attempts in some records."""
    from posttrain.evals.confidence import ask
    from posttrain.types import UserError

    policy, forms = model.policy, model.args.calibration
    if policy is None and set(forms) - {"agreement"}:
        raise UserError("a server's model can be asked for --calibration agreement only: the other forms need its log-probs here")

    async def asked(task, records):
        return await ask(forms, task, records, model.agent, policy, policy and policy.renderer, model.args.seed)

    return asked


def say_tools(args: SuiteArgs, evaluations: Sequence[Evaluation]) -> None:
    """With --tools, print what the model could call, and on which tasks it never did."""
    from posttrain.evals.quantities import uses_tools

    if args.tools:
        idle = dict.fromkeys(e.task for e in evaluations if not uses_tools(e.records))
        never = f"; no attempt called one on {', '.join(idle)}" if idle else ""
        print(f"attempted with the tools {args.tools}, in at most {args.tool_steps} turns{never}\n")
