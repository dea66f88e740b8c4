"""`posttrain prefer`: preferences made of a model's own samples by any reward, so that nobody has to write them."""

from __future__ import annotations

import json
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posttrain.commands.base import Dtype, completeness, progress
from posttrain.types import Problem, Rollout, Score, Task, UserError


@dataclass(frozen=True)
class Args:
    """Sample answers, judge them by a reward, and write pairs of a better and a worse one."""

    model: str = "smollm2"
    """Who answers: smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    task: str = "arithmetic"
    """What to answer: NAME[:key=value,…], or a .jsonl file of prompts."""
    reward: str = ""
    """What judges, in place of the task's own score: model:FOLDER, process:FOLDER, judge:MODEL, length:WORDS or format:REGEX."""
    judge: str = ""
    """A language model (or a server's: openai:URL#NAME) that is asked which of two answers is better, in both orders, in place of a --reward."""
    out: Path = Path("pairs.jsonl")
    """Where the pairs are written; a file that is there is not overwritten."""
    problems: int = 128
    """How many of the training problems, from the first; 0 takes all."""
    samples: int = 4
    """Answers to each problem."""
    pairs: Literal["best_worst", "all"] = "best_worst"
    """One pair of each problem, or every pair of answers with different scores."""
    labels: Literal["sure", "bradley_terry"] = "sure"
    """The higher score is always chosen, or with probability σ(difference / --noise), as people might."""
    noise: float = 1.0
    """With bradley_terry: the difference of scores at which e to 1 prefer the better."""
    max_tokens: int = 64
    """Longest answer, in tokens."""
    temperature: float = 1.0
    """Of sampling."""
    keep_truncated: bool = False
    """Also pair answers that ran out of tokens; by default they are left out, for their end is not the model's."""
    seed: int = 0
    """The same seed gives the same pairs."""
    dtype: Dtype = "auto"
    """What the model computes in."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Sample, judge, pair, write."""
    from posttrain.agents.loop import ModelAgent
    from posttrain.data.pairs import pair_row
    from posttrain.engine.local import LocalEngine
    from posttrain.policy.hf import load_policy
    from posttrain.runs.folder import write_atomically
    from posttrain.seeds import fold
    from posttrain.training.preferences import pairs_of
    from posttrain.training.scored import scored_task
    from posttrain.types import Sampling

    _check(args)
    task = await scored_task(args.task, args.reward, args.dtype, judged=not args.judge)
    problems = task.problems("train")
    problems = problems[: args.problems] if args.problems else problems
    scores_of = _scores_of(args, task)
    policy = load_policy(args.model, args.dtype)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(args.temperature, args.max_tokens))
    with progress("prefer", len(problems)) as bar:

        async def attempt(problem: Problem) -> list[tuple[Rollout, Score]]:
            rollouts = await agent.attempt(problem, args.samples, fold(args.seed, "prefer"))
            scores = await scores_of(rollouts)
            bar.advance()
            return list(zip(rollouts, scores, strict=True))

        groups = await gather(*(attempt(problem) for problem in problems))
    made = pairs_of(groups, args.pairs, args.labels, args.noise, args.keep_truncated, args.seed)
    if not made.pairs:
        raise UserError(
            f"no pair came of {len(problems)} problems ({made.account()}): draw more --samples, raise --max-tokens or say --keep-truncated,"
            " or take a reward that tells answers apart"
        )
    write_atomically(args.out, "".join(json.dumps(pair_row(pair), ensure_ascii=False) + "\n" for pair in made.pairs))
    found = {"out": str(args.out), "pairs": len(made.pairs), "problems": len(problems)} | made.counts
    print(json.dumps(found) if args.json else f"{len(made.pairs)} pairs of {len(problems)} problems written to {args.out} ({made.account()})")
    return completeness(made.counts["unscored"])


def _scores_of(args: Args, task: Task) -> Callable[[Sequence[Rollout]], Awaitable[Sequence[Score]]]:
    """What judges the answers to one problem: the task, answer by answer, or a language model that compares them."""
    from functools import partial

    from posttrain.training.rewards import load_judge
    from posttrain.training.rounds import score_siblings

    return load_judge(args.judge, args.dtype).compare_all if args.judge else partial(score_siblings, task)


def _check(args: Args) -> None:
    if args.out.exists():
        raise UserError(f"'{args.out}' exists already: give another --out")
    if args.judge and args.reward:
        raise UserError("--judge compares answers and --reward scores each: give one of them")
    if args.samples < 2 or args.problems < 0 or args.max_tokens < 1:
        raise UserError("--samples must be at least 2, --max-tokens at least 1, --problems at least 0")
    if not args.temperature > 0 or not args.noise > 0:
        raise UserError("--temperature and --noise must be above 0")
    if not args.out.parent.is_dir():
        raise UserError(f"there is no folder '{args.out.parent}': make it, or give another --out")
