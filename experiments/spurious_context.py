"""Does the coverage wall give way when demonstrations have less of a spurious correlation?

*Decomposing Elements of Problem Solving* (2505.22756) says that RL raises coverage under conditions, more RL data and less spurious
correlation among them. The first is tried in `experiments/solution_tree.py`; the second cannot be tried in its world, where places say
all about an action and models do not read the contexts that go with it. Here demonstrations show, at one place in fifty, any place whatever
the action was (`smudge`, `posttrain/tasks/tree.py`): the context is then worth reading, and what a model learns from it is wrong in RL and test
problems, where contexts are uniform and places right. Two worlds differ in nothing but how much a context says of its action: hints of
Dirichlet(.3), as published, and of Dirichlet(5). Walks, facts shown, tests and RL problems are the same. SFT, then GRPO on 128 problems,
measured as in the solution trees: exact pass@k, maximised over temperature; plan, execute; how far new contexts move a plan.

What would make this dishonest: worlds of unlike facts compared as if the hints were all (the facts shown are equal, which is checked);
a correlation that no model uses called harmless; gains set side by side without where they started. The claim fails here if the gain in coverage
with weak hints is not above that with strong hints by more than the seeds' interval; the trial is void if new contexts do not move
the plans of the model with strong hints by .05.

The answer is no, and rather the other way round: with strong hints SFT leaves more to be gained, since the plans that go by contexts are what
GRPO mends, and after it both worlds stand about alike (three seeds; the difference of the gains includes 0).

    python -m experiments.spurious_context

Measured (2026-11-25, 29 min of one core in all, seed 0):
- strong hints, SFT: max pass@1 0.094 [0.064 0.125] (n 3), max pass@128 0.274 [0.141 0.407] (n 3); new contexts move a
  plan by 0.194 [0.076 0.311] (n 3); of seen, rare, unseen: plan 0.692, 0.238, 0.240; execute 0.986, 0.318, 0.038
- strong hints, GRPO: max pass@1 0.428 [0.191 0.665] (n 3), max pass@128 0.576 [0.383 0.768] (n 3); new contexts move
  a plan by 0.020 [-0.004 0.043] (n 3); of seen, rare, unseen: plan 0.985, 0.952, 0.949; execute 0.984, 0.567, 0.226
- weak hints, SFT: max pass@1 0.161 [0.024 0.298] (n 3), max pass@128 0.328 [0.106 0.550] (n 3); new contexts move a
  plan by 0.009 [0.007 0.012] (n 3); of seen, rare, unseen: plan 0.780, 0.267, 0.244; execute 0.981, 0.282, 0.046
- weak hints, GRPO: max pass@1 0.410 [0.189 0.632] (n 3), max pass@128 0.531 [0.321 0.742] (n 3); new contexts move a
  plan by 0.004 [0.001 0.008] (n 3); of seen, rare, unseen: plan 0.979, 0.906, 0.915; execute 0.990, 0.500, 0.222
- gain of GRPO in pass@1 (n is seeds): strong hints 0.334 [0.102 0.566] (n 3), weak hints 0.249 [0.102 0.397] (n 3),
  weak less strong -0.084 [-0.217 0.048] (n 3)
- gain of GRPO in pass@128 (n is seeds): strong hints 0.302 [0.220 0.384] (n 3), weak hints 0.203 [0.163 0.244] (n 3),
  weak less strong -0.099 [-0.220 0.023] (n 3)
- gain of GRPO in pass@128 of unseen problems (n is seeds): strong hints 0.284 [0.125 0.442] (n 3), weak hints 0.231
  [0.179 0.283] (n 3), weak less strong -0.053 [-0.193 0.087] (n 3)
- a model with strong hints reads contexts (they move a plan by .05): yes
- one with weak hints reads them less: yes
- less spurious correlation brings more coverage, beyond the seeds' interval: NO
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.common import duration, each_seed, record, spoken
from experiments.solution_tree import Seed, Sizes, an_arm, best, by_stratum, over_seeds, within
from experiments.solution_tree import Config as Trees
from posttrain.types import Measurement

HINTS = {"strong hints": 0.3, "weak hints": 5.0}


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/spurious_context")
    smudge: float = 0.02
    """Chance that a place in a demonstration is any place."""
    seeds: int = 3
    """Worlds, each with its models."""
    seed: int = 0
    """The first of them."""
    quick: bool = False
    """A few steps of everything: whether it runs."""

    def sizes(self, hints: str) -> Sizes:
        sizes = Trees(quick=self.quick).sizes
        return replace(sizes, task=replace(sizes.task, smudge=self.smudge, beta=HINTS[hints]))


def run(config: Config) -> None:
    """Every seed, then what they found together. What is done is kept."""
    started = time.perf_counter()
    worlds = each_seed(one_seed, config)
    found, lines = answer(worlds)
    spent = sum(stage["seconds"] for world in worlds for stages in world.values() for stage in stages.values())
    record(__file__, config.out, config, found, lines, started, f"{duration(spent)} of one core in all")


def one_seed(config: Config, seed: int) -> dict[str, dict[str, Any]]:
    """What SFT and GRPO came to, with either hints."""
    import torch

    torch.set_num_threads(1)
    return {hints: stages(Seed(config.sizes(hints), seed, config.out / f"seed_{seed}" / hints.replace(" ", "_"))) for hints in HINTS}


def stages(seed: Seed) -> dict[str, Any]:
    n = seed.sizes.problems[1]
    return {"SFT": seed.stage("SFT", seed.demonstrated), "GRPO": seed.stage("GRPO", lambda: seed.rewarded("grpo", n))}


def answer(worlds: Sequence[dict]) -> tuple[dict[str, Any], list[str]]:
    """The measurements over seeds, and the lines that say them."""
    for world in worlds:
        shown = [json.dumps(world[hints]["SFT"]["strata"]) for hints in HINTS]
        assert shown[0] == shown[1], "the two worlds were to show the same facts"
    found: dict[str, Any] = {hints: {stage: an_arm([w[hints] for w in worlds], stage) for stage in ("SFT", "GRPO")} for hints in HINTS}
    lines = [line for hints in HINTS for line in said(hints, found[hints])]
    for name, k, label in (("pass@1", 1, None), ("pass@128", 128, None), ("pass@128 of unseen problems", 128, "unseen")):
        found[name] = {hints: over_seeds([gain(w[hints], k, label) for w in worlds]) for hints in HINTS}
        found[name]["weak less strong"] = over_seeds([gain(w["weak hints"], k, label) - gain(w["strong hints"], k, label) for w in worlds])
        told = ", ".join(f"{hints} {spoken(m)}" for hints, m in found[name].items())
        lines.append(f"gain of GRPO in {name} (n is seeds): {told}")
    return found, [*lines, *verdicts(found)]


def said(hints: str, found: dict[str, Any]) -> list[str]:
    """A line for each stage."""
    return [
        f"{hints}, {stage}: max pass@1 {spoken(f['pass_1'])}, max pass@128 {spoken(f['pass_128'])}; new contexts move a plan by"
        f" {spoken(f['moved_by_context'])}; of seen, rare, unseen: {by_stratum(f, ('plan', 'execute'))}"
        for stage, f in found.items()
    ]


def gain(stages: dict[str, Any], k: int, label: str | None) -> float:
    """What GRPO adds to pass@k, each at its best temperature: of all problems, or of one stratum."""
    at = lambda stage: best(stage, k) if label is None else within(stage, k, label)  # noqa: E731
    return at(stages["GRPO"]) - at(stages["SFT"])


def verdicts(found: dict[str, Any]) -> list[str]:
    """Each claim with what became of it."""
    moved: Measurement = found["strong hints"]["SFT"]["moved_by_context"]
    apart: Measurement = found["pass@128"]["weak less strong"]
    claims = {
        "a model with strong hints reads contexts (they move a plan by .05)": moved.value > 0.05,
        "one with weak hints reads them less": found["weak hints"]["SFT"]["moved_by_context"].value < moved.value,
        "less spurious correlation brings more coverage, beyond the seeds' interval": apart.low > 0,
    }
    return [f"{claim}: {'yes' if met else 'NO'}" for claim, met in claims.items()]


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
