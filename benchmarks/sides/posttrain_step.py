"""posttrain's GRPO step: `algorithms/grpo.step`, as `posttrain train grpo` runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.work import Attempts, Done, Moment, brevity, durations
from posttrain.agents.loop import ModelAgent
from posttrain.algorithms.grpo import Config, Learner, step
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import Optimizer
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.training.loop import StepResult, Trained
from posttrain.types import Completion, Engine, Rollout, Sampling, Score


@dataclass(frozen=True)
class WithoutStops:
    """An engine whose completions all run to their full length."""

    engine: Engine

    async def sample(
        self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = ()
    ) -> list[Completion]:
        return await self.engine.sample(prompt_token_ids, n, sampling)


@dataclass(frozen=True)
class Brevity(Arithmetic):
    """Arithmetic that is rewarded as on TRL's side."""

    async def score(self, rollout: Rollout) -> Score:
        return Score(brevity(rollout.text))


def run(work: Attempts, setting: str = "") -> Done:
    """One step for each repeat, everything in it: sampling, scoring, forward and backward, AdamW."""
    learner = _learner(work)
    results, moments = asyncio.run(_steps(learner, work.n_repeats))
    prompts = [learner.trained.policy.renderer.prompt(p.messages) for p in work.problems]
    (sampled,) = {result.metrics["sampling/tokens"] for result in results}
    part = lambda name: tuple(result.timings[name] for result in results[work.warmup :])  # noqa: E731
    return Done(
        *durations(moments[work.warmup : -1], moments[work.warmup + 1 :]), {"prompt": sum(map(len, prompts)), "sampled": int(sampled)},
        {"sampling": part("time/sample_s"), "training": part("time/train_s")},
    )  # fmt: skip


def _learner(work: Attempts) -> Learner:
    config = Config(
        model=work.model, dtype=work.dtype, problems_per_step=work.prompts, group_size=work.samples, max_tokens=work.tokens,
        seed=work.seed, drop_groups_without_signal=False,
    )  # fmt: skip
    policy = load_policy(str(work.folder), work.dtype)
    trained = Trained(policy, Optimizer(policy.parameters(), config.optim))
    agent = ModelAgent(WithoutStops(LocalEngine(policy)), policy.renderer, Sampling(1.0, work.tokens))
    return Learner(trained, agent, Brevity(), work.problems, None, config)


async def _steps(learner: Learner, n: int) -> tuple[list[StepResult], list[Moment]]:
    """What each step said, and the moments between them."""
    results, moments = [], [Moment.now()]
    for _ in range(n):
        results.append(await step(learner))
        moments.append(Moment.now())
    return results, moments
