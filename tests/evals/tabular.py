"""A policy that is a table: one token for each answer, with exact probabilities at any temperature."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from posttrain.seeds import fold, uniforms
from posttrain.types import Completion, Message, Problem, Rollout, Sampling


@dataclass(frozen=True)
class Tabular:
    """Answers problem i with the number a with probability softmax(logits[i] / temperature)[a]."""

    logits: np.ndarray
    """[problems, answers]"""
    sampling: Sampling = field(default_factory=Sampling)

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        scaled = self.logits[int(problem.id.split("-")[-1])] / self.sampling.temperature
        logprobs = scaled - np.log(np.exp(scaled - scaled.max()).sum()) - scaled.max()
        edges = np.exp(logprobs).cumsum()
        edges[-1] = 1.0
        drawn = np.searchsorted(edges, uniforms([fold(seed, problem.id, i) for i in range(n)], [0] * n), side="right")
        return [self._rollout(problem, int(answer), float(logprobs[answer]), i) for i, answer in enumerate(drawn)]

    def at(self, temperature: float) -> Tabular:
        return replace(self, sampling=replace(self.sampling, temperature=temperature))

    def _rollout(self, problem: Problem, answer: int, logprob: float, sample: int) -> Rollout:
        completion = Completion((0,), (answer,), (logprob,), "stop", self.sampling, sample)
        return Rollout(problem, (Message("assistant", str(answer)),), (completion,), "terminated", sample)
