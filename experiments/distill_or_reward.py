"""At equal rollouts: does a teacher's distribution teach more than a reward, and than its samples?

The teacher is the model after GRPO on sums. Three students begin where it began and get the same number of their own or the
teacher's answers: on-policy distillation (reverse KL on the student's own samples), GRPO (the same samples, but a reward of
0 or 1), and SFT on the teacher's samples. Accuracy on sums held out, with the same seeds for all, and the tax on a novella
(2306.13649; "On-Policy Distillation", Thinking Machines 2025: a distilled student needed about a tenth of RL's steps).

What would make this dishonest: leaving out that the teacher had to be trained first (its own rollouts are reported beside); a
learning rate tuned for one method (all use the same); calling equal rollouts equal compute (distillation reads every sample
a second time, with the teacher). One seed: the intervals are over sums, of these four trainings; how much another draw of samples would have
moved each arm they do not hold, so that arms nearer to one another than a few hundredths are not told apart by them.

    python -m experiments.distill_or_reward

Measured (2026-11-25, 6 min on 2 cores, seed 0): at equal rollouts the teacher's distribution on the student's own samples teaches most, its
samples less, a reward least, and none of them costs the novella anything that is seen. But GRPO gets further than the distilled student with
three times the rollouts (the teacher is that run), so that a saving of ten times is not seen here, and the teacher's rollouts came first.

- start, 0 rollouts: 0.070 [0.047 0.104] (n 64); change 0.000 [-0.011 0.011] (n 64); novella 0.0000 [0.0000 0.0000] (n
  23) nats per token
- teacher, 1536 rollouts: 0.785 [0.697 0.853] (n 64); change 0.715 [0.622 0.786] (n 64); novella -0.0038 [-0.0065
  -0.0010] (n 23) nats per token
- GRPO, 512 rollouts: 0.309 [0.247 0.377] (n 64); change 0.238 [0.194 0.293] (n 64); novella -0.0007 [-0.0028 0.0015]
  (n 23) nats per token
- on-policy distillation, 512 rollouts: 0.596 [0.513 0.673] (n 64); change 0.525 [0.449 0.597] (n 64); novella -0.0008
  [-0.0028 0.0012] (n 23) nats per token
- SFT on the teacher's samples, 512 rollouts: 0.453 [0.375 0.534] (n 64); change 0.383 [0.307 0.460] (n 64); novella
  0.0006 [-0.0015 0.0028] (n 23) nats per token
- on-policy distillation less GRPO: 0.287 [0.221 0.349] (n 64)
- on-policy distillation less SFT on the teacher's samples: 0.143 [0.072 0.210] (n 64)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common import record, spoken
from experiments.context_distillation import likelihood
from posttrain.agents.loop import ModelAgent
from posttrain.algorithms import distill, grpo
from posttrain.engine.local import LocalEngine
from posttrain.evals.measure import measure
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.statistics import paired_difference, paired_rate_difference, rate_over_problems
from posttrain.tasks import load
from posttrain.types import Sampling


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    task: str = "arithmetic"
    out: Path = Path("runs/experiments/distill_or_reward")
    teacher_steps: int = 24
    steps: int = 8
    problems_per_step: int = 8
    group_size: int = 8
    max_tokens: int = 12
    problems: int = 64
    samples: int = 8
    seed: int = 0
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-5))


async def run(config: Config) -> None:
    """Teacher, three students, one measurement of each."""
    started = time.perf_counter()
    common = dict(model=config.model, task=config.task, seed=config.seed, optim=config.optim, problems_per_step=config.problems_per_step,
                  group_size=config.group_size, max_tokens=config.max_tokens)  # fmt: skip
    teacher = config.out / "teacher"
    await grpo.train(grpo.Config(out=teacher, steps=config.teacher_steps, **common))
    await grpo.train(grpo.Config(out=config.out / "grpo", steps=config.steps, **common))
    await distill.train(distill.Config(out=config.out / "on_policy", teacher=str(teacher), steps=config.steps, **common))
    await distill.train(distill.Config(out=config.out / "on_samples", teacher=str(teacher), on="teacher", steps=config.steps, **common))
    names = {"start": config.model, "teacher": str(teacher), "GRPO": str(config.out / "grpo"),
             "on-policy distillation": str(config.out / "on_policy"), "SFT on the teacher's samples": str(config.out / "on_samples")}  # fmt: skip
    rates = {name: await accuracy(model, config) for name, model in names.items()}
    texts = {name: likelihood(model) for name, model in names.items()}
    each = config.problems_per_step * config.group_size
    lines, found = [], {}
    for name in names:
        rate, change = rate_over_problems(rates[name]), paired_rate_difference(rates["start"], rates[name])
        tax = paired_difference(texts["start"], texts[name], "nats")
        rollouts = {"start": 0, "teacher": config.teacher_steps * each}.get(name, config.steps * each)
        found[name] = {"accuracy": rate, "change": change, "novella": tax, "rollouts": rollouts}
        lines.append(f"{name}, {rollouts} rollouts: {spoken(rate)}; change {spoken(change)}; novella {spoken(tax, 4)} nats per token")
    for name in ("GRPO", "SFT on the teacher's samples"):
        gap = paired_rate_difference(rates[name], rates["on-policy distillation"])
        lines.append(f"on-policy distillation less {name}: {spoken(gap)}")
    record(__file__, config.out, config, found, lines, started)


async def accuracy(model: str, config: Config) -> list[float]:
    """Of each held-out problem, over its samples."""
    policy, task = load_policy(model), load(config.task)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(1.0, config.max_tokens))
    found = await measure(agent, task, list(task.problems("test"))[: config.problems], config.samples, config.seed)
    return [record.rate for record in found.records]


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
