"""Sums to work out, made here: no data to fetch, a judge that cannot be wrong, and five levels of difficulty.

| level | expressions                                     | how many  |
|-------|-------------------------------------------------|-----------|
| 1     | one-digit additions                             | 100       |
| 2     | two-digit additions                             | 8,100     |
| 3     | two-digit additions and subtractions            | 16,200    |
| 4     | level 3, and one digit (2 to 9) times two       | 16,920    |
| 5     | two steps: `a±b±c`, and `d*a±b`                 | 3,045,600 |

Train and test are disjoint by expression, whatever the seed and the sizes: a fixed hash of the numbers and signs that an
expression is made of, in any order, gives a fifth of them to the test. So `3+5` is never trained on where `5+3` is
asked in the test, and a model trained with one seed may be tested with another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from posttrain.rewards.exact import exact_number, last_number
from posttrain.seeds import fold
from posttrain.tasks.splits import check_split
from posttrain.types import Message, Problem, Rollout, Score, UserError

_PATIENCE = 30
"""A level counts as used up after this many draws in a row, for each expression found, without a new one."""


@dataclass(frozen=True)
class Arithmetic:
    """Made sums. Level 1 is partly within reach of a 135M model before any training; level 5 is not."""

    levels: tuple[int, ...] = (1, 2)
    """The levels mixed in, from 1 to 5: in equal numbers, as far as each has enough different expressions."""
    n_train: int = 256
    """How many problems to train on; fewer if the levels hold fewer."""
    n_test: int = 64
    """How many problems to test on; fewer if the levels hold fewer."""
    seed: int = 0
    """Which expressions are drawn, and their order."""

    def __post_init__(self) -> None:
        if not self.levels or set(self.levels) - set(_DRAW):
            raise UserError(f"arithmetic has the levels 1 to 5, not {list(self.levels)}: say levels=1+2, for instance")
        if min(self.n_train, self.n_test) < 1:
            raise UserError(f"arithmetic needs n_train and n_test of at least 1, not {self.n_train} and {self.n_test}")

    @property
    def name(self) -> str:
        return "arithmetic"

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of `train` or `test`: all different, the levels mixed. Raises `UserError` for another split."""
        check_split(split)
        size = self.n_train if split == "train" else self.n_test
        return _problems(tuple(sorted(set(self.levels))), split, size, self.seed)

    async def score(self, rollout: Rollout) -> Score:
        """1 if the last number in the last message is the answer, else 0; `exact_number` says why the last."""
        return await exact_number(rollout)

    def solution(self, problem: Problem) -> str:
        return problem.answer

    def final_answer(self, text: str) -> str | None:
        """The number that the judge looks at."""
        return last_number(text)


@cache
def _problems(levels: tuple[int, ...], split: str, size: int, seed: int) -> tuple[Problem, ...]:
    supplies = [_expressions(level, split, seed) for level in levels]
    values: dict[str, int] = {}
    while supplies and len(values) < size:
        supply = supplies.pop(0)
        if (drawn := next((pair for pair in supply if pair[0] not in values), None)) is not None:
            values.update([drawn])
            supplies.append(supply)
    order = sorted(values, key=lambda expression: fold(seed, "order", expression))
    return tuple(_problem(expression, values[expression]) for expression in order)


def _problem(expression: str, value: int) -> Problem:
    question = f"What is {expression}? Answer with the number only."
    return Problem(f"arithmetic/{expression}", (Message("user", question),), str(value))


def _expressions(level: int, split: str, seed: int) -> Iterator[tuple[str, int]]:
    """The different expressions of one level and split with their values, in random order, until they seem used up."""
    random = Random(fold(seed, "arithmetic", split, level))
    seen: set[str] = set()
    misses = 0
    while misses < _PATIENCE * (len(seen) + 100):
        expression, value = _DRAW[level](random)
        misses += 1
        if expression not in seen and _is_test(expression) == (split == "test"):
            misses = 0
            seen.add(expression)
            yield expression, value


@lru_cache(maxsize=1 << 16)
def _is_test(expression: str) -> bool:
    # Any remainder would do for the large levels; this one gives the test 21 of the 100 one-digit additions.
    return fold(0, "arithmetic", *sorted(re.findall(r"\d+|\D", expression))) % 5 == 4


def _one_digit_sum(random: Random) -> tuple[str, int]:
    a, b = random.randint(0, 9), random.randint(0, 9)
    return f"{a}+{b}", a + b


def _two_digit_sum(random: Random) -> tuple[str, int]:
    a, b = random.randint(10, 99), random.randint(10, 99)
    return f"{a}+{b}", a + b


def _sum_or_difference(random: Random) -> tuple[str, int]:
    a, b = random.randint(10, 99), random.randint(10, 99)
    return random.choice([(f"{a}+{b}", a + b), (f"{a}-{b}", a - b)])


def _one_step(random: Random) -> tuple[str, int]:
    if random.random() < 2 / 3:
        return _sum_or_difference(random)
    a, b = random.randint(2, 9), random.randint(10, 99)
    return f"{a}*{b}", a * b


def _two_steps(random: Random) -> tuple[str, int]:
    first, value = _one_step(random)
    sign, c = random.choice("+-"), random.randint(10, 99)
    return f"{first}{sign}{c}", value + c if sign == "+" else value - c


_DRAW = {1: _one_digit_sum, 2: _two_digit_sum, 3: _sum_or_difference, 4: _one_step, 5: _two_steps}
