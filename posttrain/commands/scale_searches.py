"""The searches of `posttrain scale`, each of which draws attempts of its own: beams, looks ahead, revisions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posttrain.commands.models import keeper, watched
from posttrain.types import Agent, Problem, Rollout, Task, UserError

if TYPE_CHECKING:
    from posttrain.agents.loop import ModelAgent
    from posttrain.commands.scale import Args
    from posttrain.evals.scale import Search
    from posttrain.rewards.weighted import Reward

PRUNED = ("beam", "lookahead")
NAMES = {"beam": "beam by reward", "lookahead": "lookahead by reward", "revise": "revisions"}


@dataclass(frozen=True)
class Subject:
    """A model that thinks in one way, and the problems that it searches for answers to."""

    name: str
    agent: Agent
    """As its single attempts are made."""
    base: ModelAgent
    """The model beneath, whose steps are sampled."""
    reward: Reward | None
    task: Task
    problems: Sequence[Problem]
    depends_on: Callable[[], Mapping[str, Any]]
    """What its single attempts depend on."""


def check_searches(args: Args) -> None:
    """Raises UserError for strategies that cannot be had with the other settings."""
    pruned = [strategy for strategy in args.strategies if strategy in PRUNED]
    if not args.strategies or len(set(args.strategies)) < len(args.strategies):
        raise UserError("--strategies names each strategy once, and one at least")
    if min(args.budgets, default=0) < 1 or len(set(args.budgets)) < len(args.budgets) or args.searches < 1 or args.look_ahead < 1:
        raise UserError("--budgets are different numbers; they, --searches and --look-ahead are at least 1")
    if pruned and not args.reward:
        raise UserError(f"{pruned[0]} prunes unfinished answers by a reward: give one with --reward, such as process:FOLDER")
    if pruned and (args.lengths or args.think != "as_is"):
        raise UserError(f"{pruned[0]} writes its answers step by step as the model does by itself: leave out --lengths and --think")


async def searched(args: Args, subject: Subject) -> list[Search]:
    """Every search that was asked for, at each budget."""
    from posttrain.evals.scale import Search

    found = []
    for strategy in (s for s in NAMES if s in args.strategies):
        for budget in sorted(args.budgets):
            depends_on = lambda s=strategy, b=budget: {**subject.depends_on(), **_how(s, b, args)}  # noqa: E731
            log = keeper(args.out, depends_on, args.resume, getattr(subject.task, "judged_by", {}))
            agent = _agent(strategy, budget, args, subject)
            evaluation = await watched(f"{subject.name}, {strategy} {budget}", agent, subject.task, subject.problems, args.searches, args.seed, log)
            found.append(Search(NAMES[strategy], budget, evaluation))
    return found


def _agent(strategy: str, budget: int, args: Args, subject: Subject) -> Agent:
    from posttrain.scaling.beam import StepBeam
    from posttrain.scaling.refine import Refine

    if strategy == "revise":
        return Refine(subject.agent, budget - 1)
    base = subject.base
    return StepBeam(
        base.engine, base.renderer, subject.reward, budget, branches(budget), args.delimiter, args.look_ahead if strategy == "lookahead" else 0,
        sampling=base.sampling, verifier_tokens=verifier_tokens(args.reward),
    )  # fmt: skip


def branches(beams: int) -> int:
    """Next steps of each path kept: the smallest divisor that is at least the root, as in arXiv 2408.03314, which keeps about as many paths."""
    return next(n for n in range(math.isqrt(beams - 1) + 1, beams + 1) if beams % n == 0)


def _how(strategy: str, budget: int, args: Args) -> dict[str, Any]:
    """What a search depends on beside what single attempts do."""
    from posttrain.scaling.refine import CHECK

    if strategy == "revise":
        return {"search": strategy, "budget": budget, "ask": CHECK}
    ahead = {"look_ahead": args.look_ahead} if strategy == "lookahead" else {}
    return {"search": strategy, "budget": budget, "delimiter": args.delimiter, "reward": _reward_revision(args.reward), **ahead}


def _reward_revision(spec: str) -> str:
    """The reward, with a hash of its weights where it has any here."""
    from posttrain.engine.endpoint import is_remote
    from posttrain.policy.models import resolve, revision
    from posttrain.training.rewards import aggregate_and_model

    kind, _, argument = spec.partition(":")
    if kind not in ("model", "process", "judge") or is_remote(argument):
        return spec
    model = aggregate_and_model(argument)[1] if kind == "process" else argument
    return f"{kind}:{revision(resolve(model))}:{argument}"


def verifier_tokens(spec: str) -> Callable[[Rollout], int]:
    """What a learned reward reads: the conversation, counted in the policy's own tokens; for a judge its question is not counted. Rules read none."""
    from posttrain.scaling.cost import free

    def conversation(rollout: Rollout) -> int:
        return sum(len(c.token_ids) for c in rollout.completions) + (len(rollout.completions[0].prompt_token_ids) if rollout.completions else 0)

    return conversation if spec.partition(":")[0] in ("model", "process", "judge") else free
