"""An agent, and a speaker, whose words are a function: for baselines, dry runs and tests, where the truth is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from posttrain.agents.conversation import Spoken, Transcript
from posttrain.types import Completion, Message, Problem, Rollout, Sampling

END_OF_TEXT = 3
"""The stop token: ASCII's own end-of-text."""


@dataclass(frozen=True)
class ScriptedAgent:
    """Attempts by calling `answer(problem, sample, seed)`; its tokens are UTF-8 bytes, and end with `END_OF_TEXT`.

    What does not fit into `sampling.max_tokens` is cut, and the attempt is truncated. An exception makes an attempt whose
    outcome is `error`, with its text as the reason. Every token has the log-probability 0, for nothing was drawn.
    """

    answer: Callable[[Problem, int, int], str]
    sampling: Sampling = Sampling()

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts, in order."""
        return [self._attempt(problem, sample, seed) for sample in range(n)]

    def _attempt(self, problem: Problem, sample: int, seed: int) -> Rollout:
        try:
            text = self.answer(problem, sample, seed)
        except Exception as error:
            return Rollout(problem, (), outcome="error", sample=sample, error=f"{type(error).__name__}: {error}")
        tokens = (*text.encode(), END_OF_TEXT)
        kept = tokens[: self.sampling.max_tokens]
        whole = kept == tokens
        completion = Completion(
            prompt_token_ids=tuple("\n".join(message.content for message in problem.messages).encode()),
            token_ids=kept,
            sampling_logprobs=(0.0,) * len(kept),
            stop_reason="stop" if whole else "length",
            sampling=replace(self.sampling, seed=seed),
            sample=sample,
        )
        said = text if whole else bytes(kept).decode(errors="replace")
        return Rollout(problem, (Message("assistant", said),), (completion,), "terminated" if whole else "truncated", sample)


@dataclass(frozen=True)
class ScriptedSpeaker:
    """Says what `say(transcript, sample, seed)` gives, a text or a message with calls; it has no tokens. An exception is its own."""

    say: Callable[[Transcript, int, int], Message | str]

    async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
        samples = [transcript.sample] if transcript.turns else range(n)
        said = [self.say(transcript, sample, seed) for sample in samples]
        return [Spoken(Message("assistant", x) if isinstance(x, str) else x) for x in said]
