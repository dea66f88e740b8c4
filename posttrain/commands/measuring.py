"""What `eval` and `compare` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.commands.base import Dtype
from posttrain.commands.models import endpoint_for, engine_for, keeper, settings


@dataclass(frozen=True)
class MeasureArgs:
    """What `eval` and `compare` have in common."""

    task: str = "arithmetic"
    """NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, gsm8k:path=FILE; several after commas."""
    split: Literal["train", "test"] = "test"
    """Which of the task's problems."""
    problems: int = 64
    """How many of them, from the first; 0 takes all."""
    samples: int = 32
    """Attempts at each problem."""
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


async def chosen_problems(args: MeasureArgs):
    """The tasks, each with the problems asked for, every one of whose gold answers scores 1."""
    from posttrain.tasks import check_gold, load, split_specs
    from posttrain.types import UserError

    if args.samples < 1 or args.problems < 0 or args.max_tokens < 1 or args.temperature < 0:
        raise UserError("--samples and --max-tokens must be at least 1, --problems and --temperature at least 0")
    tasks = [load(spec) for spec in split_specs(args.task)]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError(f"two of the tasks are called {max(names, key=names.count)}: measure them in two calls")
    found = []
    for task in tasks:
        problems = task.problems(args.split)
        found.append((task, list(problems[: args.problems] if args.problems else problems)))
        await check_gold(*found[-1])
    return found


def subject(model: str, args: MeasureArgs):
    """A policy (none, where a server samples), the agent that is measured, and what keeps its records, if there is a folder for them."""
    from posttrain.types import Sampling

    policy, agent = sampler(model, args.dtype, Sampling(args.temperature, args.max_tokens))
    return policy, agent, keeper(args.out, lambda: settings(model, agent.sampling, policy), args.resume)


def sampler(model: str, dtype: Dtype, sampling):
    """A policy and the agent that samples from it; or no policy and an agent that asks a server, which may fail."""
    from posttrain.agents.chat import ChatAgent, Reported
    from posttrain.agents.loop import ModelAgent

    if (endpoint := endpoint_for(model)) is not None:
        return None, Reported(ChatAgent(endpoint, sampling), sampling)
    policy, engine, renderer = engine_for(model, dtype)
    agent = ModelAgent(engine, renderer, sampling)
    return policy, agent if policy else Reported(agent, sampling)


def confide(policy, agent, args: MeasureArgs):
    """What asks the model how sure it is of the attempts in some records."""
    from posttrain.evals.confidence import ask
    from posttrain.types import UserError

    if policy is None and set(args.calibration) - {"agreement"}:
        raise UserError("a server's model can be asked for --calibration agreement only: the other forms need its log-probs here")
    prompt, encode = (policy.renderer.prompt, policy.renderer.encode) if policy else (None, None)

    async def asked(task, records):
        return await ask(args.calibration, task, records, agent, policy, prompt, encode, args.seed)

    return asked
