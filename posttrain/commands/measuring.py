"""What `eval` and `compare` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.commands.base import Dtype


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
    from posttrain.agents.chat import Reported
    from posttrain.runs.records import NAME, RecordLog
    from posttrain.types import Sampling

    policy, agent = sampler(model, args.dtype, Sampling(args.temperature, args.max_tokens))
    agent = Reported(agent, agent.sampling) if policy is None else agent
    keeper = RecordLog(args.out / NAME, settings(model, agent.sampling, number_format(policy)), args.resume) if args.out else None
    return policy, agent, keeper


def sampler(model: str, dtype: Dtype, sampling):
    """What `--model` names: a policy and the agent that samples from it, or no policy and an agent that asks a server."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.endpoint import is_remote
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy

    if is_remote(model):
        return None, _remote_agent(model, sampling)
    policy = load_policy(model, dtype)
    return policy, ModelAgent(LocalEngine(policy), policy.renderer, sampling)


def _remote_agent(model: str, sampling):
    """Sends messages; or, where the address names a tokenizer, the very tokens that its template makes of them."""
    from posttrain.agents.chat import ChatAgent
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.endpoint import Endpoint, parse_address
    from posttrain.engine.remote import RemoteEngine
    from posttrain.policy.loading import load_renderer

    address = parse_address(model)
    if not address.tokenizer:
        return ChatAgent(Endpoint(address), sampling)
    renderer = load_renderer(address.tokenizer)
    return ModelAgent(RemoteEngine(Endpoint(address)), renderer, sampling)


def number_format(policy) -> str:
    """What the model computes in; a server's is its own affair."""
    return "remote" if policy is None else str(policy.base.dtype)


def model_path(model: str) -> str:
    """Where the model lies: its folder, or its server's address."""
    from posttrain.engine.endpoint import is_remote
    from posttrain.policy.models import resolve

    return model if is_remote(model) else str(resolve(model))


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


def settings(model: str, sampling, dtype: str) -> dict:
    """All that attempts depend on, beside the problem, samples and seed.

    A server's model is known by its address and name alone: what they stand for may change unseen (--no-resume measures anew).
    """
    from dataclasses import asdict

    from posttrain.engine.endpoint import is_remote, parse_address
    from posttrain.policy.models import resolve, revision

    drawn = {name: value for name, value in asdict(sampling).items() if name != "seed"}
    if not is_remote(model):
        return {"model": revision(resolve(model)), "dtype": dtype, **drawn}
    address = parse_address(model)
    tokens = {"tokenizer": revision(resolve(address.tokenizer))} if address.tokenizer else {}
    return {"model": f"{address.url}#{address.model}", "dtype": dtype, **tokens, **drawn}
