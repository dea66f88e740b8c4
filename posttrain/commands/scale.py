"""`posttrain scale`: what more attempts and longer thoughts buy, on one plot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from posttrain.commands.base import completeness, make_folder, show
from posttrain.commands.measuring import MeasureArgs, chosen_problems, sampler
from posttrain.commands.models import keeper, settings, watched
from posttrain.types import Agent, Sampling, UserError

PAGE, ROWS = "scale.html", "scale.jsonl"
Strategy = Literal["votes", "best", "allocate", "beam", "lookahead", "revise"]


@dataclass(frozen=True)
class Args(MeasureArgs):
    """Draw performance against tokens spent and against attempts: coverage, votes, best-of-n, searches, forecasts and the wall.

    --samples attempts at each problem are drawn once, and every smaller number is worked out from them; beam, lookahead and revise
    draw attempts of their own at each of --budgets. With --out the attempts
    are kept, and the same command goes on where it was cut off; it writes scale.html (the plots), scale.jsonl (a line for
    each arm) and records.jsonl (every attempt).
    """

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    vs: str = ""
    """A second model for the same plots, such as a trained one."""
    think: Literal["as_is", "step_by_step", "direct"] = "as_is"
    """Words behind the question: none, that it should be thought about step by step, or that only the answer is wanted."""
    lengths: tuple[int, ...] = ()
    """Budgets of thinking tokens, such as 16 64 256: a thought that becomes longer is ended by force and the answer asked for."""
    extend: bool = False
    """With --lengths, also make thoughts that would be shorter go on, by putting "Wait" in place of their end."""
    think_end: str = ""
    """With --lengths, the token that ends a thought, such as </think>; empty takes the end of the turn."""
    answer_tokens: int = 32
    """With --lengths, the longest answer behind a thought that was ended by force, in tokens."""
    reward: str = ""
    """What chooses the best of n, beside the model's own likelihood: model:FOLDER, process:FOLDER, judge:MODEL, length:WORDS or format:REGEX."""
    strategies: tuple[Strategy, ...] = ("votes", "best", "allocate")
    """What is done with attempts: votes, best (of n), allocate (votes where they seem needed), beam and lookahead (steps pruned by --reward), revise."""
    budgets: tuple[int, ...] = (2, 4, 8)
    """Of beam and lookahead, how many beams; of revise, how many turns: an attempt and the checks that follow it."""
    searches: int = 1
    """Of beam, lookahead and revise: how many of each at a problem."""
    look_ahead: int = 1
    """Of lookahead: steps that are written to judge a path, and thrown away."""
    delimiter: str = "\n"
    """Of beam and lookahead: what stands between two steps of an answer."""
    extract: Literal["auto", "number", "boxed", "text"] = "auto"
    """What an attempt votes for: its last number, its last box, or its whole text; auto takes numbers where every gold answer is one."""


async def main(args: Args) -> int:
    """Attempt, work out, write, print."""
    from posttrain.evals.records import plain
    from posttrain.tasks import split_specs
    from posttrain.training.rewards import load_reward

    _check(args)
    make_folder(args.out)
    [(task, problems)] = await chosen_problems(args, split_specs(args.task))
    reward = load_reward(args.reward, args.dtype) if args.reward else None
    arms = [arm for model in (args.model, args.vs) if model for arm in await _arms(model, args, task, problems, reward)]
    found = plain({"task": task.name, "split": args.split, "reward": args.reward, "arms": [arm.to_json() for arm in arms]})
    if args.out is not None:
        _write(found, args.out)
    if args.json:
        print(json.dumps(found))
    else:
        _print(found, args)
    return completeness(sum(arm["n_unscored"] for arm in found["arms"]))


def _check(args: Args) -> None:
    from posttrain.commands.scale_searches import check_searches
    from posttrain.engine.endpoint import is_remote
    from posttrain.statistics import MOST_ATTEMPTS
    from posttrain.tasks import split_specs

    if len(split_specs(args.task)) > 1:
        raise UserError("scale measures one task: call it for each")
    if args.samples > MOST_ATTEMPTS:
        raise UserError(f"--samples can be at most {MOST_ATTEMPTS}")
    if min(args.lengths, default=1) < 1 or len(set(args.lengths)) < len(args.lengths):
        raise UserError("--lengths are different numbers of tokens, each at least 1")
    if (args.extend or args.think_end) and not args.lengths:
        raise UserError("--extend and --think-end speak of --lengths: give some")
    check_searches(args)
    if is_remote(args.model) or is_remote(args.vs):
        raise UserError("scale needs models whose tokens and log-probs are known here, not a server's")
    if args.vs == args.model:
        raise UserError("--vs is the same model: give another")


async def _arms(model: str, args: Args, task, problems, reward):
    """One for each length, or the model as it is; all their attempts are drawn with the same seed."""
    from posttrain.commands.scale_searches import Subject, searched, verifier_tokens
    from posttrain.evals.scale import arm

    sampling = Sampling(args.temperature, args.max_tokens)
    policy, base = sampler(model, args.dtype, sampling)
    extract, found = _extractor(args.extract, problems), []
    for length in sorted(args.lengths) or [None]:
        agent, how = _agent(base, length, args)
        depends_on = lambda how=how: {**settings(model, sampling, policy), **how}  # noqa: E731
        name = model if length is None else f"{model}, {'=' if args.extend else '≤'} {length} tokens"
        log = keeper(args.out, depends_on, args.resume, getattr(task, "judged_by", {}))
        evaluation = await watched(name, agent, task, problems, args.samples, args.seed, log)
        rewards = None if reward is None else await _rewards(reward, evaluation)
        searches = await searched(args, Subject(name, agent, base, reward, task, problems, depends_on))
        made = (rewards, verifier_tokens(args.reward), args.strategies, searches, args.unscored_ok)
        found.append(await arm(name, model, length, evaluation, extract, *made))
    return found


def _agent(base, length: int | None, args: Args) -> tuple[Agent, dict]:
    """The agent of an arm, and what its attempts depend on beside the model and its sampling."""
    from posttrain.scaling.think import DIRECTLY, STEP_BY_STEP, Asked, BudgetForced

    agent: Agent = base
    how: dict = {}
    if length is not None:
        forced = {"max_thinking": length, "min_thinking": length if args.extend else 0, "answer_tokens": args.answer_tokens, "end": args.think_end}
        agent, how = BudgetForced(base.engine, base.renderer, sampling=base.sampling, **forced), forced
        how |= {"cue": agent.cue, "wait": agent.wait}
    if args.think == "as_is":
        return agent, how
    words = STEP_BY_STEP if args.think == "step_by_step" else DIRECTLY
    return Asked(agent, words), how | {"asked": words}


def _extractor(kind: str, problems):
    from posttrain.rewards.exact import last_number, normalise, number
    from posttrain.rewards.math_equal import final_answer

    if kind == "auto":
        kind = "number" if all(number(p.answer) is not None for p in problems) else "text"
    return {"number": last_number, "boxed": final_answer, "text": lambda text: normalise(text) or None}[kind]


async def _rewards(reward, evaluation) -> dict[int, float]:
    """Of every scored attempt."""
    from asyncio import gather

    from posttrain.evals.scale import scored_attempts

    rollouts = [attempt.rollout for attempt in scored_attempts(evaluation)]
    scores = await gather(*(reward(rollout) for rollout in rollouts))
    return {id(rollout): score.value for rollout, score in zip(rollouts, scores, strict=True)}


def _write(found: dict, out) -> None:
    from posttrain.evals.scale_page import page
    from posttrain.runs.folder import write_atomically

    about = {key: value for key, value in found.items() if key != "arms"}
    write_atomically(out / ROWS, "".join(json.dumps(about | arm) + "\n" for arm in found["arms"]))
    write_atomically(out / PAGE, page(found))


def _print(found: dict, args: Args) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from posttrain.evals.scale_page import sentences, tables_of

    for title, header, rows in tables_of(found):
        if header[0] not in ("attempts", "strategy"):
            continue
        shown = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in header:
            shown.add_column(Text(name), justify="right")
        for row in rows:
            shown.add_row(*map(Text, row))
        show(shown)
    print("\n".join(sentences(found)))
    if args.out is not None:
        print(f"plots: {args.out / PAGE}")
