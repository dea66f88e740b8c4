"""A reward model learned from preferences, optimised by PPO, by DPO and by RAFT: what does each pay for its reward?

Requests for a few words about something; the gold reward is how near an answer comes to 12 words, which anyone can
check, and which nobody tells the learners: 256 pairs of the model's own samples are labelled by it, a reward model learns
from them, and PPO and RAFT optimise that model with the same number of answers; DPO learns from the same pairs and samples
nothing. Reported: proxy and gold reward against KL on requests held out, the yardstick best-of-n of the start, and the tax:
log-likelihood of a novella, accuracy on facts, calibration on capitals (2210.10760; 2305.18290, figure 2; 2203.02155).

What would make this dishonest: comparing methods at one point each as if it were a frontier (it is one setting of each,
with equal learning rates and no tuning, stated as such); a gold reward that the reward model was trained on without noise
and then called human preference; a proxy reported without the gold.

    python -m experiments.rlhf_frontier

Measured (not yet).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common import record, write_prompts
from posttrain.commands import rlhf
from posttrain.evals.frontier_page import spoken


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/rlhf_frontier")
    target_words: int = 12
    made_pairs: int = 200
    reward_steps: int = 30
    dpo_steps: int = 24
    rl_steps: int = 12
    answers_per_step: int = 32
    group_size: int = 4
    max_tokens: int = 32
    problems: int = 24
    samples: int = 8
    learning_rate: float = 1e-5
    seed: int = 0


async def run(config: Config) -> None:
    """The pipeline, then its figures in words."""
    started = time.perf_counter()
    task = write_prompts(config.out / "prompts.jsonl")
    await rlhf.main(rlhf.Args(
        model=config.model, task=str(task), gold=f"length:{config.target_words}", out=config.out, made_pairs=config.made_pairs,
        reward_steps=config.reward_steps, dpo_steps=config.dpo_steps, rl_steps=config.rl_steps, answers_per_step=config.answers_per_step,
        group_size=config.group_size, max_tokens=config.max_tokens, problems=config.problems, samples=config.samples,
        learning_rate=config.learning_rate, seed=config.seed,
    ))  # fmt: skip
    found: dict[str, Any] = json.loads((config.out / "rlhf.json").read_text())
    rm = found["reward_model"]
    lines = [
        f"reward model: right on {rm['heldout/accuracy']:.3f} [{rm['heldout/accuracy_low']:.3f} {rm['heldout/accuracy_high']:.3f}] of {rm['heldout/n']}"
        f" held-out pairs; ECE {rm['heldout/ece']:.3f}, by chance {rm['heldout/ece_by_chance']:.3f}"
    ]
    for p in found["points"]:
        lost = f"; novella {spoken(p['heldout_change'], 4)} nats per token" if p["heldout_change"] else ""
        lines.append(
            f"{p['name']}: gold {spoken(p['gold'])}, proxy {spoken(p['proxy'], 2)}, KL {spoken(p['kl_nats'], 2)} nats, {p['length_tokens']['value']:.0f} tokens"
            f" (n {p['proxy']['n']}){lost}; facts {spoken(p['untouched'])}; ECE on capitals {p['choices']['ece']:.3f}, by chance {p['choices']['ece_by_chance']:.3f}"
        )
    best = found["best_of_n"][-1]
    lines.append(f"best of {best['n']} of the start: gold {spoken(best['gold'])}, proxy {spoken(best['proxy'], 2)}, KL at most {best['kl_bound_nats']:.2f} nats")
    record(__file__, config.out, config, found, lines, started)


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
