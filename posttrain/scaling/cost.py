"""What an attempt has spent, in tokens: also on what a search read, wrote and threw away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from posttrain.types import Rollout

VerifierTokens = Callable[[Rollout], int]
"""How many tokens judging a rollout takes, read and written together."""


@dataclass(frozen=True)
class Spent:
    """Tokens by what they were for. Records add up with `+`."""

    prompt_tokens: int = 0
    """Read before each completion, counted anew for each: an engine whose siblings share a prompt pays less."""
    sampled_tokens: int = 0
    """Written by the model, thinking and answers alike, in attempts kept and thrown away."""
    verifier_tokens: int = 0
    """Read and written by judges that chose between attempts."""
    difficulty_tokens: int = 0
    """Read and written to find out how hard a problem is."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Spent)))

    @property
    def total_tokens(self) -> int:
        return sum(getattr(self, f.name) for f in fields(Spent))


@dataclass(frozen=True)
class SearchedRollout(Rollout):
    """The rollout that a search returned, with what the whole search spent. A `Rollout` to all who do not ask."""

    spent: Spent = Spent()


def spent_on(rollout: Rollout) -> Spent:
    """What a rollout has spent: a search's own record, else the tokens of the rollout's completions."""
    if isinstance(rollout, SearchedRollout):
        return rollout.spent
    return Spent(sum(len(c.prompt_token_ids) for c in rollout.completions), rollout.n_tokens)


def total(rollouts: Iterable[Rollout]) -> Spent:
    """What several rollouts have spent together; nothing for none."""
    return sum((spent_on(rollout) for rollout in rollouts), Spent())


def searched(chosen: Rollout, spent: Spent, sample: int) -> SearchedRollout:
    """`chosen` as the search's attempt number `sample`, with `spent` in place of whatever record it carried."""
    return SearchedRollout(
        chosen.problem, chosen.messages, chosen.completions, chosen.outcome, sample, chosen.error, state=chosen.state, spent=spent
    )


def free(rollout: Rollout) -> int:
    """The cost of a judge that runs no model."""
    return 0
