"""What `--model` names: what samples its tokens or answers its messages, where it lies, and what keeps its attempts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posttrain.commands.base import Dtype, progress

if TYPE_CHECKING:
    from posttrain.engine.endpoint import Endpoint
    from posttrain.evals.measure import Evaluation
    from posttrain.policy.hf import Policy
    from posttrain.renderer import Renderer
    from posttrain.runs.records import RecordLog
    from posttrain.types import Agent, Engine, Problem, Sampling, Task


def endpoint_for(model: str) -> Endpoint | None:
    """The server that is sent messages; None for a model whose tokens are known here."""
    from posttrain.engine.endpoint import Endpoint, is_remote, parse_address

    if not is_remote(model) or (address := parse_address(model)).tokenizer:
        return None
    return Endpoint(address)


def engine_for(model: str, dtype: Dtype) -> tuple[Policy | None, Engine, Renderer]:
    """What samples a model's tokens, and what makes them: its policy, or a server whose address names a tokenizer and no policy."""
    from posttrain.engine.endpoint import Endpoint, is_remote, parse_address
    from posttrain.engine.local import LocalEngine
    from posttrain.engine.remote import RemoteEngine
    from posttrain.policy.hf import load_policy
    from posttrain.policy.loading import load_renderer

    if is_remote(model):
        address = parse_address(model)
        return None, RemoteEngine(Endpoint(address)), load_renderer(address.tokenizer)
    policy = load_policy(model, dtype)
    return policy, LocalEngine(policy), policy.renderer


def model_path(model: str) -> str:
    """Where the model lies: its folder, or its server's address."""
    from posttrain.engine.endpoint import is_remote
    from posttrain.policy.models import resolve

    return model if is_remote(model) else str(resolve(model))


def settings(model: str, sampling: Sampling, policy: Policy | None) -> dict[str, Any]:
    """All that attempts depend on, beside the problem, samples and seed.

    A server's model is known by its address and name alone: what they stand for may change unseen (--no-resume measures anew), and
    what it computes in is its own affair.
    """
    from dataclasses import asdict

    from posttrain.engine.endpoint import is_remote, parse_address
    from posttrain.policy.models import resolve, revision

    drawn = {name: value for name, value in asdict(sampling).items() if name != "seed"}
    dtype = "remote" if policy is None else str(policy.base.dtype)
    if not is_remote(model):
        return {"model": revision(resolve(model)), "dtype": dtype, **drawn}
    address = parse_address(model)
    tokens = {"tokenizer": revision(resolve(address.tokenizer))} if address.tokenizer else {}
    return {"model": f"{address.url}#{address.model}", "dtype": dtype, **tokens, **drawn}


def keeper(
    out: Path | None, depends_on: Callable[[], Mapping[str, Any]], resume: bool = True, judged_by: Mapping[str, Any] | None = None
) -> RecordLog | None:
    """What keeps the attempts of a measurement, if there is a folder for them; only then is it asked what they depend on, which reads
    a model's weights."""
    from posttrain.runs.records import NAME, RecordLog

    return RecordLog(out / NAME, depends_on(), resume, judged_by or {}) if out else None


async def watched(
    name: str, agent: Agent, task: Task, problems: Sequence[Problem], samples: int, seed: int, log: RecordLog | None
) -> Evaluation:
    """A measurement under a progress bar of this name, its attempts kept in the log if there is one."""
    from posttrain.evals.measure import measure

    with progress(name, len(problems) * samples) as bar:
        return await measure(agent, task, problems, samples, seed, on_attempt=lambda _: bar.advance(), keeper=log)
