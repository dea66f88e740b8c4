"""What does RL teach in a world where planning and executing are different knowledge: better use of what is known, or new facts?

*Decomposing Elements of Problem Solving* (2505.22756) finds that GRPO makes a model as good at temperature 1 as it was at low ones
(temperature distillation) and hardly raises the share of problems that it can solve at all (the coverage wall), in language
models and in a made world: max pass@1 .482 → .598, max pass@128 .689 → .742, both maximised over temperature; it says that the
wall gives way with more RL data and less spurious correlation. Here is that world (`posttrain/tasks/tree.py`), smaller: SFT on
demonstrations whose habits leave a part of the transition facts T(state, action) unseen, then GRPO on problems with uniform
actions, then GRPO with other numbers of RL problems, with hotter rollouts, and with rewards shuffled among the attempts of each step. Less
spurious correlation, the other condition under which the wall is said to give way, cannot be tried where contexts hardly move a plan
(below): `experiments/spurious_context.py`.

One text is right for each problem, so its chance of being sampled is computed by reading it once, at every temperature, and
pass@k has no sampling noise. Problems are told apart by the fact on their path that SFT showed least: seen (10 times or more),
rare (1 to 9), unseen. Plan is the chance of the gold action behind the gold prefix, execute that of the gold next state; verify is
how often the solution is likelier than the same one with one step changed. Intervals are over seeds: each has its own world,
demonstrations, model and test.

What would make this dishonest: pass@128 counted in 128 samples and called coverage; a temperature chosen on the test for one arm
alone (it is maximised on the test for all, as published, and said so); calling the wall one of planning (what is missing are
facts of execution); four seeds of a model of a hundred thousand weights as evidence about language models. It fails if the gain in pass@1 is not
twice the gain in pass@128, if seen problems gain as much coverage as unseen ones, if more RL problems do not bring more unseen
coverage, if it does not matter whether a missing fact was met in an RL problem, or if shuffled rewards give the gain.

Deviations from the published run: n 12 instead of 20, 4 steps instead of 5 to 10, 4 irrelevant words instead of 10, alpha .2, two layers
of 64 (Llama, not Qwen2), the loss on the solution alone, a rate that drops once instead of decaying, GRPO with 16 problems of 16
attempts at 3e-4, 2 epochs, no KL and no entropy bonus. `--published` takes the published sizes and rates (hours on two cores; not
measured), with the loss still on the solution alone.

    python -m experiments.solution_tree

Measured (2026-11-25, 19 min of one core in all, seed 0):
- facts that SFT never showed: 0.172 [0.119 0.225] (n 4) of all, n is seeds here and below
- SFT: max pass@1 0.321 [0.202 0.440] (n 4), max pass@128 0.572 [0.409 0.734] (n 4); pass@1 at T = 1 0.312, at 1.4
  0.289; pass@128 of seen, rare, unseen 0.998, 0.721, 0.317; RL problems themselves 0.343
- GRPO 16: max pass@1 0.284 [0.158 0.409] (n 4), max pass@128 0.534 [0.375 0.693] (n 4) (change -0.037 [-0.100 0.025]
  (n 4) and -0.038 [-0.072 -0.004] (n 4)); pass@1 at T = 1 0.276, at 1.4 0.256; pass@128 of seen, rare, unseen 0.991,
  0.618, 0.291; RL problems themselves 0.594
- GRPO 128: max pass@1 0.452 [0.274 0.629] (n 4), max pass@128 0.626 [0.456 0.797] (n 4) (change 0.131 [0.034 0.228]
  (n 4) and 0.055 [0.038 0.072] (n 4)); pass@1 at T = 1 0.444, at 1.4 0.416; pass@128 of seen, rare, unseen 0.993,
  0.749, 0.413; RL problems themselves 0.559
- GRPO 2048: max pass@1 0.502 [0.346 0.657] (n 4), max pass@128 0.613 [0.445 0.780] (n 4) (change 0.181 [0.118 0.243]
  (n 4) and 0.041 [-0.004 0.085] (n 4)); pass@1 at T = 1 0.496, at 1.4 0.466; pass@128 of seen, rare, unseen 0.998,
  0.733, 0.387; RL problems themselves 0.520
- hot rollouts: max pass@1 0.567 [0.368 0.766] (n 4), max pass@128 0.670 [0.486 0.854] (n 4) (change 0.246 [0.151
  0.341] (n 4) and 0.098 [0.047 0.150] (n 4)); pass@1 at T = 1 0.564, at 1.4 0.551; pass@128 of seen, rare, unseen
  1.000, 0.775, 0.479; RL problems themselves 0.594
- shuffled rewards: max pass@1 0.184 [0.118 0.250] (n 4), max pass@128 0.366 [0.259 0.474] (n 4) (change -0.137
  [-0.292 0.018] (n 4) and -0.205 [-0.340 -0.070] (n 4)); pass@1 at T = 1 0.176, at 1.4 0.159; pass@128 of seen, rare,
  unseen 0.815, 0.383, 0.154; RL problems themselves 0.207
- SFT, of seen, rare, unseen: plan 0.998, 0.993, 0.987; execute 0.990, 0.301, 0.070; verify 1.000, 0.974, 0.958;
  contexts move a plan by 0.0029
- GRPO 128, of seen, rare, unseen: plan 0.999, 0.997, 0.992; execute 0.985, 0.542, 0.295; verify 1.000, 0.973, 0.967;
  contexts move a plan by 0.0018
- GRPO 2048, of seen, rare, unseen: plan 0.998, 0.998, 0.996; execute 0.996, 0.638, 0.317; verify 1.000, 0.981, 0.956;
  contexts move a plan by 0.0018
- gain in pass@128 of unseen problems after GRPO 16: missing facts all met in RL 0.056 [-0.162 0.273] (n 4), some not
  met -0.053 [-0.105 0.000] (n 4); GRPO 2048 less GRPO 16 0.096 [0.006 0.186] (n 4); GRPO 2048 less GRPO 128 -0.026
  [-0.121 0.070] (n 4)
- precision falls less with temperature after GRPO 128 (pass@1 at 1.4 over the best: 0.90 → 0.92): yes
- GRPO 128 gains at least twice as much in pass@1 as in pass@128, on average: yes
- seen problems gain less coverage than unseen ones, on average: yes
- more RL problems bring more unseen coverage, beyond the seeds' interval: yes
- problems whose missing facts RL has met gain more, beyond the seeds' interval: NO
- shuffled rewards do not give the gain: GRPO 128 less them, in max pass@1 0.268 [0.087 0.448] (n 4): yes
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import duration, each_seed, record, spoken
from experiments.worlds import fine_tune, reinforce, taught, words_model
from posttrain.algorithms import grpo, sft
from posttrain.evals.chart import Mark, Series, chart
from posttrain.evals.exact import logprobs_at, pass_at_k_of, success_probabilities
from posttrain.policy.hf import Policy
from posttrain.policy.optim import AdamWConfig
from posttrain.policy.words import WordModelConfig
from posttrain.runs.folder import write_atomically
from posttrain.seeds import fold
from posttrain.statistics import mean_over_problems
from posttrain.tasks.tree import SolutionTree
from posttrain.types import Measurement, Problem, Rollout, Score

TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
AT_ONE = TEMPERATURES.index(1.0)
STRATA = ("seen", "rare", "unseen")
KS = tuple(2**i for i in range(15))


@dataclass(frozen=True)
class Sizes:
    """Of a world, its model and its training."""

    task: SolutionTree = field(default_factory=lambda: SolutionTree(n=12, lengths=(4, 4), irrelevant=4, alpha=0.2))
    model: WordModelConfig = field(default_factory=WordModelConfig)
    sft: sft.Config = field(default_factory=lambda: sft.Config(
        data="made here", conversations_per_step=64, steps=800, dtype="float32", tokens_per_batch=8192, heldout_frac=0, measure_every=0,
        checkpoint_every=200, optim=AdamWConfig(learning_rate=3e-3, warmup_steps=50, beta2=0.98),
    ))  # fmt: skip
    settle_steps: int = 150
    """Steps of SFT at a tenth of the rate, behind the others."""
    grpo: grpo.Config = field(default_factory=lambda: grpo.Config(
        problems_per_step=16, group_size=16, steps=120, epochs=2, advantage="std_scaled", clip_high=0.2, max_tokens=19, dtype="float32",
        tokens_per_batch=8192, checkpoint_every=40, optim=AdamWConfig(learning_rate=3e-4, max_grad_norm=0.2),
    ))  # fmt: skip
    problems: tuple[int, ...] = (16, 128, 2048)
    """How many RL problems, in different arms; the control has as many as the second."""


def published() -> Sizes:
    """The sizes of the published run, with the first and the last number of problems ours."""
    small = Sizes()
    steps = AdamWConfig(learning_rate=5e-5, max_grad_norm=0.2)
    return Sizes(
        SolutionTree(), WordModelConfig(hidden=128, layers=4, heads=2, context=256),
        replace(small.sft, steps=2800, optim=AdamWConfig(learning_rate=1e-3, warmup_steps=156)), 325,
        replace(small.grpo, problems_per_step=32, group_size=8, epochs=4, steps=400, max_tokens=43, kl_coef=1e-3, kl_in="loss_k3",
                entropy_coef=1e-3, optim=steps),
    )  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/solution_tree")
    published: bool = False
    """The published sizes."""
    seeds: int = 4
    """Worlds, each with a model and a training of its own."""
    seed: int = 0
    """The first of them."""
    quick: bool = False
    """A few steps of everything: whether it runs."""

    @property
    def sizes(self) -> Sizes:
        sizes = published() if self.published else Sizes()
        if not self.quick:
            return sizes
        task = SolutionTree(n=4, lengths=(2, 2), irrelevant=1, n_test=24)
        few = replace(sizes.grpo, steps=2, problems_per_step=4, group_size=4, max_tokens=task.longest_tokens)
        return replace(sizes, task=task, sft=replace(sizes.sft, steps=20), settle_steps=5, grpo=few, problems=(2, 8, 24))


def run(config: Config) -> None:
    """Every seed, then what they found together. What is done is kept."""
    started = time.perf_counter()
    worlds = each_seed(one_seed, config)
    found, lines = answer(worlds)
    for name, picture in figures(worlds).items():
        write_atomically(config.out / f"{name}.svg", picture)
    spent = sum(stage["seconds"] for world in worlds for stage in world.values())
    record(__file__, config.out, config, found, lines, started, f"{duration(spent)} of one core in all")


# -------------------------------------------------------------------------------------------------------------- one seed


def one_seed(config: Config, seed: int) -> dict[str, Any]:
    """What each stage measured, by its name; read from the folder where a stage is done."""
    import torch

    torch.set_num_threads(1)
    return Seed(config.sizes, seed, config.out / f"seed_{seed}").stages()


@dataclass(frozen=True)
class Seed:
    """A world with its model."""

    sizes: Sizes
    seed: int
    out: Path

    def task(self, n_problems: int) -> SolutionTree:
        return replace(self.sizes.task, seed=self.seed, n_train=n_problems)

    def stages(self) -> dict[str, Any]:
        few, published, many = self.sizes.problems
        found = {"SFT": self.stage("SFT", self.demonstrated)}
        for n in (few, published, many):
            found[f"GRPO {n}"] = self.stage(f"GRPO {n}", lambda n=n: self.rewarded(f"grpo_{n}", n))
        found["hot rollouts"] = self.stage("hot rollouts", lambda: self.rewarded("hot", many, temperature=1.4))
        found["shuffled rewards"] = self.stage("shuffled rewards", lambda: self.rewarded("shuffled", published, shuffled=True))
        return found

    def stage(self, name: str, make: Callable[[], tuple[Policy, int]]) -> dict[str, Any]:
        """The measurement of a stage, made where it is not kept."""
        kept = self.out / f"{name.replace(' ', '_')}.json"
        if not kept.exists():
            started = time.perf_counter()
            policy, n_problems = make()
            found = measured(policy, self.task(n_problems), self.shown)
            write_atomically(kept, json.dumps(found | {"seconds": time.perf_counter() - started}))
        return json.loads(kept.read_text())

    @property
    def shown(self) -> np.ndarray:
        """How often SFT has shown each fact."""
        return self.task(1).demonstrations(self.n_demonstrations).facts(self.sizes.task.n)

    @property
    def n_demonstrations(self) -> int:
        return (self.sizes.sft.steps + self.sizes.settle_steps) * self.sizes.sft.conversations_per_step

    def demonstrated(self) -> tuple[Policy, int]:
        """SFT on demonstrations, each of them once: fast, then slowly."""
        sizes, task = self.sizes, self.task(1)
        model = words_model(self.out / "random", task.words, replace(sizes.model, seed=self.seed))
        walks = task.demonstrations(self.n_demonstrations)
        texts = [(walks.prompt(i), walks.solution(i)) for i in range(len(walks))]
        first = sizes.sft.steps * sizes.sft.conversations_per_step
        fast = replace(sizes.sft, model=model, out=self.out / "sft", seed=self.seed)
        slow = replace(fast, model=str(fast.out), out=self.out / "settled", steps=sizes.settle_steps,
                       optim=replace(fast.optim, learning_rate=fast.optim.learning_rate / 10, warmup_steps=0))  # fmt: skip
        asyncio.run(fine_tune(fast, texts[:first]))
        return asyncio.run(fine_tune(slow, texts[first:])), sizes.problems[1]

    def rewarded(self, name: str, n_problems: int, shuffled: bool = False, **changes: Any) -> tuple[Policy, int]:
        """GRPO from the model after SFT."""
        config = replace(self.sizes.grpo, model=str(self.out / "settled"), out=self.out / name, seed=self.seed, **changes)
        task = self.task(n_problems)
        judge = Shuffled(task, config.problems_per_step * config.group_size, fold(self.seed, "shuffled")) if shuffled else task
        return asyncio.run(reinforce(config, judge)), n_problems


@dataclass
class Shuffled:
    """A task whose scores are dealt out anew among all attempts of a step: as many rewards, for nothing."""

    task: SolutionTree
    n: int
    """Attempts of a step: the last of them lets all go on."""
    seed: int
    waiting: list[tuple[Rollout, asyncio.Future]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.task.name}, rewards shuffled"

    def problems(self, split: str) -> Sequence[Problem]:
        return self.task.problems(split)

    def solution(self, problem: Problem) -> str:
        return self.task.solution(problem)

    async def score(self, rollout: Rollout) -> Score:
        """The score of some attempt of the same step."""
        mine = asyncio.get_running_loop().create_future()
        self.waiting.append((rollout, mine))
        if len(self.waiting) == self.n:
            await self._deal()
        return await mine

    async def _deal(self) -> None:
        step, self.waiting = sorted(self.waiting, key=lambda pair: (pair[0].completions[0].sampling.seed, pair[0].sample)), []
        values = [(await self.task.score(rollout)).value for rollout, _ in step]
        order = np.random.default_rng(fold(self.seed, step[0][0].completions[0].sampling.seed)).permutation(self.n)
        for place, (_, future) in zip(order, step, strict=True):
            future.set_result(Score(values[place]))


# ------------------------------------------------------------------------------------------------------------ measuring


def measured(policy: Policy, task: SolutionTree, shown: np.ndarray) -> dict[str, Any]:
    """Everything about one model: chances of success on both splits, plan, execute and verify, and whether contexts matter."""
    test, train = task.problems("test"), task.problems("train")[:512]
    met = practised(task)
    gold = golden(policy, test, [p.answer for p in test])
    return {
        "chances": success_probabilities(policy, [[g] for g in gold], TEMPERATURES).tolist(),
        "train_chances": success_probabilities(policy, [[g] for g in golden(policy, train, [p.answer for p in train])], TEMPERATURES).tolist(),
        "strata": [stratum(min(shown[fact] for fact in facts(p))) for p in test],
        "practised": [all(met[fact] for fact in facts(p) if not shown[fact]) for p in test],
        "unseen_facts": float((shown == 0).mean()),
    } | probed(policy, task, shown)  # fmt: skip


def golden(policy: Policy, problems: Sequence[Problem], answers: Sequence[str]):
    return [taught(policy.renderer, p.messages[0].content, answer) for p, answer in zip(problems, answers, strict=True)]


def facts(problem: Problem) -> list[tuple[int, int]]:
    """The (state, action) of each step of the solution."""
    return list(zip(problem.data["states"], problem.data["actions"], strict=False))


def practised(task: SolutionTree) -> np.ndarray:
    """Which facts an RL problem's solution uses."""
    met = np.zeros((task.n, task.n), bool)
    for problem in task.problems("train"):
        met[tuple(np.array(facts(problem)).T)] = True
    return met


def stratum(count: int) -> str:
    return "seen" if count >= 10 else "rare" if count else "unseen"


def probed(policy: Policy, task: SolutionTree, shown: np.ndarray) -> dict[str, Any]:
    """Plan, execute and verify by stratum (of the step's own fact; verify: of the problem), and how far a new context moves a plan."""
    test = task.problems("test")
    strata = [[stratum(shown[fact]) for fact in facts(p)] for p in test]
    right, wrong, elsewhere = (
        token_logprobs(policy, problems, answers)
        for problems, answers in (
            (test, [p.answer for p in test]), (test, [task.wrong_solution(p) for p in test]),
            ([other_contexts(task, p) for p in test], [p.answer for p in test]),
        )
    )  # fmt: skip
    chance = lambda rows, first: np.concatenate([np.exp(row[first:-1:4]) for row in rows])  # noqa: E731
    flat, least = np.array(sum(strata, [])), np.array([stratum(min(shown[f] for f in facts(p))) for p in test])
    plan, execute = chance(right, 3), chance(right, 5)
    likelier = np.array([a.sum() > b.sum() for a, b in zip(right, wrong, strict=True)])
    by = lambda values, labels: {s: float(values[labels == s].mean()) if (labels == s).any() else None for s in STRATA}  # noqa: E731
    moved = float(np.abs(chance(elsewhere, 3) - plan).mean())
    return {"plan": by(plan, flat), "execute": by(execute, flat), "verify": by(likelier, least), "moved_by_context": moved}


def token_logprobs(policy: Policy, problems: Sequence[Problem], answers: Sequence[str]) -> list[np.ndarray]:
    """Of each answer's words and its end, at temperature 1."""
    sequences = golden(policy, problems, answers)
    cuts = np.cumsum([s.n_predicted for s in sequences])[:-1]
    return np.split(logprobs_at(policy, sequences, (1.0,))[0].numpy(), cuts)


def other_contexts(task: SolutionTree, problem: Problem) -> Problem:
    """The same problem with contexts drawn anew."""
    rng = np.random.default_rng(fold(task.seed, "contexts", problem.id))
    text = re.sub(r"C \d+", lambda _: f"C {rng.integers(task.n)}", problem.messages[0].content)
    return replace(problem, messages=(replace(problem.messages[0], content=text),))


# -------------------------------------------------------------------------------------------------------- the seeds together


def over_seeds(values: Sequence[float]) -> Measurement:
    """The mean over seeds, with Student's interval."""
    return mean_over_problems(values, "fraction")


def best(stage: dict, k: int, key: str = "chances") -> float:
    """pass@k at the temperature where it is highest."""
    return float(pass_at_k_of(stage[key], k).mean(1).max())


def within(stage: dict, k: int, label: str, mask: Sequence[bool] | None = None) -> float:
    """pass@k at the best temperature for all, over the problems of one stratum (and of a mask); nan without any."""
    values = pass_at_k_of(stage["chances"], k)
    row = values[values.mean(1).argmax()]
    chosen = np.array([s == label for s in stage["strata"]]) & (True if mask is None else np.array(mask))
    return float(row[chosen].mean()) if chosen.any() else float("nan")


def answer(worlds: Sequence[dict]) -> tuple[dict[str, Any], list[str]]:
    """The measurements over seeds, and the lines that say them."""
    arms = list(worlds[0])
    found: dict[str, Any] = {"unseen_facts": over_seeds([w["SFT"]["unseen_facts"] for w in worlds])}
    lines = [f"facts that SFT never showed: {spoken(found['unseen_facts'])} of all, n is seeds here and below"]
    for arm in arms:
        found[arm] = an_arm(worlds, arm)
        f = found[arm]
        change = "" if arm == "SFT" else f" (change {spoken(f['change_1'])} and {spoken(f['change_128'])})"
        lines.append(
            f"{arm}: max pass@1 {spoken(f['pass_1'])}, max pass@128 {spoken(f['pass_128'])}{change}; pass@1 at T = 1"
            f" {f['at_one'].value:.3f}, at 1.4 {f['hot'].value:.3f}; pass@128 of seen, rare, unseen"
            f" {', '.join(f'{f[s].value:.3f}' for s in STRATA)}; RL problems themselves {f['train'].value:.3f}"
        )
    few, middle, many = arms[1:4]
    for arm in ("SFT", middle, many):
        f = found[arm]
        told = by_stratum(f, ("plan", "execute", "verify"))
        lines.append(f"{arm}, of seen, rare, unseen: {told}; contexts move a plan by {f['moved_by_context'].value:.4f}")
    found["gains"] = gains(worlds, few)
    found["over_control"] = over_seeds([best(w[middle], 1) - best(w["shuffled rewards"], 1) for w in worlds])
    g = found["gains"]
    lines.append(
        f"gain in pass@128 of unseen problems after {few}: missing facts all met in RL {spoken(g['met'])}, some not met {spoken(g['not met'])};"
        f" {many} less {few} {spoken(g['dose'])}; {many} less {middle} {spoken(paired(worlds, middle, many))}"
    )
    return found, [*lines, *verdicts(found, few, middle, many)]


def by_stratum(found: dict[str, Any], names: Sequence[str]) -> str:
    """What was found under these names, for seen, rare and unseen."""
    return "; ".join(f"{name} {', '.join(f'{found[name][s].value:.3f}' for s in STRATA)}" for name in names)


def an_arm(worlds: Sequence[dict], arm: str) -> dict[str, Any]:
    stages, before = [w[arm] for w in worlds], [w["SFT"] for w in worlds]
    at = lambda t: over_seeds([float(np.mean(s["chances"][TEMPERATURES.index(t)])) for s in stages])  # noqa: E731
    known = lambda name, s: [stage[name][s] for stage in stages if stage[name][s] is not None]  # noqa: E731
    probes = {name: {s: over_seeds(known(name, s)) for s in STRATA} for name in ("plan", "execute", "verify")}
    return {
        "pass_1": over_seeds([best(s, 1) for s in stages]), "pass_128": over_seeds([best(s, 128) for s in stages]),
        "change_1": over_seeds([best(s, 1) - best(b, 1) for s, b in zip(stages, before, strict=True)]),
        "change_128": over_seeds([best(s, 128) - best(b, 128) for s, b in zip(stages, before, strict=True)]),
        "at_one": at(1.0), "hot": at(1.4), "train": over_seeds([best(s, 1, "train_chances") for s in stages]),
        "moved_by_context": over_seeds([s["moved_by_context"] for s in stages]),
        "pass_1_by_stratum": {s: over_seeds([within(stage, 1, s) for stage in stages]) for s in STRATA},
    } | {s: over_seeds([within(stage, 128, s) for stage in stages]) for s in STRATA} | probes  # fmt: skip


def gains(worlds: Sequence[dict], few: str) -> dict[str, Measurement]:
    """The gain in pass@128 of unseen problems after few RL problems, by whether these used all the missing facts; and what many add."""
    many = list(worlds[0])[3]

    def gain(world: dict, met: bool) -> float:
        mask = [m == met for m in world[few]["practised"]]
        return within(world[few], 128, "unseen", mask) - within(world["SFT"], 128, "unseen", mask)

    by_met = {name: over_seeds([gain(w, met) for w in worlds]) for name, met in (("met", True), ("not met", False))}
    return by_met | {"dose": paired(worlds, few, many), "met less not met": over_seeds([gain(w, True) - gain(w, False) for w in worlds])}


def paired(worlds: Sequence[dict], a: str, b: str) -> Measurement:
    """What `b` has more than `a` in pass@128 of unseen problems."""
    return over_seeds([within(w[b], 128, "unseen") - within(w[a], 128, "unseen") for w in worlds])


def verdicts(found: dict, few: str, middle: str, many: str) -> list[str]:
    """Each claim with what became of it."""
    sft, rl = found["SFT"], found[middle]
    flatness = lambda f: f["hot"].value / f["pass_1"].value  # noqa: E731
    claims = {
        f"precision falls less with temperature after {middle} (pass@1 at 1.4 over the best: {flatness(sft):.2f} → {flatness(rl):.2f})":
            flatness(rl) > flatness(sft),
        f"{middle} gains at least twice as much in pass@1 as in pass@128, on average": rl["change_1"].value >= 2 * rl["change_128"].value > 0,
        "seen problems gain less coverage than unseen ones, on average": rl["seen"].value - sft["seen"].value < rl["unseen"].value - sft["unseen"].value,
        "more RL problems bring more unseen coverage, beyond the seeds' interval": found["gains"]["dose"].low > 0,
        "problems whose missing facts RL has met gain more, beyond the seeds' interval": found["gains"]["met less not met"].low > 0,
        f"shuffled rewards do not give the gain: {middle} less them, in max pass@1 {spoken(found['over_control'])}":
            found["over_control"].low > 0,
    }  # fmt: skip
    return [f"{claim}: {'yes' if met else 'NO'}" for claim, met in claims.items()]


COLOURS = ("#57606a", "#9a6700", "#1f5fd0", "#1a7f37", "#bf3989", "#cf222e")


def figures(worlds: Sequence[dict]) -> dict[str, str]:
    """pass@1 over temperature, and pass@k at temperature 1 over k, the means over seeds with their intervals."""
    def series(xs: Sequence[float], values: Callable[[dict, int], float]) -> list[Series]:
        return [
            Series(arm, colour, [mark(x, over_seeds([values(w[arm], i) for w in worlds])) for i, x in enumerate(xs)], True)
            for arm, colour in zip(worlds[0], COLOURS, strict=True)
        ]  # fmt: skip

    hot = series(TEMPERATURES, lambda stage, i: float(np.mean(stage["chances"][i])))
    often = series(range(len(KS)), lambda stage, i: float(pass_at_k_of(stage["chances"][AT_ONE], KS[i]).mean()))
    return {
        "pass_1_over_temperature": chart("pass@1 over temperature, mean and 95% interval over seeds", "temperature", "pass@1", hot),
        "pass_k": chart("exact pass@k at temperature 1, mean and 95% interval over seeds", "log2 k", "pass@k", often),
    }


def mark(x: float, m: Measurement) -> Mark:
    return Mark(x, m.value, (max(0.0, m.low), min(1.0, m.high)) if m.n > 1 else None)


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
