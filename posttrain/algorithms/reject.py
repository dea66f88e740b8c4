"""Weighted SFT on the policy's own samples: rejection sampling, RAFT, reward-weighted regression, expert iteration.

    keep        what each attempt counts                                              known as
    best        1 for the best of its group, 0 for the others                         RAFT (2304.06767), best-of-n distillation
    threshold   1 where the score reaches the threshold, 0 elsewhere                  rejection sampling, STaR (2203.14465), ReST-EM
    weighted    exp(score / beta), normalised over the group                          RWR (Peters and Schaal 2007), AWR (1910.00177)

Each round attempts problems, scores, weighs and takes maximum-likelihood steps. Rewards of 0 and 1 and `threshold` make
the gradient that of REINFORCE without a baseline, to the factor of the success rate; weights exp(r / beta) on enough
samples of the reference give the optimum of RL with a KL of weight beta, reference · exp(r / beta) / Z, and m rounds of
them the one of beta / m. From N samples no more than log N nats of KL can be reached: that is how far "RLHF is weighted
SFT" holds (tests/exact/optima.py; docs/CORRECTNESS.md).

Deviations: problems whose attempts are all kept alike still count, with weight, in `weighted` and `threshold`; a tie for the
best takes the first; ranks are within a problem, as in RAFT's second form, not over the batch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, rollout_sequences
from posttrain.policy.optim import AdamWConfig
from posttrain.training.agents import make_agent
from posttrain.training.job import Job
from posttrain.training.likelihood import likelihood_step
from posttrain.training.loop import StepResult, Trained
from posttrain.training.reference import Reference, kl_metrics
from posttrain.training.rounds import Round, attempt, require_scores, rollout_rows, summary
from posttrain.training.scored import answerable, prompt_files, scored_task
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong
from posttrain.types import Agent, Problem, Sampling, Task, UserError


@dataclass(frozen=True)
class Config(Settings):
    """Attempt, score, and imitate the attempts that did well."""

    task: str = "arithmetic"
    """What to attempt: NAME[:key=value,…], or a .jsonl file of prompts."""
    reward: str = ""
    """What judges, in place of the task's own score: model:FOLDER, process:FOLDER, judge:MODEL, pairwise:MODEL, length:WORDS or format:REGEX."""
    gold: str = ""
    """A reward that is watched beside it and never learned from; empty watches the task's own score, if it has one."""
    out: Path = Path("runs/reject")
    """The run's folder; the same command again goes on where it stopped."""
    steps: int = 60
    """Rounds of attempting and learning."""
    problems_per_step: int = 8
    """Problems attempted at each step."""
    group_size: int = 8
    """Attempts at each problem."""
    max_tokens: int = 64
    """Longest attempt, in tokens; with --tools the longest turn."""
    tools: str = ""
    """Let the model call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count problems whose prompts leave the context no room for an answer, or refuse them."""
    temperature: float = 1.0
    """Of sampling; learning is at temperature 1."""
    keep: Literal["best", "threshold", "weighted"] = "best"
    """Which attempts are imitated, and how much."""
    threshold: float = 1.0
    """With keep threshold: the least score that is imitated."""
    beta: float = 0.5
    """With keep weighted: an attempt counts e times as much as one whose score is lower by beta."""
    keep_truncated: bool = False
    """Imitate attempts that ran out of tokens too; by default they have the weight 0."""
    epochs: int = 1
    """Times that a round's kept attempts are learned from."""
    reduction: Literal["token", "sequence"] = "token"
    """Every kept token counts the same, or every kept attempt."""
    watch_kl: bool = False
    """Also measure the KL to the model that the run began with (a forward of a frozen copy); nothing holds it down here."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=1e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "problems_per_step", "group_size", "max_tokens", "epochs", "tool_steps")
        if not self.temperature > 0:
            raise UserError("--temperature must be above 0: choosing needs attempts that differ")
        if not self.beta > 0:
            raise UserError("--beta must be above 0")
        if self.keep == "best" and self.group_size < 2:
            raise UserError("--group-size must be at least 2: the best is chosen among siblings")
        self._only_if(bool(self.tools), "--tools", "tool_steps")
        self._only_if(self.keep == "threshold", "--keep threshold", "threshold")
        self._only_if(self.keep == "weighted", "--keep weighted", "beta")


def raft(config: Config = Config()) -> Config:
    """RAFT (2304.06767): the best of each group."""
    return replace(config, keep="best")


def rwr(config: Config = Config()) -> Config:
    """Reward-weighted regression (Peters and Schaal 2007): every attempt, weighed by exp(score / beta)."""
    return replace(config, keep="weighted")


def expert_iteration(config: Config = Config()) -> Config:
    """Expert iteration (STaR, 2203.14465; ReST-EM, 2312.06585): all right attempts; always going on from the present policy."""
    return replace(config, keep="threshold", threshold=1.0)


PRESETS = {"raft": raft, "rwr": rwr, "expert_iteration": expert_iteration}


def weights(values_PG: Tensor, truncated_PG: Tensor, config: Config) -> Tensor:
    """Float64[P, G]: what each attempt counts; 0 for unscored ones. The weights of a group mean 1 with `weighted`."""
    usable_PG = values_PG.isfinite() & (~truncated_PG | config.keep_truncated)
    values_PG = values_PG.masked_fill(~usable_PG, -torch.inf)
    if config.keep == "threshold":
        return (values_PG >= config.threshold).double()
    any_P1 = usable_PG.any(1, keepdim=True)
    if config.keep == "best":
        best_P1 = values_PG.argmax(1, keepdim=True)
        return torch.zeros_like(values_PG).scatter(1, best_P1, 1.0) * any_P1
    scaled_PG = (values_PG / config.beta).masked_fill(~any_P1, 0.0)
    return scaled_PG.softmax(1) * usable_PG.sum(1, keepdim=True) * any_P1


@dataclass
class Learner:
    """Everything a step needs."""

    trained: Trained
    agent: Agent
    task: Task
    problems: Sequence[Problem]
    config: Config
    reference: Reference | None = None
    """The model that the run began with, where the KL to it is watched."""


async def step(learner: Learner) -> StepResult:
    """Attempt, score, weigh, imitate."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    stream = Stream(learner.problems, config.seed, trained.position)
    round = await attempt(learner.agent, learner.task, *stream.take(config.problems_per_step), config.group_size)
    require_scores(round)
    trained.position = stream.position
    sampled_s = time.perf_counter() - started
    watched = kl_metrics(learner.reference.gaps(round.rollouts).view(-1, config.group_size).tolist()) if learner.reference else {}
    weights_PG = weights(round.values_PG, round.truncated_PG, config)
    sequences, counted = kept(round, weights_PG)
    seen: dict[str, float] = {}
    for _ in range(config.epochs):
        seen = likelihood_step(trained.policy, trained.optimizer, sequences, config.tokens_per_batch, config.reduction, counted)
    total_s = time.perf_counter() - started
    metrics = summary(round) | seen | watched | {
        "kept/frac": (weights_PG > 0).double().mean().item(), "kept/problems_frac": (weights_PG > 0).any(1).double().mean().item(),
        "kept/effective_frac": effective_share(weights_PG), "kept/reward": kept_reward(round.values_PG, weights_PG),
        "policy/skipped_updates": trained.optimizer.n_skipped,
    }  # fmt: skip
    timings = {"time/step_s": total_s, "time/sample_s": sampled_s, "time/train_s": total_s - sampled_s, "time/tokens_per_s": round.n_tokens / total_s}
    note = f"reward {metrics['reward/mean']:.2f} [{metrics['reward/low']:.2f} {metrics['reward/high']:.2f}]  kept {metrics['kept/frac']:.0%}  {total_s:.1f} s"
    return StepResult(metrics, timings, rollout_rows(round, weights_PG), note)


def kept(round: Round, weights_PG: Tensor) -> tuple[list[TokenSequence], list[float]]:
    """The attempts of positive weight as training sequences at temperature 1, and their weights."""
    sequences, counted = [], []
    for rollout, weight in zip(round.rollouts, weights_PG.flatten().tolist(), strict=True):
        for s in rollout_sequences(rollout) if weight > 0 else ():
            sequences.append(TokenSequence(s.prompt, s.tokens, s.predicted))
            counted.append(weight)
    return sequences, counted


def effective_share(weights_PG: Tensor) -> float:
    """Effective sample size over the number of attempts: (Σ w)² / (n Σ w²); 0 where nothing is kept."""
    squares = weights_PG.square().sum().item()
    return weights_PG.sum().item() ** 2 / (weights_PG.numel() * squares) if squares else 0.0


def kept_reward(values_PG: Tensor, weights_PG: Tensor) -> float:
    """The weighted mean of the scores: what is imitated; nan where nothing is kept."""
    total = weights_PG.sum().item()
    return (values_PG.nan_to_num() * weights_PG).sum().item() / total if total else float("nan")


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint. Raises UserError as the other methods do."""
    task = await scored_task(config.task, config.reward, config.dtype, gold=config.gold)
    job = Job.open(config, "reject", prompt_files(config.task))
    trained = job.trained(job.load_policy())
    policy = trained.policy
    agent = make_agent(policy, Sampling(config.temperature, config.max_tokens), config.tools, config.tool_steps, config.task)
    reference = Reference.of(policy, config.model, config.dtype, bool(config.lora_rank)) if config.watch_kl else None
    problems = await answerable(job, task, policy, agent, config.when_too_long)
    learner = Learner(trained, agent, task, problems, config, reference)
    return await job.run_steps(trained, lambda _: step(learner))
