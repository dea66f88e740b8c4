"""A policy, or any other engine of tokens, as a speaker: what it has read and written keeps its tokens from turn to turn."""

from __future__ import annotations

from dataclasses import dataclass

from posttrain.agents.conversation import Spoken, Transcript, turn_sampling
from posttrain.batching import row_begun
from posttrain.renderer import Renderer
from posttrain.types import Completion, Engine, Message, Sampling, UserError


@dataclass(frozen=True)
class LocalSpeaker:
    """Samples the assistant's turns from an engine, and reads the calls in them as the model writes them."""

    engine: Engine
    renderer: Renderer
    sampling: Sampling = Sampling()
    """Of each turn; its `max_tokens` is a turn's longest."""

    async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
        """`n` turns, which depend on (seed, problem, sample, step) and on what was said, and on nothing else that is going on."""
        sampling = turn_sampling(self.sampling, transcript, seed, max_tokens)
        prompt = self.prompt(transcript)
        begun = row_begun(transcript.completions, prompt)
        completions = await self.engine.sample(prompt, n, sampling, self.renderer.stop_token_ids, begun)
        return [self._spoken(completion, transcript) for completion in completions]

    async def ended(self, transcript: Transcript) -> None:
        """The attempt will not go on: an engine that remembers it need not."""
        if transcript.completions and (forget := getattr(self.engine, "forget", None)):
            last = transcript.completions[-1]
            await forget(last.prompt_token_ids, last.token_ids)

    def prompt(self, transcript: Transcript) -> tuple[int, ...]:
        """The tokens that are read before the next turn; what tools said can end no turn in it (`Renderer.defused`). Raises UserError for a turn whose tokens are not known."""
        if not transcript.turns:
            return self.renderer.prompt(transcript.problem.messages, transcript.tools)
        last = transcript.turns[-1]
        if last.spoken.completion is None:
            raise UserError("this attempt has a turn whose tokens were not kept, so that a policy cannot go on from it: begin it anew")
        told = self.renderer.harmless(last.told or ())
        before = self.renderer.harmless(transcript.messages[: -1 - len(told)])
        seen = last.spoken.completion.prompt_token_ids + last.spoken.completion.token_ids
        return self.renderer.prompt_after(seen, before, last.spoken.message, told, transcript.tools)

    def _spoken(self, completion: Completion, transcript: Transcript) -> Spoken:
        read = self.renderer.read(completion.token_ids, transcript.tools)
        message = Message("assistant", read.content, read.calls)
        return Spoken(message, completion, completion.stop_reason == "stop", read.complaints)
