"""A reward model learned from preferences, optimised by PPO, by DPO and by RAFT: what does each pay for its reward?

Requests for a few words about something; the gold reward is how near an answer comes to 12 words, which anyone can
check, and which nobody tells the learners: pairs of the model's own samples are labelled by it, a reward model learns
from them, and PPO, online DPO and RAFT optimise that model with the same number of answers, judged alike; DPO learns from the pairs
themselves and samples nothing. Reported: proxy and gold reward against KL on requests held out, and on the way; the yardstick
best-of-n of the start; and the tax: log-likelihood of a novella, accuracy on facts, calibration on capitals, each as its change since the
start (2210.10760; 2305.18290, figure 2; 2203.02155).

What would make this dishonest: comparing methods at one point each as if it were a frontier (the points along the runs are reported
too; it is one setting of each, with equal learning rates and no tuning, and one seed); a gold reward that the reward model was
trained on without noise and then called human preference; a proxy reported without the gold; no change seen, called no tax (the
intervals say how large a tax was missed).

    python -m experiments.rlhf_frontier

Measured (2026-11-25, 23 min with one thread of a machine that did other work too, seed 0): with the same pairs DPO goes furthest, to
nearly the gold reward of the best of 8 samples of the start, and pays the largest KL for it; PPO gets half the gain at a third of that KL;
RAFT hardly leaves the start. Gold and proxy rise together: no over-optimisation at this budget. No tax is seen on a novella; that DPO
forgets facts is suggested (.229 to .104), not shown.

- reward model: right on .769 [.468 .927] of 13 held-out pairs; ECE .153, by chance .116
- start: gold .087 [.057 .117], proxy .33 [-.27 .92], KL 0 nats, 32 tokens (n 24); facts .229 [.121 .391]; ECE on capitals .147, by
  chance .073
- ppo: gold .201 [.145 .257], proxy 1.85 [1.31 2.40], KL 1.38 [1.04 1.72] nats, 31 tokens (n 24); novella .0011 [-.0009 .0030] nats
  per token; facts .292 [.176 .443]; ECE on capitals .188, by chance .077
- dpo: gold .327 [.259 .395], proxy 3.21 [2.66 3.76], KL 4.24 [3.73 4.75] nats, 31 tokens (n 24); novella .0008 [-.0011 .0027] nats
  per token; facts .104 [.044 .225]; ECE on capitals .184, by chance .078
- raft: gold .122 [.086 .158], proxy .34 [-.26 .94], KL .18 [.08 .29] nats, 32 tokens (n 24); novella .0005 [-.0012 .0021] nats per
  token; facts .375 [.248 .522]; ECE on capitals .146, by chance .076
- best of 8 of the start: gold .330 [.179 .480], proxy 4.22 [3.71 4.74], KL at most 1.20 nats
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
from posttrain.evals.pages import spoken


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/rlhf_frontier")
    target_words: int = 12
    made_pairs: int = 128
    reward_steps: int = 20
    dpo_steps: int = 12
    rl_steps: int = 8
    answers_per_step: int = 32
    group_size: int = 4
    max_tokens: int = 32
    problems: int = 64
    samples: int = 8
    learning_rate: float = 2e-5
    seed: int = 0


async def run(config: Config) -> None:
    """The pipeline, then its figures in words."""
    started = time.perf_counter()
    task = write_prompts(config.out / "prompts.jsonl")
    await rlhf.main(rlhf.Args(
        model=config.model, task=str(task), gold=f"length:{config.target_words}", out=config.out, made_pairs=config.made_pairs,
        reward_steps=config.reward_steps, dpo_steps=config.dpo_steps, rl_steps=config.rl_steps, answers_per_step=config.answers_per_step,
        group_size=config.group_size, max_tokens=config.max_tokens, problems=config.problems, samples=config.samples,
        learning_rate=config.learning_rate, seed=config.seed, methods=("ppo", "online_dpo", "raft", "dpo"),
    ))  # fmt: skip
    found: dict[str, Any] = json.loads((config.out / "rlhf.json").read_text())
    rm = found["reward_model"]
    lines = [
        f"reward model: right on {rm['heldout/accuracy']:.3f} [{rm['heldout/accuracy_low']:.3f} {rm['heldout/accuracy_high']:.3f}] of {rm['heldout/n']}"
        f" held-out pairs; ECE {rm['heldout/ece']:.3f}, by chance {rm['heldout/ece_by_chance']:.3f}"
    ]
    for p in found["points"]:
        lost = f", change {spoken(p['untouched_change'])}; novella {spoken(p['heldout_change'], 4)} nats per token" if p["heldout_change"] else ""
        lines.append(
            f"{p['name']}: gold {spoken(p['gold'])}, proxy {spoken(p['proxy'], 2)}, KL {spoken(p['kl_nats'], 2)} nats, {p['length_tokens']['value']:.0f} tokens"
            f" (n {p['proxy']['n']}); facts {spoken(p['untouched'])}{lost} (n {p['untouched']['n']}); ECE on capitals {p['choices']['ece']:.3f}, by chance below"
            f" {p['choices']['ece_by_chance_high']:.3f} (n {p['choices']['n']})"
        )
    for name, path in found["paths"].items():
        on_the_way = [path[len(path) * i // 3 - 1] for i in (1, 2, 3)]
        lines.append(f"{name} along its run: " + "; ".join(
            f"step {w['step']} KL {spoken(w['kl_nats'], 2)}, gold {spoken(w['gold'])}, proxy {spoken(w['reward'], 2)} (n {w['reward']['n']})" for w in on_the_way
        ))  # fmt: skip
    best = found["best_of_n"][-1]
    lines.append(f"best of {best['n']} of the start: gold {spoken(best['gold'])}, proxy {spoken(best['proxy'], 2)}, KL at most {best['kl_bound_nats']:.2f} nats")
    record(__file__, config.out, config, found, lines, started)


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
