"""The bare model as an agent: it reads the problem and answers once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from posttrain.renderer import Renderer
from posttrain.seeds import fold
from posttrain.types import Completion, Engine, Problem, Rollout, Sampling


@dataclass(frozen=True)
class ModelAgent:
    """Attempts a problem by sampling one turn from an engine."""

    engine: Engine
    renderer: Renderer
    sampling: Sampling = Sampling()

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` answers, which depend on (seed, problem, sample) and on nothing else that is going on."""
        sampling = replace(self.sampling, seed=fold(seed, self.sampling.seed, problem.id))
        prompt = self.renderer.prompt(problem.messages, problem.tools)
        completions = await self.engine.sample(prompt, n, sampling, self.renderer.stop_token_ids)
        return [self._rollout(problem, completion) for completion in completions]

    def _rollout(self, problem: Problem, completion: Completion) -> Rollout:
        outcome = "terminated" if completion.stop_reason == "stop" else "truncated"
        message = self.renderer.parse(completion.token_ids, problem.tools)
        return Rollout(problem, (message,), (completion,), outcome, completion.sample)
