"""Can a long system prompt be distilled into the weights: the behaviour kept, the tokens saved?

The teacher is the model itself behind a system message that asks for brevity and shows it in six examples; the student sees the bare
request (behind the short system message that SmolLM2's chat template writes by itself), samples its own answers, and learns the
teacher's distribution on them (reverse KL over the whole vocabulary; 2112.00861, 2209.15189).
Measured on requests held out, all with the same seeds: words per answer of the bare model, of the model with the message and
of the student without it; how much of the message's effect the student keeps; what that costs elsewhere (a novella's
log-likelihood); and how many prompt tokens each request saves.

What would make this dishonest: measuring on the training requests; a behaviour that the message does not bring about in the
first place (its effect is the first figure); calling "kept" what is merely "shorter" without the teacher beside it; a share of the
effect without its interval, which is wide where the effect is small (answers are cut at 48 tokens, which hides some of it). One seed, one
message: the intervals are over requests, of this one training, and say neither how another one would end nor how other messages would fare.

    python -m experiments.context_distillation

Measured (2026-11-25, 6 min on 2 cores, seed 0): most of the behaviour is kept without the prompt, and 141 tokens of every request are
saved; no tax is seen on a novella.

- words per answer: 36.9 [36.1 37.8] (n 25) bare, 27.4 [24.7 30.1] (n 25) with the message, 29.6 [26.9 32.2] (n 25)
  the student without it
- change by the message -9.5 [-12.0 -7.1] (n 25), by distillation -7.4 [-10.0 -4.7] (n 25); share of the effect kept
  0.77 [0.60 0.95] (n 25)
- prompt tokens saved per request: 141 [141 141] (n 25)
- log-likelihood of the novella, nats per token: change 0.0023 [-0.0004 0.0050] (n 23)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.common import record, spoken, write_prompts
from posttrain.agents.loop import ModelAgent
from posttrain.algorithms import distill
from posttrain.engine.local import LocalEngine
from posttrain.evals import heldout
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.seeds import fold
from posttrain.statistics import mean_over_problems, paired_difference
from posttrain.training.scored import Prompts
from posttrain.types import Measurement, Message, Problem, Sampling

SYSTEM = """\
You are the clerk of a telegraph office, where every word costs money. You answer every request with one short sentence of at most eight \
words, and nothing else: no greeting, no list, no explanation, no second sentence.

Request: Tell me about a tiger. Answer: A large striped cat of Asia.
Request: Describe a candle. Answer: Wax with a wick, burned for light.
Request: What is special about Iceland? Answer: It has volcanoes, glaciers and hot springs.
Request: Write something about gold. Answer: A soft yellow metal that never rusts.
Request: Describe an onion. Answer: A round vegetable that makes you cry.
Request: Tell me about Brazil. Answer: The largest country of South America."""
"""None of these is among the requests."""


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/context_distillation")
    steps: int = 20
    problems_per_step: int = 16
    group_size: int = 2
    max_tokens: int = 48
    problems: int = 25
    samples: int = 8
    seed: int = 0
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-5, warmup_steps=3))


async def run(config: Config) -> None:
    """Distil, measure three models on held-out requests, record."""
    started = time.perf_counter()
    path = write_prompts(config.out / "prompts.jsonl")
    await distill.train(distill.Config(
        model=config.model, task=str(path), teacher_system=SYSTEM, out=config.out / "student", steps=config.steps, seed=config.seed, optim=config.optim,
        problems_per_step=config.problems_per_step, group_size=config.group_size, max_tokens=config.max_tokens,
    ))  # fmt: skip
    problems = list(Prompts(str(path)).problems("test"))[: config.problems]
    told = [Problem(p.id, (Message("system", SYSTEM), *p.messages), "") for p in problems]
    student = str(config.out / "student")
    bare, taught = [await words(m, problems, config) for m in (config.model, student)]
    teacher = await words(config.model, told, config)
    renderer = load_policy(config.model).renderer
    saved = mean_over_problems([len(renderer.prompt(a.messages)) - len(renderer.prompt(b.messages)) for a, b in zip(told, problems, strict=True)], "tokens")
    effect, kept = paired_difference(bare, teacher, "words"), paired_difference(bare, taught, "words")
    share = _share(np.array(bare), np.array(teacher), np.array(taught), config.seed)
    novella = paired_difference(*[likelihood(m) for m in (config.model, student)], "nats")
    found = {"bare": mean_over_problems(bare), "with the message": mean_over_problems(teacher), "student": mean_over_problems(taught),
             "effect": effect, "kept": kept, "share_kept": share, "saved": saved, "novella": novella}  # fmt: skip
    record(__file__, config.out, config, found, [
        f"words per answer: {spoken(found['bare'], 1)} bare, {spoken(found['with the message'], 1)} with the message, {spoken(found['student'], 1)} the student without it",
        f"change by the message {spoken(effect, 1)}, by distillation {spoken(kept, 1)}; share of the effect kept {spoken(share, 2)}",
        f"prompt tokens saved per request: {spoken(saved, 0)}",
        f"log-likelihood of the novella, nats per token: change {spoken(novella, 4)}",
    ], started)  # fmt: skip


async def words(model: str, problems: list[Problem], config: Config) -> list[float]:
    """Mean words per answer of each problem; an answer that ran out of tokens counts as long as it got."""
    policy = load_policy(model)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(1.0, config.max_tokens))
    groups = await asyncio.gather(*(agent.attempt(p, config.samples, fold(config.seed, "measure")) for p in problems))
    return [float(np.mean([len(r.text.split()) for r in group])) for group in groups]


def likelihood(model: str) -> list[float]:
    policy = load_policy(model)
    found = heldout.log_likelihood(heldout.documents(policy.renderer.encode), policy.renderer.encode, policy)
    return [a / b for a, b in zip(found.logprobs, found.n_tokens, strict=True)]


def _share(bare: np.ndarray, teacher: np.ndarray, taught: np.ndarray, seed: int) -> Measurement:
    """(bare − student) / (bare − teacher) of the means, with a bootstrap interval over problems."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(bare), size=(4000, len(bare)))
    ratio = lambda i: (bare[i] - taught[i]).mean(-1) / (bare[i] - teacher[i]).mean(-1)  # noqa: E731
    draws = ratio(picks)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Measurement(float(ratio(np.arange(len(bare)))), float(draws.std()), float(low), float(high), len(bare), 0, "fraction")


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
