"""GRPO and its family: reinforcement learning from groups of attempts at the same problem, without a value model.

Each step attempts P problems G times, scores every attempt, and pushes the tokens of attempts that did better than their
siblings up and of those that did worse down. Three pure choices make the family, and each is a name in `Config`:

    advantage   group_mean | leave_one_out | std_scaled | max_rl          posttrain/advantages.py
    loss        reinforce | clipped | cispo | gspo                        posttrain/losses/policy.py
    reduction   token | sequence | constant                               posttrain/losses/reduction.py

Presets: `grpo_as_published` (arXiv 2402.03300), `dr_grpo` (2503.20783), `dapo` (2503.14476), `rloo` (2402.14740), `gspo`
(2507.18071), `cispo` (2506.13585). The default is Dr. GRPO's advantage with DAPO's reduction: no division by the
group's standard deviation (it favours problems that are nearly always or nearly never solved) and every token of the step
weighing the same.

Deviations, for all presets:
- KL to the reference goes into the reward as a number (k1, the whole completion's), which is the only per-token estimator
  whose gradient is that of the sequence's KL; `kl_in = "loss_k3"` is what was published, and pulls towards another optimum
  (docs/CORRECTNESS.md, items 9 and 10).
- The ratio is to the sampler's own log-probs, not to a second forward's: sampler and trainer share their arithmetic, so
  that the two agree (in fp32 to the bit; `sampling/mismatch_nats_max` says so at each step).
- The optimizer is AdamW with a constant rate after warm-up; prompts have no KL and no loss.
- Groups without signal (all rewards equal) are not computed, but count in the normaliser: the gradient is the same.
- Rewards that are nan (could not be judged; the machinery failed) are in no mean and get no gradient.
- An update whose gradient is not finite is skipped and counted.
"""

from __future__ import annotations

import math
import time
from asyncio import gather
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from posttrain.advantages import group_mean, has_signal, leave_one_out, max_rl, std_scaled
from posttrain.agents.loop import ModelAgent
from posttrain.batching import TokenSequence, pack, rollout_sequences
from posttrain.engine.local import LocalEngine
from posttrain.evals.measure import judge
from posttrain.losses.kl import k1, k2, k3
from posttrain.losses.policy import cispo, clip_fraction, clipped_surrogate, gspo, reinforce
from posttrain.losses.ratio import importance_ratio, sequence_ratio
from posttrain.losses.reduction import Reduction, token_weights
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.lora import LoraConfig
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.runs.folder import RunFolder
from posttrain.runs.progress import Bar
from posttrain.seeds import fold
from posttrain.statistics import clustered_mean
from posttrain.tasks import load as load_task
from posttrain.types import Agent, Problem, Rollout, Sampling, Score, Task, UserError

MAY_CHANGE = ("out", "steps", "checkpoint_every")
"""What a run may be taken up with anew."""


@dataclass(frozen=True)
class Config:
    """Train a model by reinforcement learning on groups of attempts."""

    model: str = "smollm2"
    """smollm2, tiny, a folder, a run's folder, a .gguf file or a hub id."""
    task: str = "arithmetic"
    """What to learn: NAME[:key=value,…], for example arithmetic:level=2, rg:chain_sum, gsm8k:path=FILE."""
    out: Path = Path("runs/grpo")
    """The run's folder; the same command again goes on where it stopped."""
    steps: int = 60
    """Rounds of attempting and learning."""
    seed: int = 0
    """Fixes problems, samples and adapters; the same seed gives the same run."""

    problems_per_step: int = 8
    """Problems attempted at each step."""
    group_size: int = 8
    """Attempts at each problem."""
    max_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Of sampling; the loss speaks of the same tempered policy."""

    advantage: Literal["group_mean", "leave_one_out", "std_scaled", "max_rl"] = "group_mean"
    """How a reward is compared with its siblings'."""
    loss: Literal["reinforce", "clipped", "cispo", "gspo"] = "clipped"
    """What each token contributes."""
    clip_low: float = 0.2
    """A ratio below 1 − clip_low has gone far enough."""
    clip_high: float = 0.28
    """A ratio above 1 + clip_high has gone far enough."""
    reduction: Reduction = "token"
    """How tokens become one number."""
    updates: int = 1
    """Optimizer steps for each round; its problems are dealt out among them."""
    epochs: int = 1
    """Times that a round's attempts are learned from."""
    kl_coef: float = 0.0
    """Weight of the KL to the model that the run began with, in reward per nat; 0 needs no reference."""
    kl_in: Literal["reward", "loss_k2", "loss_k3"] = "reward"
    """Where the KL enters."""
    entropy_coef: float = 0.0
    """Bonus per nat of each token's entropy, reduced as the loss is."""
    truncated: Literal["score", "wrong", "mask"] = "score"
    """An attempt that ran out of tokens is judged as it stands, counts as 0, or teaches nothing (and then is not deterred)."""
    drop_groups_without_signal: bool = True
    """Spare the computation of groups whose attempts all did equally well; the gradient is the same."""
    extra_rounds: int = 0
    """Attempt up to so many further rounds of problems to replace groups without signal (dynamic sampling); these then do
    not count in the normaliser, and the problems learned from are no longer those of the task in their proportion."""

    optim: AdamWConfig = field(default_factory=AdamWConfig)
    lora_rank: int = 0
    """Rank of a LoRA adapter; 0 trains all weights."""
    lora_alpha: float = 32.0
    """The adapter's update is scaled by lora_alpha / lora_rank."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; auto takes bf16 where the processor has units for it. Weights are kept in fp32 either way."""
    tokens_per_batch: int = 2048
    """Tokens in one packed row: memory grows with it, results do not depend on it."""
    checkpoint_every: int = 20
    """Steps between checkpoints; the last step always leaves one."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise UserError("--group-size must be at least 2: an attempt is compared with its siblings")
        if self.temperature <= 0:
            raise UserError("--temperature must be above 0: learning needs attempts that differ")
        for name in ("steps", "problems_per_step", "max_tokens", "updates", "epochs", "tokens_per_batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1")
        if self.updates > self.problems_per_step:
            raise UserError("--updates cannot exceed --problems-per-step: each update needs a problem")


# ------------------------------------------------------------------------------------------------------------- presets


def grpo_as_published(config: Config = Config()) -> Config:
    """GRPO (2402.03300): scaled by the group's deviation, every completion weighing the same, k3 in the loss at .04."""
    return replace(config, advantage="std_scaled", loss="clipped", clip_low=0.2, clip_high=0.2, reduction="sequence",
                   kl_coef=0.04, kl_in="loss_k3")  # fmt: skip


def dr_grpo(config: Config = Config()) -> Config:
    """Dr. GRPO (2503.20783): no division by deviation or by length, no KL."""
    return replace(config, advantage="group_mean", loss="clipped", clip_low=0.2, clip_high=0.2, reduction="constant", kl_coef=0.0)


def dapo(config: Config = Config()) -> Config:
    """DAPO (2503.14476): clip-higher, token mean, dynamic sampling, no KL. Its soft penalty on length is the task's to give."""
    return replace(config, advantage="std_scaled", loss="clipped", clip_low=0.2, clip_high=0.28, reduction="token",
                   kl_coef=0.0, extra_rounds=3)  # fmt: skip


def rloo(config: Config = Config()) -> Config:
    """RLOO (2402.14740): REINFORCE on whole completions with a leave-one-out baseline, KL in the reward at .05."""
    return replace(config, advantage="leave_one_out", loss="reinforce", reduction="constant", kl_coef=0.05, kl_in="reward")


def gspo_preset(config: Config = Config()) -> Config:
    """GSPO (2507.18071): the ratio of whole sequences, clipped at 3e-4 and 4e-4."""
    return replace(config, advantage="std_scaled", loss="gspo", clip_low=3e-4, clip_high=4e-4, reduction="sequence", kl_coef=0.0)


def cispo_preset(config: Config = Config()) -> Config:
    """CISPO (2506.13585): a clipped weight that gradients do not flow through; no lower bound. Its upper one is not
    published; ours is 4 above 1."""
    return replace(config, advantage="std_scaled", loss="cispo", clip_low=1.0, clip_high=4.0, reduction="token", kl_coef=0.0)


PRESETS = {"grpo_as_published": grpo_as_published, "dr_grpo": dr_grpo, "dapo": dapo, "rloo": rloo, "gspo": gspo_preset, "cispo": cispo_preset}
ADVANTAGES = {"group_mean": group_mean, "leave_one_out": leave_one_out, "std_scaled": std_scaled, "max_rl": max_rl}


# ------------------------------------------------------------------------------------------------- attempt, score, centre


@dataclass(frozen=True)
class Round:
    """What a step attempted: P problems, G attempts at each."""

    problems_P: list[Problem]
    rollouts_PG: list[list[Rollout]]
    scores_PG: list[list[Score]]

    def __add__(self, other: Round) -> Round:
        return Round(self.problems_P + other.problems_P, self.rollouts_PG + other.rollouts_PG, self.scores_PG + other.scores_PG)

    def only(self, rows: Sequence[int]) -> Round:
        return Round(*([column[i] for i in rows] for column in (self.problems_P, self.rollouts_PG, self.scores_PG)))

    def sequences(self) -> list[list[list[TokenSequence]]]:
        """By problem, attempt and stretch of unbroken history: the exact tokens."""
        return [[rollout_sequences(rollout) for rollout in group] for group in self.rollouts_PG]


async def attempt(agent: Agent, task: Task, problems_P: Sequence[Problem], seeds_P: Sequence[int], group_size: int) -> Round:
    """Attempt every problem `group_size` times and score every attempt, all at once."""

    async def group(problem: Problem, seed: int) -> tuple[list[Rollout], list[Score]]:
        rollouts = await agent.attempt(problem, group_size, seed)
        return rollouts, list(await gather(*(judge(task, rollout) for rollout in rollouts)))

    pairs = await gather(*(group(problem, seed) for problem, seed in zip(problems_P, seeds_P, strict=True)))
    return Round(list(problems_P), [rollouts for rollouts, _ in pairs], [scores for _, scores in pairs])


def rewards(round: Round, ref_gap_PG: Tensor | None, config: Config) -> Tensor:
    """Float[P, G]: scores under the truncation policy, minus the weighted KL of each attempt; nan where unscored."""
    values_PG = torch.tensor([[s.value for s in group] for group in round.scores_PG], dtype=torch.float64)
    cut_PG = torch.tensor([[r.outcome == "truncated" for r in group] for group in round.rollouts_PG])
    if config.truncated != "score":
        values_PG = values_PG.masked_fill(cut_PG, 0.0 if config.truncated == "wrong" else math.nan)
    if config.kl_in == "reward" and ref_gap_PG is not None:
        values_PG = values_PG - config.kl_coef * ref_gap_PG
    return values_PG


# --------------------------------------------------------------------------------------------------------------- descend


@dataclass(frozen=True)
class Tokens:
    """The predictions of an optimizer step, flat, in the order of `sequences`."""

    sequences: list[TokenSequence]
    sampling_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    sequence_ids: Tensor
    ref_logprobs: Tensor | None

    @classmethod
    def of(cls, round: Round, advantages_PG: Tensor, ref_logprobs: dict[int, Tensor], config: Config) -> Tokens:
        """Spread each attempt's advantage and weight over its tokens; leave out groups that cannot contribute."""
        stretches_PG = round.sequences()
        rollouts = [(p, g) for p, group in enumerate(stretches_PG) for g in range(len(group))]
        lengths = [sum(s.n_predicted for s in stretches_PG[p][g]) for p, g in rollouts]
        weights = token_weights(lengths, config.reduction, config.max_tokens if config.reduction == "constant" else None)
        live_P = has_signal(advantages_PG) | (not can_drop(config))
        rows = [
            (s, logprobs, advantages_PG[p, g].item(), weight, ref_logprobs.get(id(round.rollouts_PG[p][g])), i)
            for (p, g), weight in zip(rollouts, weights, strict=True) if live_P[p]
            for i, (s, logprobs) in enumerate(zip(stretches_PG[p][g], _by_stretch(round.rollouts_PG[p][g], stretches_PG[p][g]), strict=True))
        ]  # fmt: skip
        sizes = torch.tensor([s.n_predicted for s, *_ in rows], dtype=torch.long)
        spread = lambda column: torch.tensor([row[column] for row in rows]).float().repeat_interleave(sizes)  # noqa: E731
        refs = [ref[i] for *_, ref, i in rows if ref is not None]
        return cls(
            [row[0] for row in rows], torch.tensor([x for row in rows for x in row[1]]), spread(2), spread(3),
            torch.arange(len(rows)).repeat_interleave(sizes), torch.cat(refs) if refs else None,
        )  # fmt: skip


def _by_stretch(rollout: Rollout, stretches: list[TokenSequence]) -> list[list[float]]:
    """The sampler's log-probs of a rollout, dealt out to its stretches."""
    flat = iter([x for completion in rollout.completions for x in completion.sampling_logprobs])
    return [[next(flat) for _ in range(s.n_predicted)] for s in stretches]


def can_drop(config: Config) -> bool:
    """Whether a group without advantage has no gradient at all."""
    return config.drop_groups_without_signal and not config.entropy_coef and not (config.kl_coef and config.kl_in != "reward")


def token_loss(logprobs: Tensor, old: Tensor, advantages: Tensor, sequence_ids: Tensor, n_sequences: int, config: Config) -> Tensor:
    """The policy loss of each token."""
    match config.loss:
        case "reinforce":
            return reinforce(logprobs, advantages)
        case "clipped":
            return clipped_surrogate(logprobs, old, advantages, config.clip_low, config.clip_high)
        case "cispo":
            return cispo(logprobs, old, advantages, config.clip_low, config.clip_high)
        case "gspo":
            return gspo(logprobs, old, advantages, sequence_ids, n_sequences, config.clip_low, config.clip_high)


def descend(policy: Policy, optimizer: Optimizer, tokens: Tokens, config: Config) -> dict[str, float]:
    """One optimizer step over any number of packed rows."""
    totals: dict[str, float] = {}
    for batch in pack(tokens.sequences, config.tokens_per_batch):
        at = batch.index
        logprobs, entropies = policy.logprobs_and_entropies(batch)
        old, advantages, ids = tokens.sampling_logprobs[at], tokens.advantages[at], tokens.sequence_ids[at]
        loss = token_loss(logprobs, old, advantages, ids, len(tokens.sequences), config)
        if tokens.ref_logprobs is not None and config.kl_in != "reward":
            penalty = k2 if config.kl_in == "loss_k2" else k3
            loss = loss + config.kl_coef * penalty(logprobs, tokens.ref_logprobs[at])
        if config.entropy_coef:
            loss = loss - config.entropy_coef * entropies
        (loss * tokens.weights[at]).sum().backward()
        with torch.no_grad():
            _add(totals, _watch(logprobs, old, advantages, ids, entropies, len(tokens.sequences), config))
    norm = optimizer.step()
    policy.version += 1
    n = max(1.0, totals.pop("n", 0.0))
    mismatch = totals.pop("mismatch_max", 0.0)
    return {name: value / n for name, value in totals.items()} | {"policy/grad_norm": norm, "sampling/mismatch_nats_max": mismatch}


def _watch(logprobs: Tensor, old: Tensor, advantages: Tensor, ids: Tensor, entropies: Tensor, n: int, config: Config) -> dict[str, float]:
    """What is worth knowing of a batch, as sums over its tokens (and one maximum)."""
    ratios = sequence_ratio(logprobs, old, ids, n) if config.loss == "gspo" else importance_ratio(logprobs, old)
    low, high = clip_fraction(ratios, advantages, config.clip_low, config.clip_high)
    return {
        "n": len(logprobs),
        "policy/entropy_nats": entropies.sum().item(),
        "policy/clip_low_frac": low.item() * len(logprobs),
        "policy/clip_high_frac": high.item() * len(logprobs),
        "policy/kl_old_nats": k3(logprobs, old).sum().item(),
        "mismatch_max": (logprobs - old).abs().max().item(),
    }


def _add(totals: dict[str, float], new: dict[str, float]) -> None:
    for name, value in new.items():
        before = totals.get(name, 0.0)
        totals[name] = max(before, value) if name == "mismatch_max" else before + value


# --------------------------------------------------------------------------------------------------------------- the step


@dataclass
class Learner:
    """What a run carries from step to step."""

    policy: Policy
    agent: Agent
    task: Task
    problems: Sequence[Problem]
    optimizer: Optimizer
    reference: Policy | None
    config: Config
    position: int = 0
    """How many problems have been taken from the stream so far."""


async def step(learner: Learner) -> tuple[dict[str, float], list[dict[str, Any]], dict[str, float]]:
    """Attempt, score, centre, descend. Returns the step's metrics, its rollouts as rows, and its timings."""
    config, started = learner.config, time.perf_counter()
    everything, chosen = await _rounds(learner)
    sampled = time.perf_counter()
    ref_logprobs = _reference_logprobs(learner, chosen)
    advantages_PG = ADVANTAGES[config.advantage](rewards(chosen, _ref_gap(chosen, ref_logprobs), config))
    metrics: dict[str, float] = {}
    for epoch in range(config.epochs):
        for part in range(config.updates):
            rows = range(part, len(chosen.problems_P), config.updates)
            tokens = Tokens.of(chosen.only(rows), advantages_PG[list(rows)], ref_logprobs, config)
            seen = descend(learner.policy, learner.optimizer, tokens, config)
            if not metrics:
                metrics = seen
            metrics["policy/grad_norm"] = seen["policy/grad_norm"]
    trained = time.perf_counter()
    metrics = _summary(everything, chosen, advantages_PG, ref_logprobs) | metrics
    metrics["policy/skipped_updates"] = learner.optimizer.n_skipped
    n_tokens = sum(r.n_tokens for group in everything.rollouts_PG for r in group)
    timings = {
        "time/step_s": trained - started, "time/sample_s": sampled - started, "time/train_s": trained - sampled,
        "time/sampled_tokens_per_s": n_tokens / (sampled - started), "time/tokens_per_s": n_tokens / (trained - started),
    }  # fmt: skip
    return metrics, rollout_rows(chosen, advantages_PG), timings


async def _rounds(learner: Learner) -> tuple[Round, Round]:
    """Everything attempted, and what is learned from: with `extra_rounds`, dead groups are replaced as far as can be."""
    config = learner.config
    everything = chosen = await _next_round(learner)
    for _ in range(config.extra_rounds):
        live = _live_rows(everything, config)
        if len(live) >= config.problems_per_step:
            break
        everything = everything + await _next_round(learner)
    if config.extra_rounds:
        live = _live_rows(everything, config)
        chosen = everything.only((live or [0])[: config.problems_per_step])
    return everything, chosen


def _live_rows(round: Round, config: Config) -> list[int]:
    """The problems whose attempts did not all do equally well."""
    return has_signal(group_mean(rewards(round, None, config))).nonzero()[:, 0].tolist()


async def _next_round(learner: Learner) -> Round:
    """The next problems of an endless stream: every problem once in each pass, in a new order. Seeds follow the position."""
    config, problems, n = learner.config, learner.problems, len(learner.problems)
    places = range(learner.position, learner.position + config.problems_per_step)
    learner.position += len(places)
    order = {e: np.random.default_rng(fold(config.seed, "order", e)).permutation(n) for e in {p // n for p in places}}
    chosen = [problems[order[p // n][p % n]] for p in places]
    seeds = [fold(config.seed, "attempt", p) for p in places]
    return await attempt(learner.agent, learner.task, chosen, seeds, config.group_size)


def _reference_logprobs(learner: Learner, round: Round) -> dict[int, Tensor]:
    """For each rollout (by identity), the reference's log-probs of each stretch; nothing where no KL is asked for."""
    if not learner.config.kl_coef:
        return {}
    rollouts = [rollout for group in round.rollouts_PG for rollout in group]
    stretches = [rollout_sequences(rollout) for rollout in rollouts]
    flat = [s for group in stretches for s in group]
    if learner.reference is not None:
        logprobs = learner.reference.score(flat)[0]
    else:
        with learner.policy.as_reference():
            logprobs = learner.policy.score(flat)[0]
    parts = iter(logprobs.split([s.n_predicted for s in flat]))
    return {id(rollout): [next(parts) for _ in group] for rollout, group in zip(rollouts, stretches, strict=True)}


def _ref_gap(round: Round, ref_logprobs: dict[int, Any]) -> Tensor | None:
    """Float[P, G]: log(policy / reference) of whole attempts, in nats."""
    if not ref_logprobs:
        return None

    def gap(rollout: Rollout) -> float:
        own = torch.tensor([x for c in rollout.completions for x in c.sampling_logprobs])
        return k1(own, torch.cat(ref_logprobs[id(rollout)])).sum().item() if len(own) else 0.0

    return torch.tensor([[gap(r) for r in group] for group in round.rollouts_PG], dtype=torch.float64)


def _summary(everything: Round, chosen: Round, advantages_PG: Tensor, ref_logprobs: dict[int, Any]) -> dict[str, float]:
    """What the attempts say; rewards are of *all* attempts, those of dropped and replaced groups too."""
    reward = clustered_mean([[s.value for s in group] for group in everything.scores_PG])
    rollouts = [r for group in everything.rollouts_PG for r in group]
    n_tokens = sum(r.n_tokens for r in rollouts)
    live = int(has_signal(advantages_PG).sum())
    share = lambda outcome: sum(r.outcome == outcome for r in rollouts) / len(rollouts)  # noqa: E731
    summary = {
        "reward/mean": reward.value, "reward/stderr": reward.stderr, "reward/low": reward.low, "reward/high": reward.high,
        "reward/n_problems": reward.n, "reward/unscored_frac": reward.n_unscored / len(rollouts),
        "groups/live_frac": live / len(chosen.problems_P), "groups/sampled": len(everything.problems_P),
        "groups/without_signal_tokens": _dead_tokens(chosen, advantages_PG),
        "sampling/length_tokens": n_tokens / len(rollouts), "sampling/tokens": n_tokens,
        "sampling/truncated_frac": share("truncated"), "sampling/error_frac": share("error"),
        "sampling/surprisal_nats": -sum(x for r in rollouts for c in r.completions for x in c.sampling_logprobs) / max(1, n_tokens),
    }  # fmt: skip
    gaps_PG = _ref_gap(chosen, ref_logprobs)
    return summary if gaps_PG is None else summary | {"policy/kl_ref_nats": gaps_PG.mean().item()}


def _dead_tokens(round: Round, advantages_PG: Tensor) -> int:
    """Tokens sampled for groups that taught nothing."""
    return sum(r.n_tokens for group, live in zip(round.rollouts_PG, has_signal(advantages_PG), strict=True) if not live for r in group)


def rollout_rows(round: Round, advantages_PG: Tensor) -> list[dict[str, Any]]:
    """One row for each problem, with every attempt's tokens, judgement and advantage."""
    return [
        {
            "problem_id": problem.id, "messages": [asdict(m) for m in problem.messages], "answer": problem.answer,
            "attempts": [_attempt_row(r, s, a) for r, s, a in zip(group, scores, advantages.tolist(), strict=True)],
        }
        for problem, group, scores, advantages in zip(round.problems_P, round.rollouts_PG, round.scores_PG, advantages_PG, strict=True)
    ]  # fmt: skip


def _attempt_row(rollout: Rollout, score: Score, advantage: float) -> dict[str, Any]:
    turns = [
        {"prompt_token_ids": c.prompt_token_ids, "token_ids": c.token_ids, "sampling_logprobs": c.sampling_logprobs,
         "stop_reason": c.stop_reason, "weight_version": c.weight_version}
        for c in rollout.completions
    ]  # fmt: skip
    return {
        "sample": rollout.sample, "text": rollout.text, "score": score.value, "parts": dict(score.parts),
        "explanation": score.explanation, "outcome": rollout.outcome, "error": rollout.error, "advantage": advantage, "turns": turns,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a folder of another run, an unknown model or task, a task without problems.
    """
    run = RunFolder(config.out)
    task = load_task(config.task)
    problems = task.problems("train")
    if not problems:
        raise UserError(f"the task '{config.task}' has no problems to train on")
    state = run.open(asdict(config) | {"algorithm": "grpo"}, MAY_CHANGE)
    learner = _learner(config, run, task, problems, state)
    first = state["step"] if state else 0
    with Bar("grpo", config.steps, first) as bar:
        for number in range(first + 1, config.steps + 1):
            metrics, rows, timings = await step(learner)
            _log(run, number, metrics, rows, timings)
            if number % config.checkpoint_every == 0 or number == config.steps:
                _checkpoint(run, learner, number)
            bar.advance(_note(metrics, timings))
    return run.last_checkpoint()


def _learner(config: Config, run: RunFolder, task: Task, problems: Sequence[Problem], state: dict[str, Any] | None) -> Learner:
    """Everything a run needs, as it was at its last checkpoint."""
    last = run.last_checkpoint()
    torch.manual_seed(config.seed)  # an adapter's first weights; nothing else draws from it
    lora = LoraConfig(config.lora_rank, config.lora_alpha) if config.lora_rank else None
    policy = load_policy(str(last), config.dtype) if last else load_policy(config.model, config.dtype, lora)
    optimizer = Optimizer(policy.parameters(), config.optim)
    if state:
        optimizer.load_state_dict(torch.load(last / "trainer" / "optimizer.pt", weights_only=True))
        policy.version = state["weight_version"]
    reference = None
    if config.kl_coef and not (policy.has_adapter and config.lora_rank):
        reference = load_policy(config.model, config.dtype)
        reference.model.requires_grad_(False)
    sampling = Sampling(config.temperature, config.max_tokens)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, sampling)
    return Learner(policy, agent, task, problems, optimizer, reference, config, state["position"] if state else 0)


def _checkpoint(run: RunFolder, learner: Learner, number: int) -> None:
    def save(folder: Path) -> None:
        learner.policy.save(folder)
        torch.save(learner.optimizer.state_dict(), folder / "trainer" / "optimizer.pt")

    run.checkpoint(number, save, {"position": learner.position, "weight_version": learner.policy.version})


def _log(run: RunFolder, number: int, metrics: dict[str, float], rows: list[dict[str, Any]], timings: dict[str, float]) -> None:
    run.append("rollouts.jsonl", [{"step": number, **row} for row in rows])
    run.append("timings.jsonl", [{"step": number, **timings}])
    run.append("metrics.jsonl", [{"step": number, **metrics}])


def _note(metrics: dict[str, float], timings: dict[str, float]) -> str:
    """The line beside the progress bar."""
    half = (metrics["reward/high"] - metrics["reward/low"]) / 2
    return (
        f"reward {metrics['reward/mean']:.2f} ± {half:.2f}  live {metrics['groups/live_frac']:.0%}"
        f"  {timings['time/tokens_per_s']:.0f} tok/s  {timings['time/step_s']:.1f} s"
    )

