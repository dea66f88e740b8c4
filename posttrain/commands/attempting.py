"""What the commands of agents have in common: who attempts what, where it is kept, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posttrain.commands.base import DONE, PARTIAL, Dtype
from posttrain.types import Message, Problem, Rollout, Task, UserError

if TYPE_CHECKING:
    from posttrain.agents.conversation import Speaker
    from posttrain.agents.tool_agent import ToolAgent
    from posttrain.policy.hf import Policy
    from posttrain.runs.attempts import AttemptLog
    from posttrain.types import Sampling

SETTINGS = "agent.json"


@dataclass(frozen=True)
class AgentArgs:
    """What an agent is told, whatever it is to do."""

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file, a hub id, or a server: openai:URL[#MODEL][,tokenizer=MODEL]."""
    tools: str = "calculator"
    """NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task; empty gives none."""
    system: str = ""
    """A system message before the prompt."""
    task: str = ""
    """Attempt a task's problems in place of a prompt, and score them: arithmetic:levels=5, for instance."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 8
    """How many of them, from the first; 0 takes all."""
    n: int = 1
    """Attempts at each."""
    max_tokens: int = 256
    """Longest turn, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    steps: int = 16
    """Turns of the model in one attempt, at most."""
    tokens: int = 8192
    """Tokens sampled in one attempt, at most."""
    wall_s: float = 1800.0
    """Seconds that one attempt may take by the clock."""
    working_s: float = 600.0
    """Seconds that the tools of one attempt may work."""
    call_s: float = 30.0
    """Seconds that one call of a tool may take."""
    seed: int = 0
    """The same seed gives the same attempts, as far as the tools give the same answers."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    out: Path = Path("runs/agent")
    """The folder in which every step is kept as it happens."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class Undertaking:
    """What a folder is about."""

    args: AgentArgs
    prompt: str
    only: tuple[tuple[str, int], ...] = ()
    """The attempts (problem, sample) that it holds; empty: all that the arguments ask for."""

    @classmethod
    def read(cls, folder: Path) -> Undertaking:
        """What was begun there. Raises UserError where nothing was."""
        from posttrain.runs.folder import read_object

        if not (folder / SETTINGS).is_file():
            raise UserError(f"'{folder}' holds no attempts of an agent: begin with posttrain agent run")
        found = read_object(folder / SETTINGS)
        try:
            known = {f.name: found["args"][f.name] for f in fields(AgentArgs)}
            return cls(AgentArgs(**{**known, "out": folder}), found["prompt"], tuple((each[0], each[1]) for each in found["only"]))
        except (KeyError, TypeError, IndexError):
            raise UserError(f"'{folder / SETTINGS}' is damaged: begin anew in another folder") from None

    def write(self) -> None:
        """Claim the folder. Raises UserError where it holds something already; what came to no step has no claim to it."""
        from posttrain.commands.base import make_folder
        from posttrain.runs.folder import write_atomically

        folder = self.args.out
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {SETTINGS}):
            raise UserError(f"'{folder}' is not empty: go on with posttrain agent resume {folder}, or give another --out")
        make_folder(folder)
        args = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self.args).items()}
        write_atomically(folder / SETTINGS, json.dumps({"args": args, "prompt": self.prompt, "only": self.only}, indent=1))


def make_agent(args: AgentArgs) -> ToolAgent:
    """The agent that the arguments describe."""
    from posttrain.agents.conversation import Limits
    from posttrain.agents.tool_agent import ToolAgent
    from posttrain.agents.toolboxes import load_world
    from posttrain.types import Sampling

    if args.max_tokens < 1 or args.temperature < 0 or args.n < 1 or args.problems < 0 or not args.call_s > 0:
        raise UserError("--max-tokens and --n must be at least 1, --call-s above 0, --temperature and --problems at least 0")
    limits = Limits(args.steps, args.tokens, args.wall_s, args.working_s)
    world = load_world(args.tools, args.task, args.call_s)
    speaker, _ = speaker_for(args.model, args.dtype, Sampling(args.temperature, args.max_tokens))
    return ToolAgent(speaker, world, limits)


def speaker_for(model: str, dtype: Dtype, sampling: Sampling) -> tuple[Speaker, Policy | None]:
    """Who says the turns: a model here, with its policy, or a server's; one whose address names a tokenizer is sent the very tokens."""
    from posttrain.agents.local import LocalSpeaker
    from posttrain.agents.server import ServerSpeaker
    from posttrain.commands.models import endpoint_for, engine_for

    if (endpoint := endpoint_for(model)) is not None:
        return ServerSpeaker(endpoint, sampling), None
    policy, engine, renderer = engine_for(model, dtype)
    return LocalSpeaker(engine, renderer, sampling), policy


def asked(undertaking: Undertaking) -> tuple[Task | None, list[Problem]]:
    """What is to be attempted. Raises UserError unless there is either a prompt or a task."""
    from posttrain.tasks import load

    args, prompt = undertaking.args, undertaking.prompt
    if bool(args.task) == bool(prompt):
        raise UserError("an agent attempts either a prompt or the problems of a --task: give one of them")
    system = (Message("system", args.system),) if args.system else ()
    if prompt:
        return None, [Problem("prompt", (*system, Message("user", prompt)), "")]
    task = load(args.task)
    problems = list(task.problems(args.split))[: args.problems or None]
    return task, [replace(problem, messages=system + problem.messages) for problem in problems]


async def undertake(undertaking: Undertaking) -> int:
    """Make the attempts that have not been made, take up those that were cut off, and show all."""
    from asyncio import gather

    from posttrain.runs.attempts import NAME, AttemptLog

    task, problems = asked(undertaking)
    log = AttemptLog(undertaking.args.out / NAME)
    agent = replace(make_agent(undertaking.args), journal=log.journal)
    groups = await gather(*(_attempts(agent, log, problem, undertaking) for problem in problems))
    return await show([rollout for group in groups for rollout in group], task, undertaking.args)


async def _attempts(agent: ToolAgent, log: AttemptLog, problem: Problem, undertaking: Undertaking) -> list[Rollout]:
    """The attempts at one problem, in order."""
    from asyncio import gather

    from posttrain.agents.conversation import Transcript

    args = undertaking.args
    samples = [sample for name, sample in undertaking.only if name == problem.id] if undertaking.only else list(range(args.n))
    if not undertaking.only and not any((problem.id, sample) in log.kept for sample in samples):
        return await agent.attempt(problem, args.n, args.seed)

    async def one(sample: int) -> Rollout:
        kept = log.kept.get((problem.id, sample))
        if kept is not None and kept.rollout is not None:
            return kept.rollout
        return await agent.go_on(kept.transcript if kept else Transcript(problem, sample), kept.seed if kept else args.seed)

    return list(await gather(*map(one, samples)))


async def show(rollouts: Sequence[Rollout], task: Task | None, args: AgentArgs) -> int:
    """Print the attempts, and with a task how many were right; done in part where some failed."""
    from posttrain.evals.measure import judge

    scores = [await judge(task, rollout) for rollout in rollouts] if task else []
    failed = sum(rollout.outcome == "error" for rollout in rollouts)
    rows = [_row(rollout) | ({"score": scores[i].value} if task else {}) for i, rollout in enumerate(rollouts)]
    if args.json:
        from posttrain.evals.records import plain

        print(json.dumps(plain({"out": str(args.out), "attempts": rows, "accuracy": _accuracy(rollouts, scores) if task else None})))
    else:
        for i, rollout in enumerate(rollouts):
            print(_shown(rollout) + (f"\n── score {scores[i].value:g}" if task else "") + "\n")
        if task:
            print(_said(rollouts, scores))
        print(f"{len(rollouts)} attempts kept in {args.out}" + (f", {failed} of which failed" if failed else ""))
    return PARTIAL if failed else DONE


def _row(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.problem.id, "sample": rollout.sample, "outcome": rollout.outcome, "error": rollout.error, "text": rollout.text,
        "messages": [asdict(message) for message in rollout.messages], "n_tokens": rollout.n_tokens,
    }  # fmt: skip


def _accuracy(rollouts: Sequence[Rollout], scores: Sequence[Any]) -> Any:
    from posttrain.statistics import clustered_rate

    groups: dict[str, list[float]] = {}
    for rollout, score in zip(rollouts, scores, strict=True):
        groups.setdefault(rollout.problem.id, []).append(score.value)
    return clustered_rate(list(groups.values()))


def _said(rollouts: Sequence[Rollout], scores: Sequence[Any]) -> str:
    """Accuracy in a line; without an interval, it is said that the problems are too few for one."""
    found = _accuracy(rollouts, scores)
    unscored = f", {found.n_unscored} attempts could not be scored" if found.n_unscored else ""
    ends = "" if isnan(found.low) else f" [{found.low:.3f} {found.high:.3f}]"
    few = ": too few for an interval" if isnan(found.low) else ""
    value = "not known" if isnan(found.value) else f"{found.value:.3f}"
    return f"accuracy {value}{ends} over {found.n} problem{'' if found.n == 1 else 's'}{few}{unscored}"


def _shown(rollout: Rollout) -> str:
    """An attempt for a person to read; what a tool says cannot give orders to the terminal."""
    lines = [f"── {rollout.problem.id} · attempt {rollout.sample + 1}"]
    for message in (*rollout.problem.messages, *rollout.messages):
        calls = [f"→ {call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}" for call in message.tool_calls]
        lines += [f"{message.role}: {'; '.join(filter(None, [message.content.strip(), *calls]))}"]
    text = "\n".join([*lines, f"── {rollout.outcome}{f': {rollout.error}' if rollout.error else ''}"])
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
