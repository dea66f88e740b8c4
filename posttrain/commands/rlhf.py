"""`posttrain rlhf`: the whole pipeline on one set of preferences, and what each way of optimising paid for its reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from posttrain.commands.base import DONE, Dtype, make_folder, show
from posttrain.types import UserError


@dataclass(frozen=True)
class Args:
    """SFT → reward model → PPO, with DPO and RAFT on the same data beside it; then reward against KL for all of them."""

    model: str = "smollm2"
    """The base or SFT model to begin with."""
    data: str = ""
    """Preferences, .jsonl or .jsonl.gz; empty makes them of the model's own samples by the gold reward."""
    task: str = ""
    """Prompts to optimise on, and their own judge as the gold reward; empty takes the prompts of --data."""
    gold: str = ""
    """Another gold reward: model:FOLDER, process:FOLDER, judge:MODEL, length:WORDS or format:REGEX. It is measured, and never optimised."""
    out: Path = Path("runs/rlhf")
    """The folder of all its runs; the same command again goes on where it stopped."""
    methods: tuple[str, ...] = ("ppo", "dpo", "raft")
    """Which of ppo, dpo and raft."""
    sft_data: str = ""
    """Conversations for the first step; empty takes the chosen answers of --data, and with made preferences leaves SFT out."""
    sft_steps: int = 30
    """0 leaves SFT out."""
    reward_steps: int = 30
    """Steps of the reward model."""
    dpo_steps: int = 30
    """Steps of DPO."""
    rl_steps: int = 20
    """Rounds of PPO and of RAFT."""
    answers_per_step: int = 64
    """Answers sampled in each round, the same for PPO and RAFT."""
    group_size: int = 8
    """RAFT: answers to each prompt, of which the best is imitated."""
    kl_coef: float = 0.05
    """PPO: weight of the KL in the reward."""
    beta: float = 0.1
    """DPO: reward per nat."""
    learning_rate: float = 1e-5
    """Of every step but the critic's and the reward model's, which take twice as much."""
    lora_rank: int = 0
    """Rank of LoRA adapters; 0 trains all weights."""
    max_tokens: int = 48
    """Longest answer, in tokens."""
    made_pairs: int = 256
    """How many problems preferences are made on, where there are none."""
    problems: int = 48
    """Test prompts to measure on."""
    samples: int = 8
    """Answers to each of them."""
    seed: int = 0
    """Fixes everything."""
    dtype: Dtype = "auto"
    """What the models compute in."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Run every stage that has not been run, then measure."""
    from posttrain.algorithms import dpo, ppo, reject, reward_model, sft
    from posttrain.policy.optim import AdamWConfig

    _check(args)
    make_folder(args.out)
    rate = lambda factor=1.0: AdamWConfig(args.learning_rate * factor, warmup_steps=3)  # noqa: E731
    common: dict[str, Any] = {"seed": args.seed, "dtype": args.dtype}
    adapter = {"lora_rank": args.lora_rank}
    pairs, start = args.data, args.model
    if args.sft_steps and (args.sft_data or args.data):
        conversations = args.sft_data or str(_chosen_as_conversations(args))
        await sft.train(sft.Config(model=args.model, data=conversations, out=args.out / "sft", steps=args.sft_steps, optim=rate(), **common))
        start = str(args.out / "sft")
    if not pairs:
        pairs = str(await _made_pairs(args, start))
    prompts = args.task or str(_prompts(args))
    await reward_model.train(reward_model.Config(model=start, data=pairs, out=args.out / "reward_model", steps=args.reward_steps, optim=rate(2), **common))
    learned = {"task": prompts, "reward": f"model:{args.out / 'reward_model'}", "gold": args.gold, "max_tokens": args.max_tokens}
    if "ppo" in args.methods:
        await ppo.train(ppo.Config(
            model=start, out=args.out / "ppo", steps=args.rl_steps, problems_per_step=args.answers_per_step // 2, group_size=2, kl_coef=args.kl_coef,
            critic_model=str(args.out / "reward_model"), critic_learning_rate=2 * args.learning_rate, optim=rate(), **learned, **common, **adapter,
        ))  # fmt: skip
    if "dpo" in args.methods:
        await dpo.train(dpo.Config(model=start, data=pairs, out=args.out / "dpo", steps=args.dpo_steps, beta=args.beta, optim=rate(), **common, **adapter))
    if "raft" in args.methods:
        await reject.train(reject.Config(
            model=start, out=args.out / "raft", steps=args.rl_steps, problems_per_step=args.answers_per_step // args.group_size,
            group_size=args.group_size, keep="best", keep_truncated=True, optim=rate(), **learned, **common, **adapter,
        ))  # fmt: skip
    found = await _measured(args, start, learned)
    _write(args, found)
    return DONE


def _check(args: Args) -> None:
    if not args.data and not args.task:
        raise UserError("rlhf needs preferences (--data FILE.jsonl) or prompts to make them on (--task NAME or FILE.jsonl, with --gold)")
    unknown = set(args.methods) - {"ppo", "dpo", "raft"}
    if unknown or not args.methods:
        raise UserError(f"there is no method '{', '.join(sorted(unknown))}': choose among ppo, dpo and raft")
    if args.group_size < 2 or args.answers_per_step < args.group_size or args.answers_per_step % args.group_size or args.answers_per_step % 2:
        raise UserError("--answers-per-step must be even and a multiple of --group-size, which must be at least 2")
    for name in ("reward_steps", "dpo_steps", "rl_steps", "problems", "samples", "made_pairs", "max_tokens"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")


# ------------------------------------------------------------------------------------------------------------ what is made


def _chosen_as_conversations(args: Args) -> Path:
    """The chosen answers, to be imitated first."""
    from posttrain.data.pairs import load_pairs

    rows = [{"messages": [{"role": m.role, "content": m.content} for m in (*p.prompt, *p.chosen)]} for p in load_pairs(args.data, "drop").items]
    return _jsonl(args.out / "sft_data.jsonl", rows)


def _prompts(args: Args) -> Path:
    from posttrain.data.pairs import load_pairs

    rows = [{"id": p.id, "prompt": [{"role": m.role, "content": m.content} for m in p.prompt]} for p in load_pairs(args.data, "drop").items]
    return _jsonl(args.out / "prompts.jsonl", rows)


async def _made_pairs(args: Args, start: str) -> Path:
    from posttrain.commands import prefer

    path = args.out / "pairs.jsonl"
    if not path.exists():
        await prefer.main(prefer.Args(
            model=start, task=args.task, reward=args.gold, out=path, problems=args.made_pairs, samples=args.group_size, max_tokens=args.max_tokens,
            keep_truncated=True, seed=args.seed, dtype=args.dtype,
        ))  # fmt: skip
    return path


def _jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    from posttrain.runs.folder import write_atomically

    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


# -------------------------------------------------------------------------------------------------------- what is measured


async def _measured(args: Args, start: str, learned: dict[str, Any]) -> dict[str, Any]:
    """Every model on the same test prompts with the same seeds, beside what it lost elsewhere."""
    from posttrain.evals.frontier import best_of_n
    from posttrain.policy.hf import load_policy
    from posttrain.training.scored import scored_task

    task = await scored_task(learned["task"], learned["reward"], args.dtype, gold=args.gold)
    problems = list(task.problems("test"))[: args.problems]
    start_policy = load_policy(start, args.dtype)
    start_policy.model.requires_grad_(False)
    points, drawn, before = [], None, None
    for name in ("start", *args.methods):
        policy = start_policy if name == "start" else load_policy(str(args.out / name), args.dtype)
        row, samples, documents = await _point(args, name, policy, start_policy, task, problems, before)
        points.append(row)
        if name == "start":
            drawn, before = samples, documents
    rows = {name: _metrics(args.out / name) for name in args.methods}
    return {
        "about": f"{args.model} on {task.name}: {len(problems)} test prompts, {args.samples} answers each; gold: {args.gold or args.task or 'none'}.",
        "points": points, "best_of_n": [asdict(b) for b in best_of_n(drawn)],
        "paths": {
            "proxy": {n: _path(r, "reward/mean") for n, r in rows.items() if n == "ppo"},
            "gold": {n: _path(r, "reward/part_gold") for n, r in rows.items() if n == "ppo"},
        },
        "reward_model": _metrics(args.out / "reward_model")[-1],
    }  # fmt: skip


async def _point(args: Args, name: str, policy, start_policy, task, problems, before) -> tuple[dict[str, Any], Any, Any]:
    from posttrain.agents.loop import ModelAgent
    from posttrain.engine.local import LocalEngine
    from posttrain.evals import heldout
    from posttrain.evals.choices import capitals, measure_choices, score_choices
    from posttrain.evals.frontier import draw, point
    from posttrain.evals.measure import measure
    from posttrain.statistics import paired_difference
    from posttrain.tasks import load
    from posttrain.types import Sampling

    engine, renderer = LocalEngine(policy), policy.renderer
    samples = await draw(ModelAgent(engine, renderer, Sampling(1.0, args.max_tokens)), task, problems, args.samples, args.seed)
    row = asdict(point(name, samples, policy, start_policy))
    texts = heldout.documents(renderer.encode)
    documents = heldout.log_likelihood(texts, renderer.encode, policy)
    per_token = [a / b for a, b in zip(documents.logprobs, documents.n_tokens, strict=True)]
    row["heldout_change"] = asdict(paired_difference(before, per_token, "nats")) if before is not None else None
    facts = load("facts")
    untouched = await measure(ModelAgent(engine, renderer, Sampling(1.0, 32)), facts, list(facts.problems("test")), 2, args.seed)
    row["untouched"] = asdict(untouched["accuracy"])
    choices = capitals()
    row["choices"] = asdict(measure_choices(score_choices(policy, renderer.prompt, renderer.encode, choices).letter, choices))
    return row, samples, per_token


def _metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _path(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(row["policy/kl_ref_nats"], row[name]) for row in rows if name in row and "policy/kl_ref_nats" in row]


def _write(args: Args, found: dict[str, Any]) -> None:
    from rich.table import Table

    from posttrain.evals.frontier_page import COLUMNS, page, table_rows
    from posttrain.runs.folder import write_atomically

    write_atomically(args.out / "rlhf.json", json.dumps(found, indent=1))
    write_atomically(args.out / "report.html", page(found))
    if args.json:
        print(json.dumps(found))
        return
    table = Table(*COLUMNS, title=found["about"])
    for row in table_rows(found):
        table.add_row(*row)
    show(table)
    print(f"\nreport: {args.out / 'report.html'}")
