"""Does rewarding right answers make a calibrated model overconfident, by as much as theory says?

GPT-4 was calibrated before RL and less so after it (2303.08774, figure 8); a single temperature mended most of it in another
model (2207.05221). There is a closed form: if a reference answers by the true chances q, and the reward is 1 for a right answer,
the best policy under a KL of weight beta is q exp(q / beta), normalised: the same favourite answer, too sure of itself. Here
questions have eight answers each and a law q of which is right, drawn anew at every attempt, so that the truth is known.
SFT on labels makes the reference; GRPO with rewards of 0 and 1 and the KL in the reward goes on from it, at several betas. The
closed form is computed from the model after SFT itself, so that its own error is not taken for the theory's.

Confidence is the probability of the likeliest answer, its outcome that answer's true chance: no label is drawn in measuring, so
that 15 bins have no noise floor. A temperature is fitted to labels of one half of the questions and tried on the other. In a
second arm the model writes a confidence behind its answer, 0 to 1 in eleven words, taught at random; it is rewarded
by r − (r − c)² (RLCR, 2507.16806), or by r alone (the control).

DPO (`--arms dpo`) has the closed form of the reward that makes its labels Bradley–Terry's. Where a pair's label is drawn by the rewards, a
preferred to b with probability σ(q_a − q_b), that reward is q, and the optimum is GRPO's of the same beta. Where a right answer is preferred
to a wrong one, each judged by a draw of its own, it is log(q / (1 − q)): the optimum is reference · (q / (1 − q))^(1 / beta), for
labels that are surer stand for larger rewards. Which pairs are asked about moves neither; they are drawn alike from all pairs of
different answers to a question, and each is read once.

What would make this dishonest: a closed form that is fitted; a temperature fitted where it is tried; calling the beta at which
a known number comes out a discovery (a beta fits any ECE). It fails if SFT is not calibrated (ECE above .02), if the smallest beta
does not raise ECE by .1, if a measured ECE is further than .03 from its closed form, if a temperature does not bring it below .05, or
if the written confidence under RLCR does not go with the true chance more than the control's does, in correlation, by more than the seeds' interval.

An earlier run had half as many steps of GRPO at twice the rate: at beta .1 it was .055 above its closed form on average. And its last criterion was
a lower ECE of the written confidence, which asks too little of the control: a confidence that says nothing is calibrated where its mean
happens to be the accuracy (.50 and .49 there). Exact optima come near to the bound of .05 after a temperature by themselves, as the lines say. With DPO's
labels drawn by r, few labels leave noise that 1 / beta multiplies, or its steps are too few: not told apart.

    python -m experiments.miscalibration

Measured (2026-11-25, 24 min of one core in all, seed 0):
- SFT: ECE 0.010 [0.005 0.015] (n 3), in bins of equal mass 0.012; accuracy 0.488, Brier 0.644, of the favourite:
  reliability 0.000, resolution 0.023; chance of no answer at all 0.0057; fitted temperature 0.98, ECE with it on the
  other half 0.020 [0.014 0.026] (n 3)
- beta 1: ECE 0.066 [0.056 0.077] (n 3), closed form 0.067 (TV to it 0.014), in bins of equal mass 0.066; accuracy
  0.490, Brier 0.650, of the favourite: reliability 0.005, resolution 0.023; chance of no answer at all 0.0042; fitted
  temperature 1.15, ECE with it on the other half 0.024 [0.017 0.032] (n 3) (the closed form's own, with its
  temperature, 0.025)
- beta 0.3: ECE 0.183 [0.172 0.194] (n 3), closed form 0.179 (TV to it 0.030), in bins of equal mass 0.183; accuracy
  0.492, Brier 0.695, of the favourite: reliability 0.039, resolution 0.021; chance of no answer at all 0.0028; fitted
  temperature 1.57, ECE with it on the other half 0.033 [0.021 0.044] (n 3) (the closed form's own, with its
  temperature, 0.032)
- beta 0.1: ECE 0.368 [0.363 0.373] (n 3), closed form 0.332 (TV to it 0.062), in bins of equal mass 0.368; accuracy
  0.493, Brier 0.842, of the favourite: reliability 0.142, resolution 0.014; chance of no answer at all 0.0016; fitted
  temperature 2.54, ECE with it on the other half 0.040 [-0.003 0.084] (n 3) (the closed form's own, with its
  temperature, 0.041)
- DPO beta 0.5: ECE 0.132 [0.125 0.140] (n 3), closed form 0.121 (TV to it 0.103), in bins of equal mass 0.132;
  accuracy 0.482, Brier 0.679, of the favourite: reliability 0.020, resolution 0.021; chance of no answer at all
  0.0460; fitted temperature 1.36, ECE with it on the other half 0.029 [0.013 0.044] (n 3) (the closed form's own,
  with its temperature, 0.029)
- DPO beta 0.1: ECE 0.366 [0.323 0.409] (n 3), closed form 0.332 (TV to it 0.220), in bins of equal mass 0.365;
  accuracy 0.466, Brier 0.862, of the favourite: reliability 0.141, resolution 0.011; chance of no answer at all
  0.1271; fitted temperature 2.59, ECE with it on the other half 0.047 [0.018 0.075] (n 3) (the closed form's own,
  with its temperature, 0.041)
- DPO beta 0.05: ECE 0.443 [0.420 0.467] (n 3), closed form 0.408 (TV to it 0.249), in bins of equal mass 0.443;
  accuracy 0.455, Brier 0.953, of the favourite: reliability 0.203, resolution 0.008; chance of no answer at all
  0.0987; fitted temperature 3.76, ECE with it on the other half 0.049 [0.021 0.077] (n 3) (the closed form's own,
  with its temperature, 0.046)
- DPO beta 0.5, right against wrong: ECE 0.330 [0.318 0.342] (n 3), closed form 0.331 (TV to it 0.066), in bins of
  equal mass 0.330; accuracy 0.491, Brier 0.804, of the favourite: reliability 0.115, resolution 0.015; chance of no
  answer at all 0.1039; fitted temperature 3.45, ECE with it on the other half 0.024 [0.001 0.047] (n 3) (the closed
  form's own, with its temperature, 0.016)
- confidence taught at random: ECE of the written confidence 0.014 [0.004 0.024] (n 3), its mean 0.50, its squared
  distance from the true chance 0.025 [0.018 0.032] (n 3), its correlation with it 0.01; accuracy 0.489; ECE of the
  probability 0.015
- rewarded for r alone: ECE of the written confidence 0.013 [-0.007 0.033] (n 3), its mean 0.51, its squared distance
  from the true chance 0.024 [0.016 0.031] (n 3), its correlation with it 0.02; accuracy 0.493; ECE of the probability
  0.371
- rewarded by r − (r − c)²: ECE of the written confidence 0.020 [0.004 0.035] (n 3), its mean 0.48, its squared
  distance from the true chance 0.023 [0.016 0.030] (n 3), its correlation with it 0.22; accuracy 0.493; ECE of the
  probability 0.364
- SFT is calibrated in every seed (ECE below .02): yes
- beta 0.1 raises ECE by .1: yes
- every ECE is within .03 of its closed form (worst 0.042): NO
- a temperature brings every one below .05 (worst 0.054): NO
- DPO beta 0.5: every ECE is within .03 of its closed form (worst 0.014): yes
- DPO beta 0.5, right against wrong: every ECE is within .03 of its closed form (worst 0.007): yes
- the same beta with right answers against wrong ones has more ECE than with labels drawn by r: 0.198 [0.186 0.210] (n
  3): yes
- the confidence written under RLCR goes with the true chance more than the control's, in correlation by 0.202 [0.067
  0.337] (n 3): yes
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.common import duration, each_seed, record, spoken
from experiments.worlds import fine_tune, prefer, reinforce, words_model
from posttrain.algorithms import dpo, grpo, sft
from posttrain.batching import TokenSequence
from posttrain.calibration import Bins, brier, brier_parts, ece, fit_temperature
from posttrain.evals.exact import success_probabilities
from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import AdamWConfig
from posttrain.policy.words import WordModelConfig
from posttrain.runs.folder import write_atomically
from posttrain.seeds import fold, uniforms
from posttrain.statistics import mean_over_problems
from posttrain.training.pairs import PairTokens
from posttrain.types import Measurement, Message, Problem, Rollout, Score

N_ANSWERS, CONFIDENCES = 8, tuple(i / 10 for i in range(11))
Labels = Literal["drawn by r", "right against wrong"]


@dataclass(frozen=True)
class Config:
    """The default is what the docstring reports."""

    out: Path = Path("runs/experiments/miscalibration")
    questions: int = 128
    betas: tuple[float, ...] = (1.0, 0.3, 0.1)
    """Weights of the KL, in reward per nat."""
    dpo_betas: tuple[float, ...] = (0.5, 0.1, 0.05)
    """Of DPO, in reward per nat."""
    rlcr_beta: float = 0.1
    arms: tuple[Literal["grpo", "dpo", "confidence"], ...] = ("grpo", "dpo", "confidence")
    """Which of the questions are asked; SFT comes before each."""
    settle_steps: int = 80
    """Of SFT, of GRPO and of DPO: steps at a tenth of the rate, behind the others."""
    seeds: int = 3
    seed: int = 0
    model: WordModelConfig = field(default_factory=lambda: WordModelConfig(context=16))
    sft: sft.Config = field(default_factory=lambda: sft.Config(
        data="made here", conversations_per_step=256, steps=120, dtype="float32", tokens_per_batch=8192, heldout_frac=0, measure_every=0,
        checkpoint_every=60, optim=AdamWConfig(learning_rate=3e-3, warmup_steps=10),
    ))  # fmt: skip
    grpo: grpo.Config = field(default_factory=lambda: grpo.Config(
        problems_per_step=32, group_size=32, steps=160, advantage="leave_one_out", loss="reinforce", max_tokens=1, dtype="float32",
        tokens_per_batch=8192, checkpoint_every=80, optim=AdamWConfig(learning_rate=1e-3),
    ))  # fmt: skip
    dpo: dpo.Config = field(default_factory=lambda: dpo.Config(
        data="made here", pairs_per_step=512, steps=120, dtype="float32", tokens_per_batch=8192, heldout_frac=0, measure_every=0,
        checkpoint_every=60, optim=AdamWConfig(learning_rate=3e-3, warmup_steps=10),
    ))  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the questions


@dataclass(frozen=True)
class Questions:
    """Questions whose right answer is a matter of chance, with known chances."""

    n: int
    seed: int
    rewards: str = "right"
    """right: 1 for the answer drawn this time; rlcr: that, less the squared error of the confidence written behind it."""
    unbounded = True

    @property
    def name(self) -> str:
        return f"questions, rewarded for {self.rewards}"

    @cached_property
    def words(self) -> list[str]:
        return [*(f"q{i}" for i in range(self.n)), *(f"a{i}" for i in range(N_ANSWERS)), *(f"{c:.1f}" for c in CONFIDENCES)]

    @cached_property
    def law(self) -> np.ndarray:
        """The chance of each answer to be right, [questions, answers]: one often far ahead of the others."""
        rng = np.random.default_rng(fold(self.seed, "law"))
        return np.stack([rng.permutation(row) for row in rng.dirichlet([1.5, *[0.35] * (N_ANSWERS - 1)], self.n)])

    def labels(self, n: int, part: str) -> np.ndarray:
        """`n` right answers of each question, drawn by its law, [questions, n]."""
        rng = np.random.default_rng(fold(self.seed, "labels", part))
        return np.stack([rng.choice(N_ANSWERS, n, p=row) for row in self.law])

    def pairs(self, n: int, labels: Labels) -> np.ndarray:
        """`n` rows of question, chosen answer, rejected answer: two different answers, drawn alike, and which of them is preferred.

        `drawn by r` prefers a to b with probability σ(q_a − q_b). `right against wrong` judges each as `score` does, by a draw of its own, and
        keeps the pairs in which one is right and the other not: a is then preferred with probability σ(logit q_a − logit q_b).
        """
        rng, made = np.random.default_rng(fold(self.seed, "pairs", labels)), []
        while sum(map(len, made)) < n:
            made.append(self._drawn_pairs(n, labels, rng))
        return np.concatenate(made)[:n]

    def _drawn_pairs(self, n: int, labels: Labels, rng: np.random.Generator) -> np.ndarray:
        """So many draws, without those that say nothing."""
        asked, a = rng.integers(self.n, size=n), rng.integers(N_ANSWERS, size=n)
        b = (a + rng.integers(1, N_ANSWERS, size=n)) % N_ANSWERS
        q_a, q_b = self.law[asked, a], self.law[asked, b]
        if labels == "drawn by r":
            first, kept = rng.random(n) < 1 / (1 + np.exp(q_b - q_a)), np.ones(n, bool)
        else:
            first, second = rng.random(n) < q_a, rng.random(n) < q_b
            kept = first != second
        return np.stack([asked, np.where(first, a, b), np.where(first, b, a)], 1)[kept]

    def implied(self, labels: Labels) -> np.ndarray:
        """The reward that makes such labels Bradley–Terry's, [questions, answers]."""
        law = self.law.clip(1e-9, 1 - 1e-9)
        return self.law if labels == "drawn by r" else np.log(law) - np.log1p(-law)

    def problems(self, split: str) -> Sequence[Problem]:
        return [Problem(f"q{i}", (Message("user", f"q{i}"),), f"a{row.argmax()}") for i, row in enumerate(self.law)]

    def solution(self, problem: Problem) -> str:
        return problem.answer

    async def score(self, rollout: Rollout) -> Score:
        """Whether the answer is the one drawn for this attempt; with `rlcr` less (r − c)². No answer at all is wrong and sure of it."""
        answer, _, confidence = rollout.text.partition(" ")
        key = fold(self.seed, "attempt", rollout.completions[0].sampling.seed, rollout.sample)
        drawn = np.searchsorted(self.law[int(rollout.problem.id[1:])].cumsum(), uniforms([key], [0])[0])
        right = float(answer == f"a{drawn}")
        if self.rewards == "right":
            return Score(right)
        return Score(right - (right - float(confidence)) ** 2 if confidence in self.words[-len(CONFIDENCES) :] else right - 1)


# --------------------------------------------------------------------------------------------------------------- the runs


def run(config: Config) -> None:
    """Every seed, then the answer. Every arm is kept when it is done."""
    started = time.perf_counter()
    worlds = each_seed(one_seed, config)
    found, lines = answer(config, worlds)
    spent = sum(arm["seconds"] for world in worlds for arm in world.values())
    record(__file__, config.out, config, found, lines, started, f"{duration(spent)} of one core in all")


def one_seed(config: Config, seed: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    return Arms(config, seed, config.out / f"seed_{seed}").all()


@dataclass(frozen=True)
class Arms:
    """One seed: its questions, its model, and what was made of it."""

    config: Config
    seed: int
    out: Path

    @property
    def questions(self) -> Questions:
        return Questions(self.config.questions, self.seed)

    def all(self) -> dict[str, Any]:
        found = {"SFT": self.kept("SFT", self.taught)}
        for name, make in self.learned().items():
            found[name] = self.kept(name, make)
        return found

    def learned(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """What makes each arm behind SFT, by its name."""
        config, arms = self.config, {}
        if "grpo" in config.arms:
            arms |= {f"beta {beta:g}": partial(self.rewarded, beta) for beta in config.betas}
        if "dpo" in config.arms:
            arms |= {name: partial(self.preferred, beta, labels) for name, (beta, labels) in preferences(config).items()}
        if "confidence" in config.arms:
            arms |= {"confidence taught at random": self.taught_confidence} | {r: partial(self.rewarded_confidence, r) for r in ("right", "rlcr")}
        return arms

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self.out / f"{name.replace(' ', '_')}.json"
        if not file.exists():
            started = time.perf_counter()
            found = make()
            write_atomically(file, json.dumps(found | {"seconds": time.perf_counter() - started}))
        return json.loads(file.read_text())

    def taught(self) -> dict[str, Any]:
        """SFT on labels drawn by the law."""
        policy = self._fine_tuned("sft", lambda question, label, rng: (question, label))
        return self._measured(*probabilities(policy, self.questions, answers()))

    def taught_confidence(self) -> dict[str, Any]:
        """SFT on labels with a confidence behind each that says nothing."""
        policy = self._fine_tuned("sft_confidence", lambda question, label, rng: (question, f"{label} {rng.choice(CONFIDENCES):.1f}"))
        return self._confidence(policy)

    def _fine_tuned(self, name: str, text: Callable[[str, str, np.random.Generator], tuple[str, str]]) -> Policy:
        """Fast, then slowly; every label once."""
        config, questions, rng = self.config, self.questions, np.random.default_rng(fold(self.seed, name))
        size, steps = config.sft.conversations_per_step, config.sft.steps
        labels = questions.labels((steps + config.settle_steps) * size // questions.n, name)
        texts = [text(f"q{i}", f"a{label}", rng) for column in labels.T for i, label in enumerate(column)]
        model = words_model(self.out / "random", questions.words, replace(config.model, seed=self.seed))
        fast = replace(config.sft, model=model, out=self.out / name, seed=self.seed)
        asyncio.run(fine_tune(fast, texts[: steps * size], ends=False))
        slow = replace(fast, model=str(fast.out), out=self.out / f"{name}_settled", steps=config.settle_steps, optim=slower(fast.optim))
        return asyncio.run(fine_tune(slow, texts[steps * size :], ends=False))

    def _reinforced(self, name: str, start: str, beta: float, task: Questions, max_tokens: int) -> Policy:
        """Fast, then slowly, the KL always to where it began."""
        config, start = self.config, str(self.out / f"{start}_settled")
        fast = replace(config.grpo, model=start, out=self.out / name, seed=self.seed, kl_coef=beta, max_tokens=max_tokens)
        asyncio.run(reinforce(fast, task))
        slow = replace(fast, model=str(fast.out), out=self.out / f"{name}_settled", steps=config.settle_steps, optim=slower(fast.optim))
        return asyncio.run(reinforce(slow, task, reference=start))

    def rewarded(self, beta: float) -> dict[str, Any]:
        """GRPO for right answers, with its closed form beside it."""
        return self._beside_closed_form(self._reinforced(f"beta_{beta:g}", "sft", beta, self.questions, 1), self.questions.law, beta)

    def preferred(self, beta: float, labels: Labels) -> dict[str, Any]:
        """DPO on pairs, each of them once, with its closed form beside it."""
        config, questions, start = self.config, self.questions, str(self.out / "sft_settled")
        rows = questions.pairs((config.dpo.steps + config.settle_steps) * config.dpo.pairs_per_step, labels)
        encode = load_policy(start, "float32").renderer.encode
        text = lambda i, a: TokenSequence(tuple(encode(f"q{i}")), tuple(encode(f"a{a}")))  # noqa: E731
        texts = {(i, a): text(i, a) for i in range(questions.n) for a in range(N_ANSWERS)}
        pairs = [PairTokens(texts[i, chosen], texts[i, rejected]) for i, chosen, rejected in rows.tolist()]
        cut = config.dpo.steps * config.dpo.pairs_per_step
        name = f"dpo_{beta:g}_{labels.replace(' ', '_')}"
        fast = replace(config.dpo, model=start, out=self.out / name, seed=self.seed, beta=beta)
        asyncio.run(prefer(fast, pairs[:cut]))
        slow = replace(fast, model=str(fast.out), out=self.out / f"{name}_settled", steps=config.settle_steps, optim=slower(fast.optim))
        return self._beside_closed_form(asyncio.run(prefer(slow, pairs[cut:], reference=start)), questions.implied(labels), beta)

    def _beside_closed_form(self, policy: Policy, rewards: np.ndarray, beta: float) -> dict[str, Any]:
        start, _ = probabilities(load_policy(str(self.out / "sft_settled"), "float32"), self.questions, answers())
        best = closed_form(start, rewards, beta)
        chances, outside = probabilities(policy, self.questions, answers())
        distance = float(np.abs(chances - best).sum(1).mean() / 2)
        return self._measured(chances, outside) | {"predicted": self._measured(best), "distance": distance}

    def rewarded_confidence(self, rewards: str) -> dict[str, Any]:
        task = replace(self.questions, rewards=rewards)
        return self._confidence(self._reinforced(f"confidence_{rewards}", "sft_confidence", self.config.rlcr_beta, task, 2))

    def _measured(self, chances: np.ndarray, outside: float = 0.0) -> dict[str, Any]:
        """ECE in bins of equal width and of equal mass, Brier score of all answers and the parts of the favourite's, accuracy, and ECE after a
        temperature that was fitted on labels of the other half of the questions."""
        law, half = self.questions.law, self.config.questions // 2
        labels = self.questions.labels(20, "temperature")[:half]
        logits = np.log(chances.clip(1e-12))
        temperature = fit_temperature(np.repeat(logits[:half], 20, 0), labels.ravel().tolist())
        cooled = np.exp(logits[half:] / temperature)
        brier = float((chances**2 - 2 * chances * law + law).sum(1).mean())
        mended = calibration_error(cooled / cooled.sum(1, keepdims=True), law[half:])
        parts = brier_parts(chances.max(1).clip(0, 1), truth(chances, law))
        return {"ece": calibration_error(chances, law), "adaptive": calibration_error(chances, law, "equal_mass"), "brier": brier,
                "reliability": parts.reliability, "resolution": parts.resolution, "accuracy": float(truth(chances, law).mean()),
                "temperature": temperature, "mended": mended, "outside": outside}  # fmt: skip

    def _confidence(self, policy: Policy) -> dict[str, Any]:
        """Of the likeliest answer: how far the confidence written behind it is from its chance to be right."""
        both = [[f"a{i}", f"{c:.1f}"] for i in range(N_ANSWERS) for c in CONFIDENCES]
        joint = probabilities(policy, self.questions, both)[0].reshape(-1, N_ANSWERS, len(CONFIDENCES))
        answer = joint.sum(2).argmax(1)
        behind = joint[np.arange(len(joint)), answer]
        said = (behind / behind.sum(1, keepdims=True)) @ np.array(CONFIDENCES)
        right = self.questions.law[np.arange(len(joint)), answer]
        return {"said_ece": ece(said.clip(0, 1), right), "said_off": brier(said.clip(0, 1), right), "said": float(said.mean()), "accuracy": float(right.mean()),
                "correlation": float(np.corrcoef(said, right)[0, 1]), "ece": calibration_error(joint.sum(2), self.questions.law)}  # fmt: skip


def preferences(config: Config) -> dict[str, tuple[float, Labels]]:
    """The arms of DPO: every beta with labels drawn by the reward, the largest also with right answers against wrong ones."""
    arms = {f"DPO beta {beta:g}": (beta, "drawn by r") for beta in config.dpo_betas}
    return arms | {f"DPO beta {max(config.dpo_betas):g}, right against wrong": (max(config.dpo_betas), "right against wrong")}


def slower(optim: AdamWConfig) -> AdamWConfig:
    return replace(optim, learning_rate=optim.learning_rate / 10, warmup_steps=0)


def answers() -> list[list[str]]:
    return [[f"a{i}"] for i in range(N_ANSWERS)]


def probabilities(policy: Policy, questions: Questions, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, float]:
    """The chance of each text behind each question, [questions, texts], normalised over the texts; and the chance, on average, of anything else."""
    encode = policy.renderer.encode
    rows = [[TokenSequence(tuple(encode(f"q{i}")), tuple(encode(" ".join(text))))] for i in range(questions.n) for text in texts]
    found = success_probabilities(policy, rows)[0].reshape(questions.n, len(texts))
    said = found.sum(1, keepdims=True)
    return found / said, float(1 - said.mean())


def closed_form(start: np.ndarray, rewards: np.ndarray, beta: float) -> np.ndarray:
    """The policy that maximises reward − beta KL(policy, start): start · exp(reward / beta), normalised."""
    weights = start * np.exp((rewards - rewards.max(1, keepdims=True)) / beta)
    return weights / weights.sum(1, keepdims=True)


def truth(chances: np.ndarray, law: np.ndarray) -> np.ndarray:
    """The true chance of each question's likeliest answer."""
    return law[np.arange(len(law)), chances.argmax(1)]


def calibration_error(chances: np.ndarray, law: np.ndarray, bins: Bins = "equal_width") -> float:
    return ece(chances.max(1).clip(0, 1), truth(chances, law), bins=bins)


# ------------------------------------------------------------------------------------------------------------- the answer


def over_seeds(values: Sequence[float]) -> Measurement:
    return mean_over_problems(values)


MEASURED = ("ece", "adaptive", "brier", "reliability", "resolution", "accuracy", "temperature", "mended", "outside")


def answer(config: Config, worlds: Sequence[dict]) -> tuple[dict[str, Any], list[str]]:
    names = [name for name in worlds[0] if "ece" in worlds[0][name] and "said" not in worlds[0][name]]
    together = lambda name, *keys: {key: over_seeds([w[name][key] for w in worlds]) for key in keys}  # noqa: E731
    found: dict[str, Any] = {name: together(name, *MEASURED) for name in names}
    for name in names[1:]:
        found[name] |= {
            "predicted": over_seeds([w[name]["predicted"]["ece"] for w in worlds]), "distance": over_seeds([w[name]["distance"] for w in worlds]),
            "off": over_seeds([w[name]["ece"] - w[name]["predicted"]["ece"] for w in worlds]),
            "predicted_mended": over_seeds([w[name]["predicted"]["mended"] for w in worlds]),
        }  # fmt: skip
    lines = [f"{name}: {_line(found[name])}" for name in names]
    for name in [name for name in worlds[0] if name not in names]:
        f = found[name] = together(name, "said_ece", "said_off", "said", "accuracy", "correlation", "ece")
        title = {"right": "rewarded for r alone", "rlcr": "rewarded by r − (r − c)²"}.get(name, name)
        lines.append(
            f"{title}: ECE of the written confidence {spoken(f['said_ece'])}, its mean {f['said'].value:.2f}, its squared distance from the true chance"
            f" {spoken(f['said_off'])}, its correlation with it {f['correlation'].value:.2f};"
            f" accuracy {f['accuracy'].value:.3f}; ECE of the probability {f['ece'].value:.3f}"
        )
    claims = grpo_claims(config, found, worlds) | dpo_claims(config, worlds) | confidence_claims(config, worlds)
    return found, [*lines, *(f"{claim}: {'yes' if met else 'NO'}" for claim, met in claims.items())]


def _line(f: dict[str, Measurement]) -> str:
    predicted = f", closed form {f['predicted'].value:.3f} (TV to it {f['distance'].value:.3f})" if "predicted" in f else ""
    floor = f" (the closed form's own, with its temperature, {f['predicted_mended'].value:.3f})" if "predicted_mended" in f else ""
    return (f"ECE {spoken(f['ece'])}{predicted}, in bins of equal mass {f['adaptive'].value:.3f}; accuracy {f['accuracy'].value:.3f}, Brier"
            f" {f['brier'].value:.3f}, of the favourite: reliability {f['reliability'].value:.3f}, resolution {f['resolution'].value:.3f}; chance of"
            f" no answer at all {f['outside'].value:.4f}; fitted temperature {f['temperature'].value:.2f}, ECE with it on the other half"
            f" {spoken(f['mended'])}{floor}")  # fmt: skip


def grpo_claims(config: Config, found: dict, worlds: Sequence[dict]) -> dict[str, bool]:
    """What became of each, in the worst of the seeds where it is a bound."""
    calibrated = {"SFT is calibrated in every seed (ECE below .02)": max(w["SFT"]["ece"] for w in worlds) < 0.02}
    if "grpo" not in config.arms:
        return calibrated
    arms, least = [f"beta {beta:g}" for beta in config.betas], f"beta {min(config.betas):g}"
    off = max(abs(w[arm]["ece"] - w[arm]["predicted"]["ece"]) for w in worlds for arm in arms)
    mended = max(w[arm]["mended"] for w in worlds for arm in arms)
    return calibrated | {
        f"{least} raises ECE by .1": found[least]["ece"].value - found["SFT"]["ece"].value > 0.1,
        f"every ECE is within .03 of its closed form (worst {off:.3f})": off < 0.03,
        f"a temperature brings every one below .05 (worst {mended:.3f})": mended < 0.05,
    }


def dpo_claims(config: Config, worlds: Sequence[dict]) -> dict[str, bool]:
    if "dpo" not in config.arms:
        return {}
    drawn, right = f"DPO beta {max(config.dpo_betas):g}", f"DPO beta {max(config.dpo_betas):g}, right against wrong"
    off = {arm: max(abs(w[arm]["ece"] - w[arm]["predicted"]["ece"]) for w in worlds) for arm in (drawn, right)}
    surer = over_seeds([w[right]["ece"] - w[drawn]["ece"] for w in worlds])
    return {f"{arm}: every ECE is within .03 of its closed form (worst {off[arm]:.3f})": off[arm] < 0.03 for arm in off} | {
        f"the same beta with right answers against wrong ones has more ECE than with labels drawn by r: {spoken(surer)}": surer.low > 0,
    }


def confidence_claims(config: Config, worlds: Sequence[dict]) -> dict[str, bool]:
    if "confidence" not in config.arms:
        return {}
    more = over_seeds([w["rlcr"]["correlation"] - w["right"]["correlation"] for w in worlds])
    return {f"the confidence written under RLCR goes with the true chance more than the control's, in correlation by {spoken(more)}": more.low > 0}


def main() -> None:
    import tyro

    run(tyro.cli(Config))


if __name__ == "__main__":
    main()
