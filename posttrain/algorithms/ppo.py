"""PPO: policy gradients with a critic, and a KL to the reference in the reward (Schulman et al., 1707.06347; for language models
Ziegler et al., 1909.08593, Stiennon et al., 2009.01325 and Ouyang et al., 2203.02155).

Each step answers P problems, scores the answers, gives every token a reward (−kl_coef · log(π / π_ref), and the score at the
last one), estimates advantages with the critic (GAE, 1506.02438), and takes `epochs` × `updates` clipped steps on both.

Of the published implementation details (2403.17031; Huang et al. 2022, "The 37 implementation details of PPO"):
- dropout off in every model; the reference, the reward model and the critic read exact tokens, unpadded;
- a token's value is the critic's at the state *before* it; the value of what follows an end is 0;
- an answer that has not come to its end: scored as it stands, given `--missing-end-score` in place of its score (the "EOS
  trick"), or bootstrapped with the critic's own estimate (`--truncated`);
- advantages are whitened once over the whole step, not per minibatch; rewards only if asked, with their mean kept;
- value loss clipped around the old values, halved; Adam's epsilon 1e-5;
- adaptive KL coefficient (`--kl-target`), with the published bound of 20% on the error.

Deviations: the critic is a model of its own (`--critic own`, started from `--critic-model`, best a reward model) or a linear
head on the policy (`shared`, its weights starting at 0); with `own`, each has its own optimizer and learning rate, and the value
loss is not scaled. Learning rates are constant after warm-up. A reward model's scores are not shifted to a mean of 0 first (the critic
learns a constant, and `--whiten-rewards` scales). Means are over the tokens of the optimizer step. Answers
that could not be scored get no gradient and are in no statistic.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack, rollout_sequences
from posttrain.losses.policy import clipped_surrogate
from posttrain.losses.ratio import importance_ratio
from posttrain.losses.value import clipped_squared_error, explained_variance
from posttrain.policy.optim import AdamWConfig, Optimizer
from posttrain.policy.scalar import load_scalar
from posttrain.returns import AdaptiveKL, gae, token_rewards, whiten
from posttrain.seeds import fold
from posttrain.training.agents import make_agent
from posttrain.training.critic import ActorCritic, Critic, OwnCritic, SharedCritic
from posttrain.training.job import Job
from posttrain.training.loop import StepResult
from posttrain.training.reference import Reference, check_same_tokens, kl_metrics
from posttrain.training.rounds import Round, attempt, require_scores, rollout_rows, summary
from posttrain.training.scored import answerable, prompt_files, scored_task
from posttrain.training.settings import Settings
from posttrain.training.stream import Stream
from posttrain.training.texts import WhenTooLong
from posttrain.training.watch import Watch, over_updates
from posttrain.types import Agent, Problem, Sampling, Task, UserError


@dataclass(frozen=True)
class Config(Settings):
    """Learn from a reward with a critic."""

    task: str = "arithmetic"
    """What to answer: NAME[:key=value,…], or a .jsonl file of prompts."""
    reward: str = ""
    """What judges, in place of the task's own score: model:FOLDER, process:FOLDER, judge:MODEL, pairwise:MODEL, length:WORDS or format:REGEX."""
    gold: str = ""
    """A reward that is watched beside it and never learned from; empty watches the task's own score, if it has one."""
    out: Path = Path("runs/ppo")
    """The run's folder; the same command again goes on where it stopped."""
    steps: int = 60
    """Rounds of answering and learning."""

    problems_per_step: int = 32
    """Problems answered at each step."""
    group_size: int = 2
    """Answers to each problem; they are not compared, but share its prompt's computation."""
    max_tokens: int = 64
    """Longest answer, in tokens; with --tools the longest turn."""
    tools: str = ""
    """Let the model call tools: NAME[:key=value,…][,NAME…] of calculator, python, files, search, web, mcp; task takes those of --task."""
    tool_steps: int = 4
    """With --tools: turns of the model in one attempt, at most."""
    when_too_long: WhenTooLong = "drop"
    """Leave out and count problems whose prompts leave the context no room for an answer, or refuse them."""
    temperature: float = 1.0
    """Of sampling; the loss speaks of the same tempered policy."""
    truncated: Literal["score", "penalty", "bootstrap"] = "score"
    """An answer that ran out of tokens is scored as it stands, gets --missing-end-score, or ends in the critic's estimate."""
    missing_end_score: float = -1.0
    """The score of an answer without an end, with --truncated penalty."""

    clip: float = 0.2
    """A ratio further than this from 1 has gone far enough."""
    epochs: int = 2
    """Times that a round's answers are learned from."""
    updates: int = 1
    """Optimizer steps in each epoch; the round's answers are dealt out among them."""
    gamma: float = 1.0
    """Discount per token."""
    gae_lambda: float = 0.95
    """1: returns less values; 0: one-step errors."""
    whiten_advantages: bool = True
    """Scale advantages to mean 0 and variance 1 over the step."""
    whiten_rewards: bool = False
    """Scale rewards to variance 1 over the step."""
    kl_coef: float = 0.05
    """Weight of the KL to the model that the run began with, in reward per nat; 0 needs no reference."""
    kl_target: float = 0.0
    """KL of whole answers, in nats, that an adaptive coefficient steers to; 0 keeps the coefficient fixed."""
    kl_horizon: int = 10_000
    """Answers over which the adaptive coefficient reacts."""
    watch_kl: bool = False
    """With --kl-coef 0: measure the KL all the same (a forward of a frozen copy), and let nothing hold it down."""

    critic: Literal["own", "shared"] = "own"
    """A model of its own, or a head on the policy."""
    critic_model: str = ""
    """What an own critic starts from: a reward model, say; empty takes --model."""
    value_coef: float = 0.1
    """Weight of a shared critic's loss."""
    value_clip: float = 0.2
    """A value further than this from the old one has gone far enough; inf turns it off."""
    critic_learning_rate: float = 2e-5
    """The critic's own."""
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=5e-6, eps=1e-5))

    MAY_BE_INFINITE = ("clip", "value_clip")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "problems_per_step", "group_size", "max_tokens", "epochs", "updates", "kl_horizon", "tool_steps")
        self._at_least(0, "clip", "kl_coef", "kl_target", "value_coef", "value_clip", "critic_learning_rate")
        if not self.temperature > 0:
            raise UserError("--temperature must be above 0: learning needs answers that differ")
        if not (0 <= self.gamma <= 1 and 0 <= self.gae_lambda <= 1):
            raise UserError("--gamma and --gae-lambda must lie between 0 and 1")
        if self.kl_target and not self.kl_coef:
            raise UserError("--kl-target steers the KL's coefficient: give it a --kl-coef above 0 to start from")
        if self.updates > self.problems_per_step * self.group_size:
            raise UserError("--updates cannot exceed the answers of a step: each update needs one")
        if self.critic_model and self.critic == "shared":
            raise UserError("--critic-model is for --critic own: a shared critic is a head on the policy")
        self._only_if(bool(self.tools), "--tools", "tool_steps")
        self._only_if(self.truncated == "penalty", "--truncated penalty", "missing_end_score")
        self._only_if(self.critic == "shared", "--critic shared", "value_coef")
        self._only_if(self.kl_target > 0, "--kl-target", "kl_horizon")


# ----------------------------------------------------------------------------------------------------- what a round teaches


@dataclass(frozen=True)
class Answer:
    """One scored answer."""

    sequences: list[TokenSequence]
    score: float
    cut_off: bool
    """Whether the world went on behind its last token, whose value then stands for the rest."""
    sampling_logprobs: Tensor
    problem: int
    """Which of the round's."""

    @property
    def length(self) -> int:
        return sum(s.n_predicted for s in self.sequences)


@dataclass(frozen=True)
class Experience:
    """Everything that the updates of a round need, flat over the tokens of its answers."""

    answers: list[Answer]
    old_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    ref_gaps: Tensor
    """log(sampler / reference) of each token, in nats; 0 without a reference."""

    @property
    def lengths(self) -> list[int]:
        return [a.length for a in self.answers]

    @property
    def kl_nats(self) -> float:
        """The mean over answers of their KL to the reference, estimated by k1."""
        return self.ref_gaps.sum().item() / max(1, len(self.answers))

    @property
    def gaps_by_problem(self) -> list[list[float]]:
        """log(sampler / reference) of whole answers, in nats, problem by problem."""
        found: dict[int, list[float]] = {}
        for answer, part in zip(self.answers, self.ref_gaps.split(self.lengths), strict=True):
            found.setdefault(answer.problem, []).append(part.sum().item())
        return list(found.values())


def answers(round: Round, config: Config) -> list[Answer]:
    """The answers that have a score and tokens, under the truncation policy."""
    found = []
    problems = [p for p, group in enumerate(round.rollouts_PG) for _ in group]
    for problem, rollout, value in zip(problems, round.rollouts, round.values_PG.flatten().tolist(), strict=True):
        cut = rollout.outcome == "truncated"
        if cut and config.truncated == "penalty":
            value = config.missing_end_score
        if cut and config.truncated == "bootstrap":
            value = 0.0
        sequences = rollout_sequences(rollout)
        if not math.isfinite(value) or not any(s.n_predicted for s in sequences):
            continue
        logprobs = torch.tensor([x for c in rollout.completions for x in c.sampling_logprobs])
        found.append(Answer(sequences, value, cut and config.truncated == "bootstrap", logprobs, problem))
    return found


def experience(found: Sequence[Answer], critic: Critic, reference: Reference | None, kl_coef: float, config: Config) -> Experience:
    """Reward every token, value every state, and estimate advantages."""
    sequences = [s for answer in found for s in answer.sequences]
    lengths = [answer.length for answer in found]
    old = torch.cat([answer.sampling_logprobs for answer in found])
    gaps = old - torch.cat(reference.logprobs(sequences)) if reference else torch.zeros_like(old)
    values = critic.score(sequences)
    rewards = token_rewards(torch.tensor([a.score for a in found]), gaps, lengths, kl_coef)
    if config.whiten_rewards:
        rewards = whiten(rewards, keep_mean=True)
    advantages = gae(rewards, values, lengths, config.gamma, config.gae_lambda, _last_values(found, critic))
    returns = advantages + values
    return Experience(list(found), old, values, whiten(advantages) if config.whiten_advantages else advantages, returns, gaps)


def _last_values(found: Sequence[Answer], critic: Critic) -> Tensor | None:
    """The critic's value behind the last token of each answer that was cut off; 0 for the others."""
    cut = [i for i, answer in enumerate(found) if answer.cut_off]
    if not cut:
        return None
    last = [_only_last(found[i].sequences[-1]) for i in cut]
    values = torch.zeros(len(found))
    values[cut] = critic.score(last, before=False)
    return values


def _only_last(sequence: TokenSequence) -> TokenSequence:
    return TokenSequence(sequence.prompt, sequence.tokens, (False,) * (len(sequence.tokens) - 1) + (True,), sequence.temperature)


def descend(learner: Learner, data: Experience, chosen: Sequence[int]) -> dict[str, float]:
    """One optimizer step of policy and critic on some of the answers; means are over all tokens of the step."""
    config, trained, critic = learner.config, learner.trained, learner.trained.critic
    spans = np.cumsum([0, *data.lengths])
    tokens = torch.cat([torch.arange(spans[i], spans[i + 1]) for i in chosen])
    sequences = [s for i in chosen for s in data.answers[i].sequences]
    seen, value_loss, values = Watch(), 0.0, torch.empty(len(tokens))
    for batch in pack(sequences, config.tokens_per_batch):
        at = tokens[batch.index]
        states = trained.policy.states(batch)
        logprobs, entropies = trained.policy.head.logprobs(states, batch.targets, batch.temperatures)
        old, advantages = data.old_logprobs[at], data.advantages[at]
        loss = clipped_surrogate(logprobs, old, advantages, config.clip, config.clip).sum()
        read = critic.values(batch, states)
        error = clipped_squared_error(read, data.old_values[at], data.returns[at], config.value_clip).sum()
        ((loss + (config.value_coef if config.critic == "shared" else 1.0) * error) / len(tokens)).backward()
        with torch.no_grad():
            seen.add(logprobs, old, importance_ratio(logprobs, old), advantages, entropies, config.clip, config.clip)
            value_loss += error.item()
            values[batch.index] = read
    norm, value_norm = trained.optimizer.step(), critic.optimizer.step()
    trained.policy.version += 1
    return seen.metrics() | {
        "policy/grad_norm": norm, "value/grad_norm": value_norm, "value/loss": value_loss / len(tokens),
        "value/explained_variance": explained_variance(values, data.returns[tokens]),
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- the step


@dataclass
class Learner:
    """Everything a step needs."""

    trained: ActorCritic
    agent: Agent
    task: Task
    problems: Sequence[Problem]
    reference: Reference | None
    config: Config


async def step(learner: Learner, number: int) -> StepResult:
    """Answer, score, value, descend."""
    config, trained, started = learner.config, learner.trained, time.perf_counter()
    stream = Stream(learner.problems, config.seed, trained.position)
    round = await attempt(learner.agent, learner.task, *stream.take(config.problems_per_step), config.group_size)
    require_scores(round)
    trained.position = stream.position
    sampled_s = time.perf_counter() - started
    data = experience(answers(round, config), trained.critic, learner.reference, trained.kl_coef, config)
    seen = [
        descend(learner, data, order[part :: config.updates])
        for epoch in range(config.epochs)
        for order in [np.random.default_rng(fold(config.seed, "deal", number, epoch)).permutation(len(data.answers)).tolist()]
        for part in range(min(config.updates, len(data.answers)))
    ]
    total_s = time.perf_counter() - started
    metrics = summary(round) | over_updates(seen) | {
        "policy/skipped_updates": trained.optimizer.n_skipped, "value/skipped_updates": trained.critic.optimizer.n_skipped,
        "value/return_mean": data.returns.mean().item(), "value/value_mean": data.old_values.mean().item(),
    }  # fmt: skip
    if learner.reference is not None:
        metrics |= kl_metrics(data.gaps_by_problem) | {"policy/kl_coef": trained.kl_coef}
        if config.kl_target:
            trained.kl_coef = AdaptiveKL(trained.kl_coef, config.kl_target, config.kl_horizon).update(data.kl_nats, len(data.answers)).coef
    timings = {
        "time/step_s": total_s, "time/sample_s": sampled_s, "time/train_s": total_s - sampled_s,
        "time/sampled_tokens_per_s": round.n_tokens / sampled_s, "time/tokens_per_s": round.n_tokens / total_s,
    }  # fmt: skip
    return StepResult(metrics, timings, rollout_rows(round, _mean_advantages(round, data, config)), _note(metrics, timings))


def _mean_advantages(round: Round, data: Experience, config: Config) -> Tensor:
    """Float64[P, G]: the mean over each answer's tokens, 0 where it taught nothing; for the log."""
    means = iter([part.mean().item() for part in data.advantages.split(data.lengths)])
    scored = round.values_PG.isfinite() | (round.truncated_PG if config.truncated != "score" else False)
    has_tokens = torch.tensor([[r.n_tokens > 0 for r in group] for group in round.rollouts_PG])
    return torch.tensor([[next(means) if live else 0.0 for live in row] for row in (scored & has_tokens).tolist()], dtype=torch.float64)


def _note(metrics: dict[str, float], timings: dict[str, float]) -> str:
    kl = f"  KL {metrics['policy/kl_ref_nats']:.2f}" if "policy/kl_ref_nats" in metrics else ""
    return (
        f"reward {metrics['reward/mean']:.2f} [{metrics['reward/low']:.2f} {metrics['reward/high']:.2f}]{kl}"
        f"  critic {metrics['value/explained_variance']:.2f}  {timings['time/step_s']:.1f} s"
    )


# ---------------------------------------------------------------------------------------------------------------- the run


async def train(config: Config) -> Path:
    """Run, or take up, a whole training; returns the last checkpoint.

    Raises UserError for a folder of another run, an unknown model, task or reward, a critic of another tokenizer, and where
    nothing could be scored.
    """
    task = await scored_task(config.task, config.reward, config.dtype, gold=config.gold)
    job = Job.open(config, "ppo", prompt_files(config.task))
    policy = job.load_policy()
    trained = ActorCritic(policy, Optimizer(policy.parameters(), config.optim), critic=_critic(config, job, policy), kl_coef=config.kl_coef)
    trained = job.restored(trained)
    reference = Reference.of(policy, config.model, config.dtype, bool(config.lora_rank)) if config.kl_coef or config.watch_kl else None
    agent = make_agent(policy, Sampling(config.temperature, config.max_tokens), config.tools, config.tool_steps, config.task)
    problems = await answerable(job, task, policy, agent, config.when_too_long)
    learner = Learner(trained, agent, task, problems, reference, config)
    return await job.run_steps(trained, lambda number: step(learner, number))


def _critic(config: Config, job: Job, policy) -> Critic:
    """The critic at the run's beginning, or (an own one) as it was saved; its optimizer's state is restored later."""
    optim = AdamWConfig(config.critic_learning_rate, config.optim.warmup_steps, eps=config.optim.eps, max_grad_norm=config.optim.max_grad_norm)
    if config.critic == "shared":
        head = SharedCritic.new_head(policy)
        return SharedCritic(policy, head, Optimizer(list(head.parameters()), optim))
    saved = job.checkpoint / "trainer" / "critic" if job.checkpoint else None
    name = str(saved) if saved else config.critic_model or config.model
    model = job.ready(load_scalar(name, config.dtype, None if saved else config.lora))
    if not saved:
        check_same_tokens(policy, model, name)
    return OwnCritic(model, Optimizer(model.parameters(), optim))
