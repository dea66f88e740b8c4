"""An attempt of several turns as data: what was said, what came back, and who says it. The transcript is the whole state of an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from posttrain.seeds import fold
from posttrain.types import Completion, Message, Problem, Rollout, Sampling, Usage, UserError


@dataclass(frozen=True)
class Spoken:
    """One turn of the model."""

    message: Message
    completion: Completion | None = None
    """Its exact tokens; None from a model that does not show them."""
    finished: bool = True
    """Whether the turn came to its end; False where it ran into a limit."""
    complaints: tuple[str, ...] = ()
    """A sentence for each of its calls that could not be read: the model is told."""
    usage: Usage | None = None
    """What a server counted, where the tokens are not known."""


@dataclass(frozen=True)
class Turn:
    """What the model said, and what it was told."""

    spoken: Spoken
    told: tuple[Message, ...] | None = None
    """None while nothing has come back yet."""
    seconds: float = 0.0
    """How long that took, the model's own time aside."""
    done: bool = False
    """The attempt came to its end with it."""


@dataclass(frozen=True)
class Transcript:
    """One attempt as far as it has come."""

    problem: Problem
    sample: int = 0
    """Which of its siblings it is."""
    tools: Sequence[Any] = ()
    """Descriptions of what the model may call."""
    turns: tuple[Turn, ...] = ()

    @property
    def said(self) -> tuple[Message, ...]:
        """What followed the problem's own messages."""
        return tuple(m for turn in self.turns for m in (turn.spoken.message, *(turn.told or ())))

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return self.problem.messages + self.said

    @property
    def completions(self) -> tuple[Completion, ...]:
        return tuple(turn.spoken.completion for turn in self.turns if turn.spoken.completion is not None)

    @property
    def n_tokens(self) -> int:
        """How many tokens were sampled, as far as is known."""
        return sum(len(completion.token_ids) for completion in self.completions) + (self.usage.completion_tokens if self.usage else 0)

    @property
    def usage(self) -> Usage | None:
        """What a server counted, of all turns whose tokens are not known; None where there are none."""
        counted = [turn.spoken.usage for turn in self.turns if turn.spoken.usage and turn.spoken.completion is None]
        return Usage(sum(u.prompt_tokens for u in counted), sum(u.completion_tokens for u in counted)) if counted else None

    @property
    def working_s(self) -> float:
        """Seconds that the model's partner has worked."""
        return sum(turn.seconds for turn in self.turns)

    @property
    def waits(self) -> bool:
        """Whether the last turn has not been answered."""
        return bool(self.turns) and self.turns[-1].told is None

    def spoke(self, spoken: Spoken) -> Transcript:
        """The same and one turn more."""
        return replace(self, turns=(*self.turns, Turn(spoken)))

    @property
    def done(self) -> bool:
        """Whether it has come to its own end."""
        return bool(self.turns) and self.turns[-1].done

    def answered(self, told: tuple[Message, ...], seconds: float, done: bool = False) -> Transcript:
        """The same, in which the last turn has been answered."""
        return replace(self, turns=(*self.turns[:-1], Turn(self.turns[-1].spoken, told, seconds, done)))


class Speaker(Protocol):
    """Whoever says the assistant's turns: a policy, a model behind an interface, or a script."""

    async def speak(self, transcript: Transcript, n: int, seed: int, max_tokens: int) -> list[Spoken]:
        """`n` turns that may follow, in order, of at most `max_tokens` tokens each.

        Of a transcript without turns the samples 0 to n − 1 are asked for; of any other the one that it is. The same transcript
        and seed give the same turns. Raises `ContextFull` where no room is left for a token.

        One that remembers attempts between their turns has `async ended(transcript)` too, and is told there which it may forget.
        """
        ...


def turn_sampling(sampling: Sampling, transcript: Transcript, seed: int, max_tokens: int) -> Sampling:
    """How the turn that follows a transcript is drawn: from (seed, problem, sample, step), and no longer than `max_tokens`."""
    where = (transcript.sample, len(transcript.turns)) if transcript.turns else ()
    drawn = fold(seed, sampling.seed, transcript.problem.id, *where)
    return replace(sampling, seed=drawn, max_tokens=min(sampling.max_tokens, max_tokens))


@dataclass(frozen=True)
class Limits:
    """When an attempt is broken off: it is then truncated, with the reason, and not failed. Raises UserError for a limit below 1."""

    steps: int = 16
    """Turns of the model."""
    tokens: int = 8192
    """Tokens sampled in all turns together."""
    wall_s: float = 1800.0
    """Seconds by the clock, of this process: an attempt that is taken up begins to count anew."""
    working_s: float = 600.0
    """Seconds that its tools, or the world that it is in, have worked; waiting for the model does not count."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 or value < 1 and name in ("steps", "tokens"):
                raise UserError(f"an agent's limit of {name} must be above 0, not {value}")

    def spent(self, transcript: Transcript) -> str:
        """Which limit stands against another turn, in words; empty where none does."""
        if len(transcript.turns) >= self.steps:
            return f"the limit of {self.steps} steps was reached"
        if transcript.n_tokens >= self.tokens:
            return f"the limit of {self.tokens} sampled tokens was reached"
        return ""


class Journal(Protocol):
    """Told of everything as it happens, so that what was is on disk whatever comes next."""

    def begun(self, transcript: Transcript, seed: int) -> None: ...

    def spoke(self, transcript: Transcript) -> None:
        """The last turn has been said, and nothing has been run yet."""
        ...

    def answered(self, transcript: Transcript) -> None: ...

    def ended(self, rollout: Rollout) -> None: ...


class Unwritten:
    """A journal that keeps nothing."""

    def begun(self, transcript: Transcript, seed: int) -> None:
        pass

    def spoke(self, transcript: Transcript) -> None:
        pass

    def answered(self, transcript: Transcript) -> None:
        pass

    def ended(self, rollout: Rollout) -> None:
        pass
