"""How per-token losses become one number. The choice changes the gradient, so it has a name.

The loss of an optimizer step is the sum over all its predicted tokens of weight times loss. The weights come from the
lengths of *all* rollouts of the step, once, before it is cut; a minibatch then just sums its own part, and any cutting,
in any order and on any number of workers, adds up to the same gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Reduction = Literal["token", "sequence", "constant"]
"""`token`: every token of the step counts the same (DAPO, 2503.14476, section 3.3).
`sequence`: every rollout counts the same, so a token of a long one counts less (GRPO as published, 2402.03300, eq. 3).
`constant`: a rollout's sum over a fixed length, so that length earns and costs nothing (Dr. GRPO, 2503.20783)."""


def token_weights(lengths: Sequence[int], over: Reduction, constant: int | None = None) -> list[float]:
    """For each rollout, the weight of each of its tokens: `loss = sum(weight[rollout of n] * loss[n] for n in tokens)`.

    `lengths` holds the predicted tokens of every rollout of the optimizer step: those without an advantage, dropped
    groups and unscored ones too, so that leaving out what has no gradient leaves the others' gradient as it was.

    - token: 1 / all tokens
    - sequence: 1 / (rollouts * own length)
    - constant: 1 / (rollouts * constant); `constant` is the longest completion allowed, in tokens, and used here alone

    A rollout without tokens weighs 0 but counts as a rollout; no rollouts, no weights. Raises ValueError for a
    reduction that does not exist, a negative length, or `constant` without a positive constant.
    """
    if any(length < 0 for length in lengths):
        raise ValueError("a length cannot be negative")
    n = len(lengths)
    match over:
        case "token":
            divisors = [sum(lengths)] * n
        case "sequence":
            divisors = [n * length for length in lengths]
        case "constant":
            if not (constant and constant > 0):
                raise ValueError("the reduction 'constant' needs its constant: the longest completion allowed, in tokens")
            divisors = [n * constant] * n
        case _:
            raise ValueError(f"no reduction is called {over!r}: choose one of {', '.join(get_args(Reduction))}")
    return [1 / divisor if length else 0.0 for length, divisor in zip(lengths, divisors, strict=True)]
