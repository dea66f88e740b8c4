"""`posttrain rlhf`: the whole pipeline on one set of preferences, and what each way of optimising paid for its reward."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from posttrain.commands.base import DONE, Dtype, make_folder, show
from posttrain.types import Message, UserError

if TYPE_CHECKING:
    from posttrain.data.pairs import Pair

Method = Literal["ppo", "dpo", "online_dpo", "raft"]
MAY_CHANGE = ("out", "methods", "problems", "samples", "documents", "json")
"""What the pipeline may be taken up with anew: which methods, and how they are measured. All else would make a later stage
learn from an earlier one that was another."""


@dataclass(frozen=True)
class Args:
    """SFT → reward model → PPO, with DPO and RAFT on the same data beside it; then reward against KL for all of them."""

    model: str = "smollm2"
    """The base or SFT model to begin with."""
    data: str = ""
    """Preferences, .jsonl or .jsonl.gz; empty makes them of the model's own samples by the gold reward. Tools that a pair describes are read at
    every stage; calls are not carried out."""
    when_bad: Literal["error", "drop"] = "error"
    """Refuse --data with an unusable pair, or leave such out and count them."""
    task: str = ""
    """Prompts to optimise on, and their own judge as the gold reward; empty takes the prompts of --data."""
    gold: str = ""
    """Another gold reward: model:FOLDER, process:FOLDER, judge:MODEL, length:WORDS or format:REGEX. It is measured, and never optimised."""
    out: Path = Path("runs/rlhf")
    """The folder of all its runs; the same command again goes on where it stopped."""
    methods: tuple[Method, ...] = ("ppo", "dpo", "raft")
    """Which ways of optimising: DPO learns from the pairs themselves (and is looked at on its way with answers that it does not learn from), online
    DPO from pairs of its own samples, judged as PPO's and RAFT's are."""
    sft_data: str = ""
    """Conversations for the first step; empty takes the chosen answers of --data, and with made preferences leaves SFT out."""
    sft_steps: int = 30
    """0 leaves SFT out."""
    reward_steps: int = 30
    """Steps of the reward model."""
    dpo_steps: int = 30
    """Steps of DPO."""
    rl_steps: int = 20
    """Rounds of PPO, of online DPO and of RAFT."""
    answers_per_step: int = 64
    """Answers sampled in each round, the same for PPO, online DPO and RAFT."""
    group_size: int = 8
    """Answers to each prompt: of RAFT, which imitates the best, and of online DPO, which prefers the best to the worst."""
    kl_coef: float = 0.05
    """PPO: weight of the KL in the reward."""
    beta: float = 0.1
    """DPO, online or not: reward per nat."""
    learning_rate: float = 1e-5
    """Of every step but the critic's and the reward model's, which take twice as much."""
    lora_rank: int = 0
    """Rank of the LoRA adapters of PPO, DPO and RAFT; 0 trains all weights, as SFT and the reward model always do."""
    max_tokens: int = 48
    """Longest answer, in tokens."""
    made_pairs: int = 256
    """How many problems preferences are made on, where there are none."""
    heldout_frac: float = 0.1
    """Share of the pairs that is never learned from: the reward model, and DPO, are measured on them."""
    problems: int = 48
    """Test prompts to measure on, and problems of a task that nobody trained on."""
    samples: int = 8
    """Answers to each of them."""
    documents: int = 0
    """Documents of a novella whose likelihood is measured, as part of the tax; 0 takes all."""
    seed: int = 0
    """Fixes everything."""
    dtype: Dtype = "auto"
    """What the models compute in."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Run every stage that has not been run, then measure."""
    from posttrain.commands.rlhf_measuring import measured

    _check(args)
    _check_gold(args)
    make_folder(args.out)
    _claim(args)
    start = await _sft(args)
    pairs = args.data or str(await _made_pairs(args, start))
    await _reward_model(args, start, pairs)
    learned = {"task": args.task or str(_prompts(args)), "reward": f"model:{args.out / 'reward_model'}", "gold": args.gold}
    for method in args.methods:
        await {"ppo": _ppo, "dpo": _dpo, "online_dpo": _online_dpo, "raft": _raft}[method](args, start, pairs, learned)
    _write(args, await measured(args, start, learned))
    return DONE


def _check(args: Args) -> None:
    if not args.data and not args.task:
        raise UserError("rlhf needs preferences (--data FILE.jsonl) or prompts to make them on (--task NAME or FILE.jsonl, with --gold)")
    if not args.data and not args.gold and args.task.endswith((".jsonl", ".jsonl.gz")):
        raise UserError("preferences on the prompts of a file need a judge: give --gold length:WORDS, judge:MODEL, …, or preferences as --data")
    if not args.methods or len(set(args.methods)) < len(args.methods):
        raise UserError("--methods takes each of ppo, dpo, online_dpo and raft once, and at least one of them")
    if args.group_size < 2 or args.answers_per_step < args.group_size or args.answers_per_step % args.group_size or args.answers_per_step % 2:
        raise UserError("--answers-per-step must be even and a multiple of --group-size, which must be at least 2")
    at_least_1 = ("reward_steps", "dpo_steps", "rl_steps", "problems", "samples", "made_pairs", "max_tokens")
    at_least_0 = ("sft_steps", "documents", "kl_coef", "learning_rate", "lora_rank")
    for name, least in [*((name, 1) for name in at_least_1), *((name, 0) for name in at_least_0)]:
        if not getattr(args, name) >= least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}")
    if not 0 <= args.heldout_frac < 1:
        raise UserError("--heldout-frac must be at least 0 and below 1: something must be left to learn from")
    if not args.beta > 0:
        raise UserError("--beta must be above 0: it is the reward of a nat")


def _check_gold(args: Args) -> None:
    """A gold reward that cannot be had is said before the first stage, and not behind the third."""
    from posttrain.training.rewards import load_reward

    if args.gold:
        load_reward(args.gold, args.dtype)


def _claim(args: Args) -> None:
    """Write `pipeline.json`, or go on with the one that is there. Raises UserError where its flags were others."""
    from posttrain.runs.folder import read_object, write_atomically

    file = args.out / "pipeline.json"
    wanted = json.loads(json.dumps(asdict(args), default=str))
    found = read_object(file) if file.exists() else wanted
    changed = sorted(name for name in {*found, *wanted} - set(MAY_CHANGE) if found.get(name) != wanted.get(name))
    if changed:
        listed = ", ".join(f"{name} ({found.get(name)!r} there, {wanted.get(name)!r} now)" for name in changed)
        raise UserError(f"'{args.out}' belongs to a pipeline with other flags: {listed}; repeat its command, or give another --out")
    write_atomically(file, json.dumps(wanted, indent=1))


# ------------------------------------------------------------------------------------------------------------- the stages


def _common(args: Args, name: str, steps: int, factor: float = 1.0) -> dict[str, Any]:
    """What every training is told."""
    from posttrain.policy.optim import AdamWConfig

    optim = AdamWConfig(args.learning_rate * factor, warmup_steps=3)
    return {"out": args.out / name, "steps": steps, "optim": optim, "seed": args.seed, "dtype": args.dtype}


def _steps_done(args: Args, name: str) -> int:
    """As far as the stage's last checkpoint goes; 0 without any."""
    from posttrain.policy.models import last_checkpoint

    last = last_checkpoint(args.out / name)
    return int(last.name.removeprefix("step_")) if last else 0


async def _sft(args: Args) -> str:
    """The model that everything else starts from."""
    from posttrain.algorithms import sft

    if not args.sft_steps or not (args.sft_data or args.data):
        return args.model
    if _steps_done(args, "sft") < args.sft_steps:
        data = args.sft_data or str(_chosen_as_conversations(args))
        await sft.train(sft.Config(model=args.model, data=data, **_common(args, "sft", args.sft_steps)))
    return str(args.out / "sft")


async def _reward_model(args: Args, start: str, pairs: str) -> None:
    from posttrain.algorithms import reward_model

    if _steps_done(args, "reward_model") < args.reward_steps:
        await reward_model.train(reward_model.Config(
            model=start, data=pairs, when_bad=args.when_bad, heldout_frac=args.heldout_frac, **_common(args, "reward_model", args.reward_steps, 2),
        ))  # fmt: skip


async def _ppo(args: Args, start: str, pairs: str, learned: Mapping[str, str]) -> None:
    from posttrain.algorithms import ppo

    if _steps_done(args, "ppo") < args.rl_steps:
        await ppo.train(ppo.Config(
            model=start, **learned, **_common(args, "ppo", args.rl_steps), lora_rank=args.lora_rank, max_tokens=args.max_tokens,
            problems_per_step=args.answers_per_step // 2, group_size=2, kl_coef=args.kl_coef, watch_kl=True, critic_model=str(args.out / "reward_model"),
            critic_learning_rate=2 * args.learning_rate,
        ))  # fmt: skip


async def _dpo(args: Args, start: str, pairs: str, learned: Mapping[str, str]) -> None:
    """In legs, for after each it is looked at; a run in legs is the same to the last bit."""
    from posttrain.algorithms import dpo
    from posttrain.commands.rlhf_path import Watch, seen, stops

    if _steps_done(args, "dpo") == args.dpo_steps and args.dpo_steps + 1 in (row["step"] for row in seen(args.out)):
        return
    watch = await Watch.of(args, start, learned)
    for steps in (0, *stops(args.dpo_steps)):
        if _steps_done(args, "dpo") < steps:
            await dpo.train(dpo.Config(
                model=start, data=pairs, when_bad=args.when_bad, heldout_frac=args.heldout_frac, beta=args.beta, lora_rank=args.lora_rank,
                **_common(args, "dpo", steps),
            ))  # fmt: skip
        if steps in (0, _steps_done(args, "dpo")):
            await watch.look(steps)


async def _online_dpo(args: Args, start: str, pairs: str, learned: Mapping[str, str]) -> None:
    from posttrain.algorithms import dpo

    if _steps_done(args, "online_dpo") < args.rl_steps:
        await dpo.train(dpo.Config(
            model=start, **learned, **_common(args, "online_dpo", args.rl_steps), beta=args.beta, lora_rank=args.lora_rank, max_tokens=args.max_tokens,
            pairs_per_step=args.answers_per_step // args.group_size, group_size=args.group_size,
        ))  # fmt: skip


async def _raft(args: Args, start: str, pairs: str, learned: Mapping[str, str]) -> None:
    from posttrain.algorithms import reject

    if _steps_done(args, "raft") < args.rl_steps:
        await reject.train(reject.Config(
            model=start, **learned, **_common(args, "raft", args.rl_steps), lora_rank=args.lora_rank, max_tokens=args.max_tokens,
            problems_per_step=args.answers_per_step // args.group_size, group_size=args.group_size, keep="best", keep_truncated=True, watch_kl=True,
        ))  # fmt: skip


# ------------------------------------------------------------------------------------------------------ what is learned from


def _chosen_as_conversations(args: Args) -> Path:
    """The chosen answers, to be imitated first."""
    from posttrain.data.pairs import load_pairs

    rows = [{"messages": _turns((*p.prompt, *p.chosen))} | _tools(p) for p in load_pairs(args.data, args.when_bad).items]
    return _jsonl(args.out / "sft_data.jsonl", rows)


def _prompts(args: Args) -> Path:
    from posttrain.data.pairs import load_pairs

    pairs = load_pairs(args.data, args.when_bad).items
    return _jsonl(args.out / "prompts.jsonl", [{"id": p.id, "prompt": _turns(p.prompt)} | _tools(p) for p in pairs])


async def _made_pairs(args: Args, start: str) -> Path:
    from posttrain.commands import prefer

    path = args.out / "pairs.jsonl"
    if not path.exists():
        await prefer.main(prefer.Args(
            model=start, task=args.task, reward=args.gold, out=path, problems=args.made_pairs, samples=args.group_size, max_tokens=args.max_tokens,
            keep_truncated=True, seed=args.seed, dtype=args.dtype,
        ))  # fmt: skip
    return path


def _tools(pair: Pair) -> dict[str, Any]:
    """The tools that a pair describes, which the model is to read wherever it reads its prompt."""
    return {"tools": pair.tools} if pair.tools else {}


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    from posttrain.agents.chat import message_json

    return [message_json(m) for m in messages]


def _jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    from posttrain.runs.folder import write_atomically

    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _write(args: Args, found: dict[str, Any]) -> None:
    from rich.table import Table

    from posttrain.evals.frontier_page import page, tables_of
    from posttrain.runs.folder import write_atomically

    write_atomically(args.out / "rlhf.json", json.dumps(found, indent=1))
    write_atomically(args.out / "report.html", page(found))
    if args.json:
        print(json.dumps(found))
        return
    print(found["about"])
    for title, header, rows in tables_of(found):
        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        show(table)
    print(f"\nreport: {args.out / 'report.html'}")
