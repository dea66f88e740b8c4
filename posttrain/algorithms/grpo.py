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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from posttrain.advantages import group_mean, has_signal, leave_one_out, max_rl, std_scaled
from posttrain.batching import TokenSequence, pack, rollout_sequences
from posttrain.losses import policy as losses
from posttrain.losses.kl import k1, k2, k3
from posttrain.losses.ratio import importance_ratio, sequence_ratio
from posttrain.losses.reduction import Reduction, token_weights
from posttrain.policy.hf import Policy
from posttrain.policy.optim import Optimizer
from posttrain.training.agents import make_agent
from posttrain.training.job import Job
from posttrain.training.loop import StepResult, Trained
from posttrain.training.reference import Reference, kl_metrics
from posttrain.training.rounds import Round, attempt, require_scores, rollout_rows, summary
from posttrain.training.scored import answerable, prompt_files, scored_task
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong
from posttrain.training.watch import Watch, over_updates
from posttrain.types import Agent, Problem, Rollout, Sampling, Task, UserError


@dataclass(frozen=True)
class Config(Settings):
    """Train a model by reinforcement learning on groups of attempts."""

    task: str = "arithmetic"
    """What to learn: NAME[:key=value,…], for example arithmetic:levels=2, rg:chain_sum, gsm8k:path=FILE, or a .jsonl file of prompts."""
    reward: str = ""
    """What judges, in place of the task's own score: model:FOLDER, process:FOLDER, judge:MODEL, pairwise:MODEL, length:WORDS or format:REGEX."""
    gold: str = ""
    """A reward that is watched beside it and never learned from; empty watches the task's own score, if it has one."""
    out: Path = Path("runs/grpo")
    """The run's folder; the same command again goes on where it stopped."""
    steps: int = 60
    """Rounds of attempting and learning."""

    problems_per_step: int = 8
    """Problems attempted at each step."""
    group_size: int = 8
    """Attempts at each problem."""
    max_tokens: int = 64
    """Longest completion, in tokens; with --tools the longest turn."""
    tools: str = ""
    """Let the model call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count problems whose prompts leave the context no room for an answer, or refuse them."""
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

    MAY_BE_INFINITE = ("clip_low", "clip_high")

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise UserError("--group-size must be at least 2: an attempt is compared with its siblings")
        if not self.temperature > 0:
            raise UserError("--temperature must be above 0: learning needs attempts that differ")
        super().__post_init__()
        self._at_least(1, "problems_per_step", "max_tokens", "updates", "epochs", "tool_steps")
        self._only_if(bool(self.tools), "--tools", "tool_steps")
        self._at_least(0, "clip_low", "clip_high", "kl_coef", "extra_rounds")
        if self.updates > self.problems_per_step:
            raise UserError("--updates cannot exceed --problems-per-step: each update needs a problem")
        if self.advantage == "max_rl" and self.kl_coef and self.kl_in == "reward":
            raise UserError("--advantage max_rl divides by the mean reward, which a KL in the reward can turn negative: use --kl-in loss_k2")
        if self.reward.startswith("model:") and (self.advantage == "max_rl" or self.truncated == "wrong"):
            raise UserError("--advantage max_rl and --truncated wrong need rewards of which 0 is the least, which a reward model's are not")


    @property
    def longest(self) -> int:
        """Tokens of the longest attempt."""
        return self.max_tokens * (self.tool_steps if self.tools else 1)


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


def gspo(config: Config = Config()) -> Config:
    """GSPO (2507.18071): the ratio of whole sequences, clipped at 3e-4 and 4e-4."""
    return replace(config, advantage="std_scaled", loss="gspo", clip_low=3e-4, clip_high=4e-4, reduction="sequence", kl_coef=0.0)


def cispo(config: Config = Config()) -> Config:
    """CISPO (2506.13585): a clipped weight that gradients do not flow through; no lower bound. Its upper one is not
    published; ours is 4 above 1."""
    return replace(config, advantage="std_scaled", loss="cispo", clip_low=1.0, clip_high=4.0, reduction="token", kl_coef=0.0)


PRESETS = {"grpo_as_published": grpo_as_published, "dr_grpo": dr_grpo, "dapo": dapo, "rloo": rloo, "gspo": gspo, "cispo": cispo}
ADVANTAGES = {"group_mean": group_mean, "leave_one_out": leave_one_out, "std_scaled": std_scaled, "max_rl": max_rl}


# ------------------------------------------------------------------------------------------------- score and compare


def rewards(round: Round, ref_gap_PG: Tensor | None, config: Config) -> Tensor:
    """Float64[P, G]: scores under the truncation policy, minus the weighted KL of each attempt; nan where unscored."""
    values_PG = round.values_PG
    if config.truncated != "score":
        values_PG = values_PG.masked_fill(round.truncated_PG, 0.0 if config.truncated == "wrong" else math.nan)
    if config.kl_in == "reward" and ref_gap_PG is not None:
        values_PG = values_PG - config.kl_coef * ref_gap_PG
    return values_PG


@dataclass(frozen=True)
class ReferenceLogprobs:
    """The reference's log-probs of a round's attempts."""

    stretches_PG: list[list[list[Tensor]]]
    """By problem, attempt and stretch of unbroken history."""

    @classmethod
    def of(cls, round: Round, reference: Reference | None) -> ReferenceLogprobs | None:
        """Read every attempt with the reference; None where there is none, for no KL is asked for."""
        if reference is None:
            return None
        parts = iter(reference.logprobs([s for rollout in round.rollouts for s in rollout_sequences(rollout)]))
        return cls([[[next(parts) for _ in rollout_sequences(r)] for r in group] for group in round.rollouts_PG])

    def only(self, rows: Sequence[int]) -> ReferenceLogprobs:
        return ReferenceLogprobs([self.stretches_PG[i] for i in rows])

    def gap(self, round: Round) -> Tensor:
        """Float64[P, G]: log(sampler / reference) of whole attempts, in nats: k1, whose mean is the KL."""
        gap = lambda rollout, parts: k1(_sampling_logprobs(rollout), torch.cat(parts)).sum().item() if parts else 0.0  # noqa: E731
        groups = zip(round.rollouts_PG, self.stretches_PG, strict=True)
        return torch.tensor([[gap(r, parts) for r, parts in zip(*group, strict=True)] for group in groups], dtype=torch.float64)


def _sampling_logprobs(rollout: Rollout) -> Tensor:
    return torch.tensor([x for c in rollout.completions for x in c.sampling_logprobs])


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
    def of(cls, round: Round, advantages_PG: Tensor, reference: ReferenceLogprobs | None, config: Config) -> Tokens:
        """Spread each attempt's advantage and weight over its tokens; leave out what is unscored or cannot contribute."""
        stretches = [rollout_sequences(rollout) for rollout in round.rollouts]
        lengths = [sum(s.n_predicted for s in parts) for parts in stretches]
        weights = token_weights(lengths, config.reduction, config.longest if config.reduction == "constant" else None)
        live_P1 = has_signal(advantages_PG)[:, None] | (not can_drop(config))
        live = (live_P1 & rewards(round, None, config).isfinite()).flatten().nonzero()[:, 0].tolist()
        sequences = [s for i in live for s in stretches[i]]
        sizes = torch.tensor([s.n_predicted for s in sequences], dtype=torch.long)
        repeats = torch.tensor([lengths[i] for i in live], dtype=torch.long)
        spread = lambda values: torch.tensor(values, dtype=torch.float32)[live].repeat_interleave(repeats)  # noqa: E731
        refs = [parts for group in reference.stretches_PG for parts in group] if reference else []
        return cls(
            sequences,
            torch.cat([_sampling_logprobs(round.rollouts[i]) for i in live] or [torch.empty(0)]),
            spread(advantages_PG.flatten().tolist()),
            spread(weights),
            torch.arange(len(sequences)).repeat_interleave(sizes),
            torch.cat([part for i in live for part in refs[i]] or [torch.empty(0)]) if refs else None,
        )


def can_drop(config: Config) -> bool:
    """Whether a group without advantage has no gradient at all."""
    return config.drop_groups_without_signal and not config.entropy_coef and not (config.kl_coef and config.kl_in != "reward")


def token_loss(logprobs: Tensor, old: Tensor, advantages: Tensor, sequence_ids: Tensor, n_sequences: int, config: Config) -> Tensor:
    """The policy loss of each token."""
    match config.loss:
        case "reinforce":
            return losses.reinforce(logprobs, advantages)
        case "clipped":
            return losses.clipped_surrogate(logprobs, old, advantages, config.clip_low, config.clip_high)
        case "cispo":
            return losses.cispo(logprobs, old, advantages, config.clip_low, config.clip_high)
        case "gspo":
            return losses.gspo(logprobs, old, advantages, sequence_ids, n_sequences, config.clip_low, config.clip_high)


def descend(policy: Policy, optimizer: Optimizer, tokens: Tokens, config: Config) -> dict[str, float]:
    """One optimizer step over any number of packed rows; none, and no metrics, where no group has a signal: AdamW's momentum
    would move the weights on a gradient of nothing."""
    if not tokens.sequences:
        return {}
    seen = Watch()
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
            ratios = sequence_ratio(logprobs, old, ids, len(tokens.sequences)) if config.loss == "gspo" else importance_ratio(logprobs, old)
            seen.add(logprobs, old, ratios, advantages, entropies, config.clip_low, config.clip_high)
    norm = optimizer.step()
    policy.version += 1
    return seen.metrics() | {"policy/grad_norm": norm}


# --------------------------------------------------------------------------------------------------------------- the step


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    agent: Agent
    task: Task
    problems: Sequence[Problem]
    reference: Reference | None
    """The frozen model of the KL; None where there is no KL."""
    config: Config


async def step(learner: Learner, is_first: bool = False) -> StepResult:
    """Attempt, score, centre, descend. A round in which nothing could be scored teaches nothing; the first raises UserError."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    everything, rows = await _attempts(learner)
    if is_first:
        require_scores(everything)
    sampled_s = time.perf_counter() - started

    chosen = everything.only(rows)
    reference = ReferenceLogprobs.of(chosen, learner.reference)
    ref_gap_PG = reference.gap(chosen) if reference else None
    advantages_PG = ADVANTAGES[config.advantage](rewards(chosen, ref_gap_PG, config))
    seen: list[dict[str, float]] = []
    for _ in range(config.epochs):
        for part in range(config.updates):
            dealt = list(range(part, len(rows), config.updates))
            tokens = Tokens.of(chosen.only(dealt), advantages_PG[dealt], reference.only(dealt) if reference else None, config)
            seen.append(descend(trained.policy, trained.optimizer, tokens, config))

    total_s = time.perf_counter() - started
    learned_PG = torch.zeros(len(everything.problems_P), config.group_size, dtype=torch.float64)
    learned_PG[rows] = advantages_PG
    metrics = summary(everything) | _groups(everything, learned_PG) | over_updates(seen)
    metrics["policy/skipped_updates"] = trained.optimizer.n_skipped
    if ref_gap_PG is not None:
        metrics |= kl_metrics(ref_gap_PG.tolist())
    timings = {
        "time/step_s": total_s, "time/sample_s": sampled_s, "time/train_s": total_s - sampled_s,
        "time/sampled_tokens_per_s": everything.n_tokens / sampled_s, "time/tokens_per_s": everything.n_tokens / total_s,
    }  # fmt: skip
    return StepResult(metrics, timings, rollout_rows(everything, learned_PG), _note(metrics, timings))


async def _attempts(learner: Learner) -> tuple[Round, list[int]]:
    """Everything attempted, and the rows to learn from: with `extra_rounds`, dead groups are replaced as far as can be."""
    config, trained = learner.config, learner.trained
    stream = Stream(learner.problems, config.seed, trained.position)

    async def more() -> Round:
        return await attempt(learner.agent, learner.task, *stream.take(config.problems_per_step), config.group_size)

    everything = await more()
    for _ in range(config.extra_rounds):
        if len(_live_rows(everything, config)) >= config.problems_per_step:
            break
        everything = everything + await more()
    trained.position = stream.position
    if not config.extra_rounds:
        return everything, list(range(config.problems_per_step))
    return everything, (_live_rows(everything, config) or [0])[: config.problems_per_step]


def _live_rows(round: Round, config: Config) -> list[int]:
    """The problems whose attempts did not all do equally well."""
    return has_signal(group_mean(rewards(round, None, config))).nonzero()[:, 0].tolist()


def _groups(everything: Round, learned_PG: Tensor) -> dict[str, float]:
    """The account of what was attempted and what was learned from; groups beyond those needed count as discarded too."""
    live_P = has_signal(learned_PG).tolist()
    discarded = sum(r.n_tokens for group, live in zip(everything.rollouts_PG, live_P, strict=True) if not live for r in group)
    return {
        "groups/live_frac": sum(live_P) / len(live_P), "groups/attempted": len(live_P), "groups/used": sum(live_P),
        "groups/discarded_tokens": discarded,
    }  # fmt: skip


def _note(metrics: dict[str, float], timings: dict[str, float]) -> str:
    return (
        f"reward {metrics['reward/mean']:.2f} [{metrics['reward/low']:.2f} {metrics['reward/high']:.2f}]"
        f"  live {metrics['groups/live_frac']:.0%}  {timings['time/tokens_per_s']:.0f} tok/s  {timings['time/step_s']:.1f} s"
    )


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a folder of another run, an unknown model, task or reward, a task without problems or with a gold
    answer that its own judge refuses, and where nothing in the first step could be scored.
    """
    task = await scored_task(config.task, config.reward, config.dtype, gold=config.gold)
    job = Job.open(config, "grpo", prompt_files(config.task))
    trained = job.trained(job.load_policy())
    policy = trained.policy
    reference = Reference.of(policy, config.model, config.dtype, bool(config.lora_rank)) if config.kl_coef else None
    agent = make_agent(policy, Sampling(config.temperature, config.max_tokens), config.tools, config.tool_steps, config.task)
    problems = await answerable(job, task, policy, agent, config.when_too_long)
    learner = Learner(trained, agent, task, problems, reference, config)
    return await job.run_steps(trained, lambda number: step(learner, is_first=number == 1))
