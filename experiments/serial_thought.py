"""Do written steps help because they are more computation, or because they carry a state from one step to the next?

A start and m moves are given, each move a multiplication in the alternating group A5 (60 elements, the smallest group whose word
problem is NC1-complete: no transformer of fixed depth is believed to solve it at every length in one pass, while one that may write
its states can, 2402.12875). The same model learns the same problems, m = 1 to 12, in five ways: the answer at once; a chain of all
states; filler (as many dots as the chain has states before its last, "dot by dot", 2404.15758); the chain's states in a wrong
order, and then the answer; and the answer at once with twice the layers. Accuracy is that of the last word of a greedy
completion, on new problems of each length. Chance is 1 in 60 at every m, for the start is uniform.

What would make this dishonest: fewer steps or other problems for one way; a filler that has to be learned too (the dots stand in the
prompt, at training and test); calling short training a proof of what a depth cannot do; judging a chain by its steps and
the others by the answer. It fails if filler comes near the chain on long problems, if the chain itself falls with m, or if
twice the layers do not reach further.

Moves stand in twelve fixed places (empty ones are marked), so that a step finds its move at a fixed distance: what is asked is
whether a state can be carried, not whether positions can be counted.

    python -m experiments.serial_thought

Measured (2026-11-25, 9 min of one core in all, seed 0):
- accuracy at m = 1, 2, 3, 4, 6, 8, 12, chance .017; n is seeds, each with 100 problems of each length
- at once: 0.25, 0.04, 0.04, 0.04, 0.01, 0.02, 0.01; at m = 12 0.010 [-0.033 0.053] (n 3)
- chain: 1.00, 1.00, 1.00, 1.00, 1.00, 1.00, 1.00; at m = 12 1.000 [1.000 1.000] (n 3)
- filler: 0.42, 0.05, 0.04, 0.03, 0.03, 0.02, 0.02; at m = 12 0.017 [0.002 0.031] (n 3)
- shuffled chain: 0.94, 0.75, 0.32, 0.12, 0.01, 0.03, 0.01; at m = 12 0.010 [0.010 0.010] (n 3)
- at once, twice the layers: 0.10, 0.03, 0.05, 0.04, 0.02, 0.02, 0.00; at m = 12 0.003 [-0.011 0.018] (n 3)
- tokens read in training, the same 51,200 problems each: at once 819,200, chain 1,101,703, filler 1,101,703, shuffled
  chain 1,101,703, at once, twice the layers 819,200
- the chain stays above .9 at every length (least 1.00): yes
- filler stays more than .5 below the chain at the longest: yes
- so do the same states in a wrong order: yes
- twice the layers reach further (mean over lengths 0.04 → 0.03): NO
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from experiments.common import duration, record, spoken
from experiments.worlds import fine_tune, words_model
from posttrain.algorithms import sft
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig
from posttrain.policy.words import WordModelConfig
from posttrain.runs.folder import write_atomically
from posttrain.seeds import fold
from posttrain.statistics import mean_over_problems
from posttrain.types import Measurement, Sampling

GENERATORS = ((1, 2, 0, 3, 4), (0, 1, 3, 4, 2), (1, 0, 3, 2, 4), (4, 1, 2, 0, 3))
"""Even permutations of five things; together they reach all 60."""
WAYS = ("at once", "chain", "filler", "shuffled chain", "at once, twice the layers")


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/serial_thought")
    longest: int = 12
    """Most moves."""
    problems: int = 100
    """Tested, of each length."""
    seeds: int = 3
    seed: int = 0
    model: WordModelConfig = field(default_factory=WordModelConfig)
    sft: sft.Config = field(default_factory=lambda: sft.Config(
        data="made here", conversations_per_step=64, steps=800, dtype="float32", tokens_per_batch=8192, heldout_frac=0, measure_every=0,
        checkpoint_every=200, optim=AdamWConfig(learning_rate=3e-3, warmup_steps=50, beta2=0.98),
    ))  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the problems


def group() -> tuple[list[tuple[int, ...]], np.ndarray]:
    """The even permutations of five things, and the table of moves: [element, generator] → element."""
    elements = [p for p in itertools.permutations(range(5)) if sum(a > b for a, b in itertools.combinations(p, 2)) % 2 == 0]
    place = {p: i for i, p in enumerate(elements)}
    return elements, np.array([[place[tuple(p[i] for i in g)] for g in GENERATORS] for p in elements])


def words() -> list[str]:
    return [*(f"e{i}" for i in range(60)), *(f"g{i}" for i in range(len(GENERATORS))), "_", ".", ":"]


@dataclass(frozen=True)
class Walk:
    """A start and moves, and every state that they lead through."""

    states: tuple[int, ...]
    moves: tuple[int, ...]

    def text(self, way: str, longest: int, rng: np.random.Generator) -> tuple[str, str]:
        """Prompt and answer, as this way has them."""
        moves = [f"g{g}" for g in self.moves] + ["_"] * (longest - len(self.moves))
        prompt, states = " ".join([f"e{self.states[0]}", *moves, ":"]), [f"e{s}" for s in self.states[1:]]
        if way == "chain":
            return prompt, " ".join(states)
        if way == "filler":
            return " ".join([prompt, *["."] * (len(states) - 1)]), states[-1]
        if way == "shuffled chain":
            return prompt, " ".join([*(states[i] for i in disordered(len(states) - 1, rng)), states[-1]])
        return prompt, states[-1]


def disordered(n: int, rng: np.random.Generator) -> list[int]:
    """The places 0 … n − 1 in an order other than their own, where there is another."""
    order = rng.permutation(n).tolist()
    return order if n < 2 or order != sorted(order) else [*order[1:], order[0]]


def walks(n: int, lengths: Sequence[int], rng: np.random.Generator) -> list[Walk]:
    """`n` walks of random starts and moves, their lengths drawn from `lengths`."""
    table = group()[1]
    made = []
    for _ in range(n):
        moves = rng.integers(len(GENERATORS), size=rng.choice(lengths)).tolist()
        states = list(itertools.accumulate(moves, lambda state, move: int(table[state, move]), initial=int(rng.integers(60))))
        made.append(Walk(tuple(states), tuple(moves)))
    return made


# --------------------------------------------------------------------------------------------------------------- the runs


def run(config: Config) -> None:
    """Every way with every seed, each kept when it is done; then the answer."""
    started = time.perf_counter()
    config.out.mkdir(parents=True, exist_ok=True)
    seeds = range(config.seed, config.seed + config.seeds)
    rows = {way: [kept(config, way, seed) for seed in seeds] for way in WAYS}
    found = {way: {m: over_seeds([row["accuracy"][str(m)] for row in rows[way]]) for m in range(1, config.longest + 1)} for way in WAYS}
    shown = sorted({m for m in (1, 2, 3, 4, 6, 8, 12) if m < config.longest} | {config.longest})
    lines = [f"accuracy at m = {', '.join(map(str, shown))}, chance .017; n is seeds, each with {config.problems} problems of each length"]
    lines += [f"{way}: {', '.join(f'{found[way][m].value:.2f}' for m in shown)}; at m = {shown[-1]} {spoken(found[way][shown[-1]])}" for way in WAYS]
    read = ", ".join(f"{way} {rows[way][0]['tokens']:,}" for way in WAYS)
    lines.append(f"tokens read in training, the same {config.sft.steps * config.sft.conversations_per_step:,} problems each: {read}")
    spent = sum(row["seconds"] for way in WAYS for row in rows[way])
    record(__file__, config.out, config, found, [*lines, *verdicts(found, config.longest)], started, f"{duration(spent)} of one core in all")


def kept(config: Config, way: str, seed: int) -> dict:
    """Accuracy by length, read from the folder where this run is done."""
    folder = config.out / f"{way.replace(' ', '_').replace(',', '')}_{seed}"
    file = folder.with_suffix(".json")
    if not file.exists():
        started = time.perf_counter()
        policy, tokens = asyncio.run(learned(config, way, seed, folder))
        accuracy = asyncio.run(tested(policy, config, way, seed))
        write_atomically(file, json.dumps({"accuracy": accuracy, "tokens": tokens, "seconds": time.perf_counter() - started}))
    return json.loads(file.read_text())


async def learned(config: Config, way: str, seed: int, folder: Path) -> tuple[Policy, int]:
    """SFT on walks of all lengths, each of them once; and how many tokens were read."""
    rng = np.random.default_rng(fold(seed, "walks"))
    made = walks(config.sft.steps * config.sft.conversations_per_step, range(1, config.longest + 1), rng)
    texts = [walk.text(way, config.longest, rng) for walk in made]
    size = replace(config.model, layers=config.model.layers * (2 if "twice" in way else 1), seed=seed)
    model = words_model(folder / "random", words(), size)
    policy = await fine_tune(replace(config.sft, model=model, out=folder / "sft", seed=seed), texts)
    return policy, sum(len(f"{prompt} {answer}".split()) + 1 for prompt, answer in texts)


async def tested(policy: Policy, config: Config, way: str, seed: int) -> dict[int, float]:
    """How often the last word of a greedy completion is the last state, by the number of moves."""
    engine, renderer = LocalEngine(policy), policy.renderer
    rng = np.random.default_rng(fold(seed, "test"))

    async def is_right(walk: Walk) -> bool:
        prompt = renderer.encode(walk.text(way, config.longest, rng)[0])
        (completion,) = await engine.sample(prompt, 1, Sampling(0.0, config.longest + 1), renderer.stop_token_ids)
        return renderer.parse(completion.token_ids).content.split()[-1:] == [f"e{walk.states[-1]}"]

    problems = {m: walks(config.problems, [m], rng) for m in range(1, config.longest + 1)}
    return {m: float(np.mean(await asyncio.gather(*map(is_right, each)))) for m, each in problems.items()}


def over_seeds(values: Sequence[float]) -> Measurement:
    return mean_over_problems(values, "fraction")


def verdicts(found: dict, longest: int) -> list[str]:
    """Each claim with what became of it."""
    at = lambda way, m: found[way][m].value  # noqa: E731
    mean = lambda way: float(np.mean([at(way, m) for m in range(1, longest + 1)]))  # noqa: E731
    least = min(at("chain", m) for m in found["chain"])
    claims = {
        f"the chain stays above .9 at every length (least {least:.2f})": least > 0.9,
        "filler stays more than .5 below the chain at the longest": at("chain", longest) - at("filler", longest) > 0.5,
        "so do the same states in a wrong order": at("chain", longest) - at("shuffled chain", longest) > 0.5,
        f"twice the layers reach further (mean over lengths {mean('at once'):.2f} → {mean(WAYS[-1]):.2f})": mean(WAYS[-1]) > mean("at once"),
    }
    return [f"{claim}: {'yes' if met else 'NO'}" for claim, met in claims.items()]


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
