"""Does SFT teach a format, and leave knowledge as it was?

Conversations in which sums are answered inside <answer> tags, and nothing else, are learned from. Then the model is asked
new sums, and common facts that no conversation was about. Compliance is the share of replies that are one pair of tags
and nothing else, judged by a regular expression; knowledge is the accuracy on `facts` (an answer counts wherever it
stands) and the log-likelihood of a novella. LIMA's claim (2305.11206), that alignment teaches a format and the knowledge is there
already, at the scale of one format and 135M weights.

What would make this dishonest: judging compliance by an instruction that stands in the prompt (none does); measuring
knowledge only on the format's own task; an accuracy on facts that rises because short answers are easier to get right (it counts
an answer anywhere, so that short replies can only lose).

    python -m experiments.sft_format

Measured (2026-11-24, 2 min on 2 cores, seed 0):
- compliance on sums: 0.000 [0.000 0.059] (n 64) before, 0.988 [0.966 0.996] (n 64) after; change 0.988 [0.925 0.996]
  (n 64)
- compliance on facts: 0.000 [0.000 0.059] (n 64) before, 0.809 [0.750 0.856] (n 64) after; change 0.809 [0.726 0.856]
  (n 64)
- accuracy on facts: 0.344 [0.273 0.422] (n 64) before, 0.172 [0.112 0.255] (n 64) after; change -0.172 [-0.266
  -0.068] (n 64)
- log-likelihood of the novella, nats per token: change 0.0021 [-0.0007 0.0049] (n 23)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common import record, spoken, write_jsonl
from posttrain.agents.loop import ModelAgent
from posttrain.algorithms import sft
from posttrain.engine.local import LocalEngine
from posttrain.evals import heldout
from posttrain.evals.measure import judge
from posttrain.policy.hf import load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.rewards.format import matches
from posttrain.seeds import fold
from posttrain.statistics import paired_difference, paired_rate_difference, rate_over_problems
from posttrain.tasks import load
from posttrain.types import Rollout, Sampling, Task

TAGGED = r"<answer>[^<>]*</answer>"


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/sft_format")
    steps: int = 30
    conversations: int = 480
    problems: int = 64
    samples: int = 4
    max_tokens: int = 32
    seed: int = 0
    optim: AdamWConfig = field(default_factory=lambda: AdamWConfig(learning_rate=2e-5, warmup_steps=5))


async def run(config: Config) -> None:
    """Train, measure before and after, record."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    sums, facts = load(f"arithmetic:n_train={config.conversations}"), load("facts")
    rows = [
        {"messages": [{"role": "user", "content": p.messages[-1].content}, {"role": "assistant", "content": f"<answer>{sums.solution(p)}</answer>"}]}
        for p in sums.problems("train")
    ]
    write_jsonl(config.out / "conversations.jsonl", rows)
    await sft.train(sft.Config(
        model=config.model, data=str(config.out / "conversations.jsonl"), out=config.out / "sft", steps=config.steps, seed=config.seed, optim=config.optim,
    ))  # fmt: skip
    before, after = [await measured(name, sums, facts, config) for name in (config.model, str(config.out / "sft"))]
    found = {name: {"before": rate_over_problems(before[name]), "after": rate_over_problems(after[name]),
                    "change": paired_rate_difference(before[name], after[name])} for name in before if name != "novella"}  # fmt: skip
    found["novella"] = {"change": paired_difference(before["novella"], after["novella"], "nats")}
    lines = [f"{name}: {spoken(f['before'])} before, {spoken(f['after'])} after; change {spoken(f['change'])}" for name, f in found.items() if name != "novella"]
    lines.append(f"log-likelihood of the novella, nats per token: change {spoken(found['novella']['change'], 4)}")
    record(__file__, config.out, config, found, lines, started)


async def measured(model: str, sums: Task, facts: Task, config: Config) -> dict[str, list[float]]:
    """Per problem: compliance on both tasks and accuracy on facts; per document of the novella: log-likelihood per token."""
    policy = load_policy(model)
    agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(1.0, config.max_tokens))
    tagged = matches(TAGGED)
    found: dict[str, list[float]] = {}
    for name, task in (("sums", sums), ("facts", facts)):
        problems = list(task.problems("test"))[: config.problems]
        groups = await asyncio.gather(*(agent.attempt(p, config.samples, fold(config.seed, "measure")) for p in problems))
        found[f"compliance on {name}"] = [await _mean(tagged, group) for group in groups]
        if name == "facts":
            found["accuracy on facts"] = [await _accuracy(task, group) for group in groups]
    texts = heldout.documents(policy.renderer.encode)
    likelihood = heldout.log_likelihood(texts, policy.renderer.encode, policy)
    return found | {"novella": [a / b for a, b in zip(likelihood.logprobs, likelihood.n_tokens, strict=True)]}


async def _mean(reward, group: list[Rollout]) -> float:
    scores = await asyncio.gather(*(reward(rollout) for rollout in group))
    return sum(s.value for s in scores) / len(scores)


async def _accuracy(task: Task, group: list[Rollout]) -> float:
    scores = await asyncio.gather(*(judge(task, rollout) for rollout in group))
    return sum(s.value for s in scores) / len(scores)


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
