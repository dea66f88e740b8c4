"""A small model that learned short jobs: how far does it keep to longer ones, and is it length or its own errors that stop it?

`horizon.py` tries the measures on speakers whose truth is known. Here SmolLM2-135M-Instruct learns to keep a ledger from the
attempts of a scripted expert (supervised, calls in words), on jobs of two and four operations, each told when the one before is done,
and is measured on jobs up to four times as long: success against the horizon, survival against p^t, and the next step after histories that were right
and histories of which half of the steps were wrong. A second model learns as many attempts at the same jobs, of which half are by an
expert that errs in most of its steps and the others by one that errs in none: to say what such an attempt does next, one must look at
whether it has erred before. It is the positive control: errors in its history must make it err.

What would make this dishonest: judging steps by the state that should be (they are judged by the world as it is, so that doing what
is asked is right whatever went wrong before); other jobs, steps or seeds for the two models; saying that there is no effect where the
interval is wide. It fails if the clean model does not do most of the
jobs as long as those it learned, or if the control does not err more after errors.

    python -m experiments.trained_horizon

Measured (2026-11-25, 7 min on 2 cores, seed 0):
- clean: success at 1, 4, 16 steps 0.33, 0.17, 0.08 (n 12 jobs each), at 4 0.17 [0.05 0.45] (n 12); a right step in
  jobs of 4 0.794 [0.594 0.910] (n 12), of 16 0.880 [0.761 0.944] (n 12)
- clean, jobs of 16: right up to step 1, 2, 4, 8, 16 (and p^t, by p in jobs of 4): 0.75 (0.79), 0.75 (0.63), 0.66
  (0.40), 0.47 (0.16), 0.09 (0.03); errors as steps double -0.07 [-0.71 +0.58] log-odds; they ended as success 0.08,
  wrong argument 0.50, repeated loop 0.33, ran out 0.08
- clean, the next step after 4: all right 0.83 [0.55 0.95] (n 12), half of them wrong 0.75 [0.47 0.91] (n 12);
  length's effect -0.11 [-0.43 0.20] (n 9), errors' effect -0.08 [-0.29 0.10] (n 12): after 4 steps, neither length
  nor earlier errors show an effect
- control: success at 1, 4, 16 steps 0.33, 0.08, 0.08 (n 12 jobs each), at 4 0.08 [0.01 0.35] (n 12); a right step in
  jobs of 4 0.667 [0.409 0.853] (n 12), of 16 0.780 [0.543 0.913] (n 12)
- control, jobs of 16: right up to step 1, 2, 4, 8, 16 (and p^t, by p in jobs of 4): 0.67 (0.67), 0.25 (0.44), 0.25
  (0.20), 0.17 (0.04), 0.08 (0.00); errors as steps double -0.63 [-1.14 -0.13] log-odds; they ended as success 0.08,
  wrong argument 0.75, repeated loop 0.17
- control, the next step after 4: all right 0.92 [0.65 0.99] (n 12), half of them wrong 0.50 [0.25 0.75] (n 12);
  length's effect 0.42 [0.11 0.65] (n 12), errors' effect -0.42 [-0.69 0.00] (n 12): after 4 steps, neither length nor
  earlier errors show an effect
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.common import record, spoken, write_jsonl
from experiments.horizon import of_horizon
from posttrain.agents.chat import message_json
from posttrain.agents.conversation import Limits
from posttrain.agents.faulty import FaultySpeaker
from posttrain.agents.local import LocalSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.algorithms import sft
from posttrain.engine.local import LocalEngine
from posttrain.evals.histories import AtLength, after_histories, cause
from posttrain.evals.reliability import Reliability, reliability
from posttrain.evals.reliability_page import page
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.runs.folder import write_atomically
from posttrain.tasks.jobs import Jobs
from posttrain.tasks.ledger import Ledger
from posttrain.types import Problem, Sampling

ARMS = {"clean": 0.0, "control": 0.75}
"""By name: how often the expert errs in every second of the attempts that are learned."""
LEARNED, HORIZONS = (2, 4), (1, 4, 16)
LONGEST_TURN = 48
"""Tokens; a call takes some 40."""


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/trained_horizon")
    model: str = "smollm2"
    told: str = "one_by_one"
    """Whether all operations stand in the question, or each is told when the one before is done."""
    steps: int = 8
    conversations_per_step: int = 5
    problems: int = 12
    """Jobs of each length, and histories."""
    samples: int = 1
    history: int = 4
    """Steps before the one that is asked for."""
    seed: int = 0
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-4, warmup_steps=2))

    def jobs(self, horizon: int) -> Ledger:
        learned = self.steps * self.conversations_per_step // len(LEARNED)
        return Ledger(horizon, self.told, n_train=learned, n_test=self.problems, seed=self.seed, operations=("add", "transfer"))


async def run(config: Config) -> None:
    """Learn, measure, record."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    found, lines = {}, []
    for name, error in ARMS.items():
        model = await learned(config, name, error)
        result, histories = await measured(config, str(model))
        write_atomically(config.out / f"{name}.html", page(replace(result, histories=tuple(histories))))
        found[name] = {"result": result.to_json(), "histories": histories}
        lines += told(name, result, histories)
        record(__file__, config.out, config, found, lines, started)


async def learned(config: Config, name: str, error: float) -> Path:
    """The model after the expert's attempts, every second of them by one that errs so often."""
    data = config.out / f"{name}.jsonl"
    if not data.exists():
        problems = [(config.jobs(h), problem) for h in LEARNED for problem in config.jobs(h).problems("train")]
        write_jsonl(data, [await demonstration(jobs, problem, error * (i % 2), config.seed) for i, (jobs, problem) in enumerate(problems)])
    return await sft.train(sft.Config(
        model=config.model, out=config.out / name, data=str(data), steps=config.steps, conversations_per_step=config.conversations_per_step,
        heldout_frac=0.0, seed=config.seed, optim=config.optim, tokens_per_batch=2048, checkpoint_every=4,
    ))  # fmt: skip


async def demonstration(jobs: Jobs, problem: Problem, error: float, seed: int) -> dict[str, Any]:
    """The expert's attempt as a conversation with tools."""
    agent = ToolAgent(FaultySpeaker(jobs, error), jobs.world, Limits(4 + 4 * jobs.horizon))
    (rollout,) = await agent.attempt(problem, 1, seed)
    async with jobs.world.open(problem) as env:
        return {"messages": [message_json(message) for message in problem.messages + rollout.messages], "tools": env.tools}


async def measured(config: Config, model: str) -> tuple[Reliability, list[AtLength]]:
    """Success at every length, and the next step after histories."""
    policy = load_policy(model)
    speaker = LocalSpeaker(LocalEngine(policy), policy.renderer, Sampling(max_tokens=LONGEST_TURN))
    at = [await of_horizon(config.jobs(h), speaker, config.problems, config.samples, config.seed, 2 + h) for h in HORIZONS]
    jobs = config.jobs(config.history + 1)
    agent = ToolAgent(speaker, jobs.world, Limits(2))
    histories = await after_histories(agent, jobs, jobs.problems("test"), (config.history,), config.samples, seed=config.seed)
    return reliability("ledger", at), histories


def told(name: str, result: Reliability, histories: Sequence[AtLength]) -> list[str]:
    """One model in words."""
    (at,) = histories
    long, short = result.longest, next(each for each in result.at if each.horizon == LEARNED[-1])
    success = ", ".join(f"{each.evaluation['accuracy'].value:.2f}" for each in result.at)
    steps = [t for t in (1, 2, 4, 8, 16) if t <= len(long.survival)]
    survival = ", ".join(f"{long.survival[t - 1].value:.2f} ({short.step.value**t:.2f})" for t in steps)
    ended = ", ".join(f"{kind} {m.value:.2f}" for kind, m in long.failures.items() if m.value > 0)
    return [
        f"{name}: success at {', '.join(map(str, HORIZONS))} steps {success} (n {long.step.n} jobs each), at {short.horizon}"
        f" {spoken(short.evaluation['accuracy'], 2)}; a right step in jobs of {short.horizon} {spoken(short.step)}, of {long.horizon} {spoken(long.step)}",
        f"{name}, jobs of {long.horizon}: right up to step {', '.join(map(str, steps))} (and p^t, by p in jobs of {short.horizon}): {survival};"
        f" errors as steps double {long.slope.value:+.2f} [{long.slope.low:+.2f} {long.slope.high:+.2f}] log-odds; they ended as {ended}",
        f"{name}, the next step after {at.length}: all right {spoken(at.healed, 2)}, half of them wrong {spoken(at.injected, 2)}; length's effect"
        f" {spoken(at.drift, 2)}, errors' effect {spoken(at.conditioning, 2)}: {cause(histories)}",
    ]


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config, description=__doc__)))


if __name__ == "__main__":
    main()
