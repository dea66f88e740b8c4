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

Measured (2026-11-25, seed 0; 19 min in three sittings with one thread of a machine that did other work, of which its fastest steps make 12):
at equal answers and one reward model PPO goes furthest, to what the best of 8 samples of the start would get and to as far as DPO goes, which samples
nothing; online DPO gets half of that gain at a quarter of PPO's KL, and RAFT hardly leaves the start. Gold and proxy rise together: no over-optimisation
at this budget. The tax is paid by those that went far: DPO names .20 fewer of the facts and PPO .13, and PPO's letters on capitals seem less calibrated;
online DPO and RAFT show none, where .14 and .10 would have been missed. No method costs the novella anything that 12 documents show.

- reward model: right on 0.889 [0.505 0.984] of 9 held-out pairs; ECE 0.175, by chance 0.163
- start: gold 0.082 [0.056 0.108], proxy 0.17 [-0.35 0.70], KL 0.00 [0.00 0.00] nats, 32 tokens (n 28); facts 0.271 [0.191 0.368] (n
  48); ECE on capitals 0.147, by chance below 0.121 (n 128)
- ppo: gold 0.298 [0.249 0.347], proxy 3.10 [2.62 3.58], KL 3.20 [2.88 3.52] nats, 29 tokens (n 28); facts 0.146 [0.084 0.242], change
  -0.125 [-0.232 -0.010] (n 48); novella -0.0005 [-0.0035 0.0024] nats per token (n 12); ECE on capitals 0.220, by chance below 0.121
  (n 128)
- online_dpo: gold 0.195 [0.153 0.238], proxy 1.64 [1.04 2.24], KL 0.87 [0.68 1.07] nats, 32 tokens (n 28); facts 0.219 [0.147 0.313],
  change -0.052 [-0.143 0.040] (n 48); novella 0.0006 [-0.0015 0.0028] nats per token (n 12); ECE on capitals 0.147, by chance below
  0.119 (n 128)
- raft: gold 0.105 [0.074 0.136], proxy 0.79 [0.19 1.38], KL 0.27 [0.18 0.35] nats, 32 tokens (n 28); facts 0.260 [0.190 0.346], change
  -0.010 [-0.095 0.070] (n 48); novella 0.0004 [-0.0022 0.0031] nats per token (n 12); ECE on capitals 0.135, by chance below 0.118 (n
  128)
- dpo: gold 0.314 [0.248 0.380], proxy 3.28 [2.75 3.82], KL 3.60 [3.09 4.12] nats, 31 tokens (n 28); facts 0.073 [0.036 0.143], change
  -0.198 [-0.298 -0.098] (n 48); novella 0.0005 [-0.0021 0.0031] nats per token (n 12); ECE on capitals 0.179, by chance below 0.125 (n
  128)
- ppo along its run: step 2 KL 0.08 [-0.02 0.19], gold 0.044 [-0.009 0.097], proxy -0.37 [-1.70 0.97] (n 16); step 5 KL 0.16 [-0.09
  0.42], gold 0.154 [0.033 0.275], proxy 0.94 [-0.07 1.95] (n 16); step 8 KL 2.14 [1.02 3.26], gold 0.120 [0.041 0.198], proxy 1.46
  [0.49 2.43] (n 16)
- online_dpo along its run: step 2 KL 0.02 [-0.14 0.17], gold 0.104 [0.007 0.201], proxy -0.39 [-1.79 1.01] (n 8); step 5 KL 0.15
  [-0.08 0.38], gold 0.109 [0.006 0.213], proxy 0.22 [-0.89 1.33] (n 8); step 8 KL 0.64 [0.21 1.07], gold 0.151 [0.037 0.265], proxy
  1.70 [0.81 2.59] (n 8)
- raft along its run: step 2 KL 0.06 [-0.13 0.26], gold 0.068 [-0.013 0.148], proxy -1.21 [-2.81 0.39] (n 8); step 5 KL 0.10 [-0.11
  0.31], gold 0.109 [0.027 0.192], proxy 0.18 [-1.14 1.49] (n 8); step 8 KL 0.10 [-0.19 0.39], gold 0.135 [0.039 0.232], proxy 0.91
  [-0.82 2.64] (n 8)
- best of 8 of the start: gold 0.271 [0.150 0.391], proxy 4.41 [3.81 5.02], KL at most 1.20 nats
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


ASKED = " Answer in one short sentence."
"""Behind each request: so asked the model mostly comes to an end, and does so at lengths that differ."""


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    model: str = "smollm2"
    out: Path = Path("runs/experiments/rlhf_frontier")
    target_words: int = 10
    made_pairs: int = 208
    heldout_frac: float = 0.25
    reward_steps: int = 16
    dpo_steps: int = 9
    rl_steps: int = 6
    answers_per_step: int = 24
    group_size: int = 4
    max_tokens: int = 28
    problems: int = 48
    samples: int = 4
    documents: int = 12
    learning_rate: float = 3e-5
    seed: int = 0


async def run(config: Config) -> None:
    """The pipeline, then its figures in words."""
    started = time.perf_counter()
    task = write_prompts(config.out / "prompts.jsonl", ASKED)
    await rlhf.main(rlhf.Args(
        model=config.model, task=str(task), gold=f"length:{config.target_words}", out=config.out, made_pairs=config.made_pairs, heldout_frac=config.heldout_frac,
        reward_steps=config.reward_steps, dpo_steps=config.dpo_steps, rl_steps=config.rl_steps, answers_per_step=config.answers_per_step,
        group_size=config.group_size, max_tokens=config.max_tokens, problems=config.problems, samples=config.samples,
        learning_rate=config.learning_rate, seed=config.seed, documents=config.documents, methods=("ppo", "online_dpo", "raft", "dpo"),
    ))  # fmt: skip
    found: dict[str, Any] = json.loads((config.out / "rlhf.json").read_text())
    rm = found["reward_model"]
    lines = [
        f"reward model: right on {rm['heldout/accuracy']:.3f} [{rm['heldout/accuracy_low']:.3f} {rm['heldout/accuracy_high']:.3f}] of {rm['heldout/n']}"
        f" held-out pairs; ECE {rm['heldout/ece']:.3f} [{rm['heldout/ece_low']:.3f} {rm['heldout/ece_high']:.3f}], by chance {rm['heldout/ece_by_chance']:.3f},"
        f" below {rm['heldout/ece_by_chance_high']:.3f}"
    ]
    for p in found["points"]:
        change, novella, ece = p["untouched_change"], p["heldout_change"], p["choices"]["ece"]
        moved = f", change {spoken(p['choices_change']['ece'])}" if p["choices_change"] else ""
        lost = f"; novella {spoken(novella, 4)} nats per token (n {novella['n']})" if novella else ""
        lines.append(
            f"{p['name']}: gold {spoken(p['gold'])}, proxy {spoken(p['proxy'], 2)}, KL {spoken(p['kl_nats'], 2)} nats, {p['length_tokens']['value']:.0f} tokens"
            f" (n {p['proxy']['n']}); facts {spoken(p['untouched'])}{f', change {spoken(change)}' if change else ''} (n {p['untouched']['n']}){lost}; ECE on capitals"
            f" {spoken(ece['error'])}, by chance below {ece['by_chance_high']:.3f}{moved} (n {ece['error']['n']} countries)"
        )
    for name, path in found["paths"].items():
        on_the_way = [path[round((len(path) - 1) * i / 3)] for i in (0, 1, 2, 3)]
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
