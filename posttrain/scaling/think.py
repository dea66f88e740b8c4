"""How long a model thinks before it answers: not at all, step by step, or for a number of tokens that is forced on it.

Asking for steps or for the bare answer is a matter of the prompt (chain of thought, arXiv 2201.11903; "System 2" and
"System 1"). Budget forcing (s1, 2501.19393, section 3.1) works on the tokens: a thought that has become too long is ended by
words of ours that ask for the answer, and one that wants to end too early goes on behind "Wait".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from posttrain.renderer import Renderer
from posttrain.seeds import fold
from posttrain.types import Agent, Completion, Engine, Message, Problem, Rollout, Sampling, UserError

STEP_BY_STEP = "Think step by step, then end with the final answer."
DIRECTLY = "Reply with the final answer only, without any other words."
CUE, WAIT = "\n\nFinal answer:", "\nWait"


@dataclass(frozen=True)
class Asked:
    """An agent whose last question from the user ends in words of ours: `STEP_BY_STEP`, `DIRECTLY` or others.

    The rollouts are of the problem as it was, so that every judge takes them; what was read stands in their completions,
    and is paid for there. Raises UserError where a problem holds no question from a user.
    """

    agent: Agent
    words: str

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts at the problem with the words behind it."""
        asked = replace(problem, messages=_with_words(problem.messages, self.words))
        return [replace(rollout, problem=problem) for rollout in await self.agent.attempt(asked, n, seed)]


def _with_words(messages: Sequence[Message], words: str) -> tuple[Message, ...]:
    place = max((i for i, message in enumerate(messages) if message.role == "user"), default=None)
    if place is None:
        raise UserError("how to think is asked behind the user's question, and this problem has none: give it a message of the user")
    asked = replace(messages[place], content=f"{messages[place].content}\n\n{words}")
    return (*messages[:place], asked, *messages[place + 1 :])


@dataclass(frozen=True)
class Thought:
    """One attempt on its way: what stands behind the prompt so far, whoever wrote it, and what was sampled for it."""

    tokens: tuple[int, ...] = ()
    completions: tuple[Completion, ...] = ()

    def sampled(self, completion: Completion, kept: Sequence[int]) -> Thought:
        return Thought(self.tokens + tuple(kept), (*self.completions, completion))

    def forced(self, tokens: Sequence[int]) -> Thought:
        return replace(self, tokens=self.tokens + tuple(tokens))


class Forced(NamedTuple):
    """The words of ours as tokens."""

    end: tuple[int, ...]
    cue: tuple[int, ...]
    wait: tuple[int, ...]


@dataclass(frozen=True)
class BudgetForced:
    """A model whose thinking lasts for at least `min_thinking` and at most `max_thinking` tokens.

    A thought ends where the model writes `end` (one token of its own, such as `</think>`), or its end of turn where `end` is
    empty. One that comes to `max_thinking` tokens is ended by force: `end` and `cue` are appended, and the answer is sampled
    behind them, with at most `answer_tokens` tokens. One that would end before `min_thinking` tokens is not let: the end is taken
    away, `wait` stands in its place, and the model goes on; where `wait` fits no more, it answers. A thought that ends in time by the model's end of turn is the
    whole answer; `cue` is then not needed and not written.

    What is forced stands in the prompt of the next completion, and in no completion's own tokens: it was not sampled, and is
    never trained on. An end that was taken away stays the last token of its completion, for it was sampled. Thinking tokens
    are those of the thought as it stands, words of ours within it included, ends and the answer not. Every completion pays for
    its prompt anew (`scaling.cost`), though engines that keep a prefix read it once.

    With no budget on either side (`min_thinking` 0 and `max_thinking` out of reach) it is the bare model, token by token. An
    attempt that fills the model's context, or whose answer fills `answer_tokens`, is truncated; a thought that is cut short
    by force is not. Deviations from s1: it counts the ends that it takes away, here the tokens are counted; there a thought's
    end is a text of several tokens.
    """

    engine: Engine
    renderer: Renderer
    max_thinking: int
    min_thinking: int = 0
    answer_tokens: int = 32
    sampling: Sampling = Sampling()
    """How tokens are drawn; its `max_tokens` is not used."""
    end: str = ""
    cue: str = CUE
    wait: str = WAIT

    def __post_init__(self) -> None:
        if not 0 <= self.min_thinking <= self.max_thinking or self.max_thinking < 1 or self.answer_tokens < 1:
            raise UserError(
                f"thinking needs 0 <= min_thinking <= max_thinking and room of at least 1 token, for the answer too; not"
                f" {self.min_thinking}, {self.max_thinking} and {self.answer_tokens}"
            )
        if self.end and len(self._forced.end) != 1:
            raise UserError(f"'{self.end}' is {len(self._forced.end)} tokens of this model, and its end of thought must be one: give one that is a single token")
        if not self.cue or not self.wait:
            raise UserError("the cue for the answer and the word that makes the model go on must not be empty")

    @cached_property
    def _forced(self) -> Forced:
        return Forced(*(tuple(self.renderer.encode(text)) for text in (self.end, self.cue, self.wait)))

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        """`n` attempts; their first tokens are those of the bare model's attempts with this seed."""
        prompt = self.renderer.prompt(problem.messages)
        first = replace(self.sampling, max_tokens=self.max_thinking, seed=fold(seed, self.sampling.seed, problem.id))
        opened = await self.engine.sample(prompt, n, first, self._ends)
        return list(await asyncio.gather(*(self._go_on(problem, prompt, c, i, first.seed) for i, c in enumerate(opened))))

    @property
    def _ends(self) -> tuple[int, ...]:
        return (*self.renderer.stop_token_ids, *self._forced.end)

    async def _go_on(self, problem: Problem, prompt: tuple[int, ...], leg: Completion, i: int, seed: int) -> Rollout:
        """From the first leg of the thought to the end of the answer."""
        thought = Thought()
        while True:
            ended = leg.stop_reason == "stop"
            own = leg.token_ids[:-1] if ended else leg.token_ids
            thought = thought.sampled(leg, own)
            n = len(thought.tokens)
            if ended and n >= self.min_thinking:
                return await self._close(problem, prompt, thought, leg.token_ids[-1], i, seed)
            if not ended and n < self.max_thinking:  # the engine gave less than it was asked for: the context is full
                return self._rollout(problem, thought, "truncated", i)
            if n + len(self._forced.wait) >= self.max_thinking:
                return await self._answer(problem, prompt, thought.forced(self._forced.end + self._forced.cue), i, seed)
            thought = thought.forced(self._forced.wait)
            leg = await self._sample(prompt, thought, self.max_thinking - len(thought.tokens), self._ends, i, seed)

    async def _close(self, problem: Problem, prompt: tuple[int, ...], thought: Thought, end: int, i: int, seed: int) -> Rollout:
        """The model has ended its thought in time: its turn is over, or the answer follows the end that it wrote itself."""
        if end in self._forced.end:
            return await self._answer(problem, prompt, thought.forced((end,)), i, seed)
        return self._rollout(problem, thought, "terminated", i)

    async def _answer(self, problem: Problem, prompt: tuple[int, ...], thought: Thought, i: int, seed: int) -> Rollout:
        answer = await self._sample(prompt, thought, self.answer_tokens, self.renderer.stop_token_ids, i, seed)
        outcome = "terminated" if answer.stop_reason == "stop" else "truncated"
        return self._rollout(problem, thought.sampled(answer, answer.token_ids), outcome, i)

    async def _sample(self, prompt: tuple[int, ...], thought: Thought, limit: int, stops: Sequence[int], i: int, seed: int) -> Completion:
        drawn = replace(self.sampling, max_tokens=limit, seed=fold(seed, "forced", i, len(thought.completions)))
        (completion,) = await self.engine.sample(prompt + thought.tokens, 1, drawn, stops)
        return replace(completion, sample=i)

    def _rollout(self, problem: Problem, thought: Thought, outcome: str, i: int) -> Rollout:
        return Rollout(problem, (self.renderer.parse(thought.tokens),), thought.completions, outcome, i)

