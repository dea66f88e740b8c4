"""A reward model learned from preferences, optimised by PPO, by DPO and by RAFT: what does each pay for its reward?

Requests for one short sentence about something; the gold reward is how near an answer comes to 10 words, which anyone can
check, and which nobody tells the learners: pairs of the model's own samples are labelled by it, a reward model learns
from them, and PPO, online DPO and RAFT optimise that model with the same number of answers, judged alike; DPO learns from the pairs
themselves, and samples only to be looked at on its way. Reported: proxy and gold reward against KL on requests held out, and on the way; the yardstick
best-of-n of the start; and the tax: log-likelihood of a novella, accuracy on facts, calibration on capitals, each as its change since the
start (2210.10760; 2305.18290, figure 2; 2203.02155).

What would make this dishonest: comparing methods at one point each as if it were a frontier (the points along the runs are reported
too; it is one setting of each, with equal learning rates and no tuning, and one seed); a gold reward that the reward model was
trained on without noise and then called human preference; a proxy reported without the gold; no change seen, called no tax (the
intervals say how large a tax was missed); a reward model judged on too few pairs to tell whether it is any good (48 are held out).

    python -m experiments.rlhf_frontier

Measured (2026-11-25, 7.5 min on 2 cores, seed 0): here a learned reward is over-optimised, and by PPO alone. The reward model ranks 94% of the held-out
pairs right, but nearly all answers of the start are too long, and what it has learned is that shorter is better. PPO, which goes furthest from
the start (KL 7.6 nats), takes the proxy from 4.9 to 12.2 and the answers to half of the words asked for: its gold reward peaked on the way (.49 at
5 nats) and ends at .39. DPO on the pairs themselves ends higher at a third of that KL, online DPO gets two thirds of DPO's gain within .7 nats, RAFT
a quarter. Nothing beats the best of 4 samples of the start (.58 at no more than .64 nats). The tax is PPO's: .14 fewer of the facts and .009 nats a token
of the novella; the others show none, where .03 to .07 of the facts would have been missed. No change of calibration is told from chance (n 32). One seed:
the intervals are over prompts, of one training each; that PPO overshoots is beyond them, the order of DPO and online DPO may be this run's luck.
(DPO was looked at on the first six requests, which are about two countries; a run now takes six from all over the list.)

- reward model: right on 0.938 [0.828 0.979] of 48 held-out pairs; ECE 0.056 [0.000 0.103], by chance 0.040, below
  0.056
- start: gold 0.329 [0.263 0.396], proxy 4.90 [3.44 6.36], KL 0.00 [0.00 0.00] nats, 23 tokens (n 34); facts 0.271
  [0.191 0.368] (n 48); ECE on capitals 0.135 [0.000 0.184], by chance below 0.123 (n 32 countries)
- ppo: gold 0.388 [0.338 0.437], proxy 12.22 [11.92 12.52], KL 7.60 [6.50 8.70] nats, 8 tokens (n 34); facts 0.135
  [0.079 0.223], change -0.135 [-0.225 -0.045] (n 48); novella -0.0094 [-0.0156 -0.0032] nats per token (n 12); ECE on
  capitals 0.184 [0.097 0.234], by chance below 0.125, change 0.049 [-0.003 0.146] (n 32 countries)
- online_dpo: gold 0.477 [0.423 0.531], proxy 8.63 [7.62 9.65], KL 0.65 [0.42 0.89] nats, 19 tokens (n 34); facts
  0.323 [0.239 0.420], change 0.052 [-0.034 0.137] (n 48); novella -0.0015 [-0.0041 0.0011] nats per token (n 12); ECE
  on capitals 0.167 [0.070 0.218], by chance below 0.122, change 0.032 [-0.028 0.126] (n 32 countries)
- raft: gold 0.382 [0.315 0.450], proxy 6.62 [5.44 7.79], KL 0.49 [0.35 0.64] nats, 21 tokens (n 34); facts 0.333
  [0.242 0.440], change 0.062 [-0.038 0.164] (n 48); novella -0.0023 [-0.0051 0.0006] nats per token (n 12); ECE on
  capitals 0.155 [0.055 0.202], by chance below 0.123, change 0.019 [-0.045 0.118] (n 32 countries)
- dpo: gold 0.547 [0.498 0.596], proxy 11.02 [10.29 11.74], KL 2.41 [2.09 2.72] nats, 15 tokens (n 34); facts 0.302
  [0.214 0.407], change 0.031 [-0.068 0.133] (n 48); novella -0.0002 [-0.0029 0.0025] nats per token (n 12); ECE on
  capitals 0.116 [0.000 0.170], by chance below 0.121, change -0.019 [-0.105 0.082] (n 32 countries)
- ppo along its run: step 1 KL 0.00 [0.00 0.00], gold 0.229 [0.090 0.368], proxy 1.70 [-1.61 5.01] (n 12); step 3 KL
  0.47 [0.08 0.86], gold 0.388 [0.224 0.551], proxy 5.18 [1.56 8.81] (n 12); step 4 KL 5.22 [3.52 6.92], gold 0.487
  [0.357 0.618], proxy 10.79 [9.05 12.53] (n 12); step 6 KL 7.84 [5.84 9.84], gold 0.350 [0.246 0.454], proxy 11.51
  [9.99 13.04] (n 12)
- online_dpo along its run: step 1 KL -0.00 [-0.00 0.00], gold 0.246 [0.028 0.464], proxy 2.93 [-2.64 8.51] (n 6);
  step 3 KL -0.03 [-0.20 0.14], gold 0.254 [0.146 0.362], proxy 3.73 [2.78 4.69] (n 6); step 4 KL 0.02 [-0.14 0.17],
  gold 0.250 [0.127 0.373], proxy 2.81 [0.53 5.10] (n 6); step 6 KL 0.28 [-0.03 0.60], gold 0.246 [0.140 0.351], proxy
  3.63 [1.35 5.91] (n 6)
- raft along its run: step 1 KL -0.00 [-0.00 0.00], gold 0.246 [0.028 0.464], proxy 2.93 [-2.64 8.51] (n 6); step 3 KL
  -0.09 [-0.26 0.08], gold 0.196 [-0.026 0.417], proxy 3.26 [0.36 6.16] (n 6); step 4 KL 0.03 [-0.14 0.19], gold 0.258
  [0.010 0.507], proxy 3.91 [0.99 6.83] (n 6); step 6 KL 0.11 [-0.10 0.32], gold 0.129 [0.030 0.228], proxy 2.48 [0.30
  4.67] (n 6)
- dpo along its run: step 1 KL 0.00 [0.00 0.00], gold 0.354 [0.204 0.505], proxy 4.69 [2.72 6.67] (n 6); step 4 KL
  0.10 [-0.08 0.27], gold 0.258 [0.121 0.396], proxy 5.91 [2.48 9.34] (n 6); step 7 KL 1.27 [0.30 2.24], gold 0.579
  [0.461 0.697], proxy 8.75 [6.44 11.06] (n 6); step 10 KL 3.46 [2.09 4.82], gold 0.529 [0.365 0.693], proxy 11.22
  [9.13 13.32] (n 6)
- best of 4 of the start: gold 0.576 [0.481 0.672], proxy 11.58 [10.94 12.23], KL at most 0.64 nats
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
    record(__file__, config.out, config, found, lines_of(found), started)


def lines_of(found: dict[str, Any]) -> list[str]:
    """The reward model, every model, every run on its way, and the yardstick."""
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
    return lines


def main() -> None:
    import tyro

    asyncio.run(run(tyro.cli(Config)))


if __name__ == "__main__":
    main()
