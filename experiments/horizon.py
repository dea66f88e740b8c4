"""Does success fall as p^h with the length of a job, and where it falls faster, is it the length or the errors made on the way?

The chance that a job of h steps succeeds is said to be p^h, p being the chance of a right step (2509.09677 turns that into a horizon,
ln s / ln p). That holds if errors come at a constant rate. Here the measures that are to tell so are first tried on three speakers
whose truth is known, on a keyed ledger: errors at a constant rate, errors that grow with the number of steps whatever has happened,
and errors that grow with the share of earlier errors that stand in the conversation. All three have about the same success at eight
steps; only the measures tell them apart. Then SmolLM2-135M-Instruct keeps the ledger by itself (plain call format, told one operation
at a time), and is asked for the next step after histories in which every earlier step was right, and in which half of them
were wrong.

What would make this dishonest: teacher-forced accuracy of a step reported as the agent's (both are here, by name); p^t drawn as if it
were data; taking the fall of survival with length for self-conditioning without healed histories (unlike jobs alone make it fall
slower, growing errors faster); steps judged by the final state that should be, which would count one error again and again; a model
of 135 million weights taken for what agents are. It fails if the interval of p leaves out the p that jobs were drawn with in more
than 7 of 100 drawn sets, if the constant speaker's p, over all its runs, is not the one it was made with, if growth is not told from
a constant rate in nine runs of ten, or if the cause is named wrongly in more than one run of five, for any of the three. (At first it
asked for nine of ten runs' intervals to hold p, which an interval of 95% misses 9 times in 100.)

    python -m experiments.horizon

Measured (2026-11-25, 4 min on 2 cores, seed 0):
- the interval of p held it in 0.979 [0.968 0.986] (n 1000) of drawn sets (32 jobs of 16 steps, 4 attempts each)
- constant: success at 1, 2, 4, 8, 16 steps 0.91, 0.80, 0.67, 0.46, 0.19 (n 32 jobs each); a right step 0.902 [0.880
  0.920] (n 32), over all runs 0.896 [0.890 0.902] (n 320); errors as steps double +0.12 [-0.08 +0.32] log-odds;
  Weibull shape 1.01 [0.85 1.17] (n 160); after 12 steps: healed 0.96, length's effect 0.09 [0.01 0.16] (n 32),
  errors' effect -0.02 [-0.08 0.05] (n 32); cause named rightly in 10 of 10 runs, rate called growing in 0
- grows with length: success at 1, 2, 4, 8, 16 steps 1.00, 0.99, 0.83, 0.43, 0.00 (n 32 jobs each); a right step 0.873
  [0.860 0.884] (n 32), over all runs 0.877 [0.874 0.880] (n 320); errors as steps double +1.39 [+1.16 +1.63] log-
  odds; Weibull shape 2.75 [2.33 3.28] (n 160); after 12 steps: healed 0.60, length's effect -0.40 [-0.48 -0.27] (n
  32), errors' effect 0.09 [-0.02 0.20] (n 32); cause named rightly in 10 of 10 runs, rate called growing in 10
- grows with errors: success at 1, 2, 4, 8, 16 steps 0.93, 0.83, 0.70, 0.54, 0.24 (n 32 jobs each); a right step 0.917
  [0.896 0.935] (n 32), over all runs 0.918 [0.913 0.923] (n 320); errors as steps double +0.21 [+0.01 +0.40] log-
  odds; Weibull shape 1.01 [0.85 1.18] (n 160); after 12 steps: healed 0.96, length's effect 0.07 [-0.00 0.13] (n 32),
  errors' effect -0.27 [-0.38 -0.17] (n 32); cause named rightly in 10 of 10 runs, rate called growing in 1
- smollm2, alone, one operation: success 0.000 [0.000 0.242] (n 12); it ended as gave up 0.23 [0.11 0.41], ran out
  0.77 [0.59 0.89]; 44 tokens written and 383 read an attempt
- smollm2, the next step after 4 steps: all right before it 0.653 [0.430 0.824] (n 12), half of them wrong 0.632
  [0.397 0.818] (n 12); errors' effect -0.021 [-0.197 0.150] (n 12), effect of a history that shows how calls are
  written 0.573 [0.149 0.808] (n 8)
- the interval of p holds it: yes; p of the constant speaker is the one it was made with: yes; growth with length is
  told from a constant rate: yes; a constant rate is not called growing: yes; the cause is named rightly: yes
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.common import record, spoken
from posttrain import statistics
from posttrain.agents.conversation import Limits, Speaker
from posttrain.agents.faulty import FaultySpeaker
from posttrain.agents.local import LocalSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.engine.local import LocalEngine
from posttrain.evals.histories import AtLength, after_histories, cause
from posttrain.evals.measure import measure
from posttrain.evals.reliability import AtHorizon, Reliability, at_horizon, reliability
from posttrain.evals.reliability_page import page
from posttrain.policy.hf import load_policy
from posttrain.runs.clock import Clock
from posttrain.runs.folder import write_atomically
from posttrain.tasks.jobs import Jobs
from posttrain.tasks.ledger import Ledger
from posttrain.types import Measurement, Sampling

SPEAKERS = {
    "constant": {"error": 0.1}, "grows with length": {"error": 0.0, "drift": 0.03}, "grows with errors": {"error": 0.08, "conditioned": 0.6},
}  # fmt: skip
CAUSE = {"constant": "neither", "grows with length": "because of length alone", "grows with errors": "because of errors in its history"}
HORIZONS = (1, 2, 4, 8, 16)
LONG, TURNS = 12, 3
"""Steps before the one that is asked for, and the turns that a model has for an operation."""


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/horizon")
    runs: int = 10
    """Of each known speaker, with jobs of their own."""
    drawn: int = 1000
    """Sets of attempts that err at a constant rate, drawn without an agent: how often the interval of p holds it."""
    problems: int = 32
    samples: int = 4
    model: str = "smollm2"
    model_problems: int = 12
    model_samples: int = 4
    history: int = 4
    """Steps before the one that the model is asked for."""
    seed: int = 0


def run(config: Config) -> None:
    """Known speakers, then the model; record."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    coverage = covered(config)
    known, lines = asyncio.run(controls(config))
    model, told = asyncio.run(of_model(config))
    size = f"{config.problems} jobs of {HORIZONS[-1]} steps, {config.samples} attempts each"
    drawn = f"the interval of p held it in {spoken(coverage)} of drawn sets ({size})"
    found = {"coverage": coverage, "known": known, "model": model}
    record(__file__, config.out, config, found, [drawn, *lines, *told, failures(coverage, known, config.runs)], started)


# --------------------------------------------------------------------------------------------------------- known speakers


def covered(config: Config) -> Measurement:
    """How often the interval of p holds it, where every attempt errs at the constant speaker's rate."""
    rng, error = np.random.default_rng(config.seed), SPEAKERS["constant"]["error"]
    jobs, held = np.repeat(np.arange(config.problems), config.samples), []
    for _ in range(config.drawn):
        before = rng.geometric(error, jobs.size) - 1
        step = statistics.step_accuracy(np.minimum(before, HORIZONS[-1]).tolist(), (before < HORIZONS[-1]).tolist(), jobs.tolist())
        held.append(float(step.low <= 1 - error <= step.high))
    return statistics.rate_over_problems(held)


async def controls(config: Config) -> tuple[dict, list[str]]:
    """Each speaker measured again and again: what comes back, and how often it is right."""
    found, lines = {}, []
    for name, faults in SPEAKERS.items():
        seen = [await known(config, faults, config.seed + i) for i in range(config.runs)]
        first, _ = seen[0]
        steps, slopes = [r.longest.step for r, _ in seen], [r.longest.slope for r, _ in seen]
        causes = Counter(cause(h) for _, h in seen)
        found[name] = {
            "step": steps, "together": together([r for r, _ in seen]), "slope": slopes, "causes": dict(causes),
            "flat": sum(s.low <= 0 <= s.high for s in slopes), "grows": sum(s.low > 0 for s in slopes),
            "named": sum(n for words, n in causes.items() if words.endswith(CAUSE[name]) or (name == "constant" and "neither" in words)),
            "fit": first.fit, "success": [at.evaluation["accuracy"] for at in first.at], "histories": seen[0][1],
        }  # fmt: skip
        write_atomically(config.out / f"{name.replace(' ', '_')}.html", page(replace(first, histories=tuple(seen[0][1]))))
        lines.append(told(name, first, seen[0][1], found[name], config.runs))
    return found, lines


async def known(config: Config, faults: dict[str, float], seed: int) -> tuple[Reliability, list[AtLength]]:
    """One run of one known speaker."""
    jobs = Ledger(LONG + 1, operations=("add", "transfer"), n_test=config.problems, seed=seed)
    at = [await of_horizon(replace(jobs, horizon=h), FaultySpeaker(jobs, **faults), config.problems, config.samples, seed) for h in HORIZONS]
    agent = ToolAgent(FaultySpeaker(jobs, **faults), jobs.world)
    return reliability("ledger", at), await after_histories(agent, jobs, jobs.problems("test"), (LONG,), config.samples, seed=seed)


def together(seen: Sequence[Reliability]) -> Measurement:
    """The chance of a right step over the longest jobs of all runs."""
    longest = [r.longest for r in seen]
    judged = [(v, r.cluster) for at in longest for r, verdicts in zip(at.evaluation.records, at.verdicts_PS, strict=True) for v in verdicts]
    return statistics.step_accuracy([v.right for v, _ in judged], [v.failed for v, _ in judged], [cluster for _, cluster in judged])


async def of_horizon(jobs: Jobs, speaker: Speaker, problems: int, samples: int, seed: int, steps: int = 0) -> AtHorizon:
    """Jobs of one length, attempted to their end."""
    clock = Clock()
    agent = ToolAgent(speaker, jobs.world, Limits(steps or 4 + 4 * jobs.horizon), clock)
    return await at_horizon(jobs, await measure(agent, jobs, jobs.problems("test")[:problems], samples, seed), clock.seconds)


def told(name: str, first: Reliability, histories: list[AtLength], counts: dict, runs: int) -> str:
    """One known speaker in words."""
    (at,) = histories
    long = first.longest
    success = ", ".join(f"{each.evaluation['accuracy'].value:.2f}" for each in first.at)
    return (
        f"{name}: success at {', '.join(map(str, HORIZONS))} steps {success} (n {first.longest.step.n} jobs each); a right step {spoken(long.step)},"
        f" over all runs {spoken(counts['together'])};"
        f" errors as steps double {long.slope.value:+.2f} [{long.slope.low:+.2f} {long.slope.high:+.2f}] log-odds; Weibull shape"
        f" {spoken(first.fit.shape, 2)}; after {at.length} steps: healed {at.healed.value:.2f}, length's effect {spoken(at.drift, 2)}, errors' effect"
        f" {spoken(at.conditioning, 2)}; cause named rightly in {counts['named']} of {runs} runs, rate called growing in {counts['grows']}"
    )


# -------------------------------------------------------------------------------------------------------------- the model


async def of_model(config: Config) -> tuple[dict, list[str]]:
    """What the model does by itself, and the next step that it makes after histories."""
    policy = load_policy(config.model)
    jobs = Ledger(config.history + 1, "one_by_one", accounts=3, operations=("add",), n_test=config.model_problems)
    speaker = LocalSpeaker(LocalEngine(policy), policy.renderer, Sampling(max_tokens=48))
    alone = await of_horizon(replace(jobs, horizon=1), speaker, config.model_problems, config.model_samples, config.seed, TURNS)
    agent = ToolAgent(speaker, jobs.world, Limits(TURNS))
    histories = await after_histories(agent, jobs, jobs.problems("test"), (config.history,), config.model_samples, seed=config.seed)
    ended = {kind: m for kind, m in alone.failures.items() if m.value > 0}
    (at,) = histories
    found = {"success_1": alone.evaluation["accuracy"], "ended": ended, "costs": alone.costs, "histories": histories}
    return found, [
        f"{config.model}, alone, one operation: success {spoken(alone.evaluation['accuracy'])}; it ended as "
        + ", ".join(f"{kind} {m.value:.2f} [{m.low:.2f} {m.high:.2f}]" for kind, m in ended.items())
        + f"; {alone.costs['written'].value:.0f} tokens written and {alone.costs['read'].value:.0f} read an attempt",
        f"{config.model}, the next step after {at.length} steps: all right before it {spoken(at.healed)}, half of them wrong {spoken(at.injected)};"
        f" errors' effect {spoken(at.conditioning)}, effect of a history that shows how calls are written {spoken(at.drift)}",
    ]


def failures(coverage: Measurement, known: dict, runs: int) -> str:
    """Which of the criteria in the docstring failed."""
    p, truth = known["constant"]["together"], 1 - SPEAKERS["constant"]["error"]
    criteria = {
        "the interval of p holds it": coverage.value >= 0.93,
        "p of the constant speaker is the one it was made with": p.low <= truth <= p.high,
        "growth with length is told from a constant rate": known["grows with length"]["grows"] >= 0.9 * runs,
        "a constant rate is not called growing": known["constant"]["grows"] <= 0.1 * runs,
        "the cause is named rightly": all(each["named"] >= 0.8 * runs for each in known.values()),
    }
    return "; ".join(f"{name}: {'yes' if met else 'NO'}" for name, met in criteria.items())


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
