"""An engine whose completions are a function: for tests and dry runs, where what is written is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from posttrain.types import Completion, Sampling

Score = Callable[[Sequence[tuple[Sequence[int], Sequence[int]]]], Sequence[tuple[Sequence[float], Sequence[float]]]]


@dataclass(frozen=True)
class ScriptedEngine:
    """An `Engine` that writes what `write(prompt, sample, seed)` gives, as far as `max_tokens` goes.

    With `score` (a policy's `score_tokens`) the log-probs are those that the policy gives the tokens at temperature 1, as if it had
    sampled them; without, they are 0, for nothing was drawn.
    """

    write: Callable[[tuple[int, ...], int, int], Sequence[int]]
    score: Score | None = None

    async def sample(
        self, prompt_token_ids: Sequence[int], n: int, sampling: Sampling, stop_token_ids: Sequence[int] = (), begun: int = 0
    ) -> list[Completion]:
        """`n` completions, each up to its first stop token."""
        prompt = tuple(prompt_token_ids)
        return [self._completion(prompt, sample, sampling, stop_token_ids) for sample in range(n)]

    def _completion(self, prompt: tuple[int, ...], sample: int, sampling: Sampling, stops: Sequence[int]) -> Completion:
        tokens = tuple(self.write(prompt, sample, sampling.seed))[: sampling.max_tokens]
        end = next((i + 1 for i, token in enumerate(tokens) if token in stops), None)
        logprobs = self.score([(prompt, tokens[:end])])[0][0] if self.score else (0.0,) * len(tokens[:end])
        return Completion(prompt, tokens[:end], tuple(logprobs), "stop" if end else "length", sampling, sample)
