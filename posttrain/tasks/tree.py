"""Solution trees: a made world in which planning, executing and verifying are different pieces of knowledge, and each can be counted.

The synthetic task of *Decomposing Elements of Problem Solving* (2505.22756), from its published code. A world has states,
places, actions and contexts, n of each. Two tables are to be known:

    execute   T(state, action) is the next state: n² facts, drawn at random
    plan      Q(place, action) is the next place; each place has its own permutation, so that two places in a row say which action lies between

A problem shows a first state and the places of a walk, a context before each step and some irrelevant words; the solution
writes the actions (that is planning: Q inverted) and the states in between (executing: T). One text alone is right:

    S 3 P 1 C 4 P 0 C 2 P 5 I 1 1 :          S 3 A 2 S 0 A 5 S 4

What is planted: in demonstrations an action is drawn by the habits of its state, Dirichlet(alpha), so that some of the facts of
T are seldom or never shown; and its context by the hints of the action, Dirichlet(beta), a spurious correlation. In
`train` (for reinforcement learning) and `test` both are uniform.

With `smudge` a place that a demonstration shows may be any place, whatever the action was: then the places do not say all, and the context
is worth reading. Without it (as published) models hardly do.

Verifying, which the published task has no form for, is telling the solution from one that is wrong in one place (`wrong_solution`).

Deviation: train and test never share a walk, where the published ones were drawn independently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from posttrain.seeds import fold
from posttrain.tasks.splits import check_split
from posttrain.types import Message, Problem, Rollout, Score, UserError

MARKS = (":", "S", "P", "C", "A", "I")
CHUNK, MOST_DRAWS = 1024, 50
"""Walks are drawn so many at once, whatever is wanted, so that few problems are the first of many; after so many draws for each
one wanted a world counts as too small."""


@dataclass(frozen=True)
class World:
    """The tables, and what demonstrations favour."""

    n: int
    alpha: float
    beta: float
    seed: int
    smudge: float = 0.0

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """T[state, action], Q[place, action], habits[state, action] and hints[action, context]; rows of the last two add up to 1."""
        rng = np.random.default_rng(fold(self.seed, "tree", "world", self.n))
        return (
            rng.integers(self.n, size=(self.n, self.n)), np.stack([rng.permutation(self.n) for _ in range(self.n)]),
            rng.dirichlet([self.alpha] * self.n, self.n), rng.dirichlet([self.beta] * self.n, self.n),
        )  # fmt: skip

    def walks(self, rng: np.random.Generator, n: int, lengths: tuple[int, int], irrelevant: int, demonstrated: bool) -> Walks:
        """`n` walks: with the habits and hints of demonstrations, or uniform."""
        transitions, plans, habits, hints = self.tables
        longest = lengths[1]
        states, places = np.empty((n, longest + 1), int), np.empty((n, longest + 1), int)
        states[:, 0], places[:, 0] = rng.integers(self.n, size=n), rng.integers(self.n, size=n)
        actions, contexts = rng.integers(self.n, size=(n, longest)), rng.integers(self.n, size=(n, longest))
        for i in range(longest):
            if demonstrated:
                actions[:, i] = _drawn(habits[states[:, i]], rng)
                contexts[:, i] = _drawn(hints[actions[:, i]], rng)
            states[:, i + 1] = transitions[states[:, i], actions[:, i]]
            places[:, i + 1] = plans[places[:, i], actions[:, i]]
        drawn = rng.integers(lengths[0], longest + 1, size=n)
        irrelevants = rng.integers(self.n, size=(n, irrelevant))
        if demonstrated and self.smudge:  # drawn last, so that all else is the same with it and without
            smudged = rng.random(places.shape) < self.smudge
            places = np.where(smudged, rng.integers(self.n, size=places.shape), places)
        return Walks(states, places, actions, contexts, irrelevants, drawn)


def _drawn(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column of each row, by its probabilities."""
    return np.minimum((rng.random(len(rows))[:, None] > rows.cumsum(1)).sum(1), rows.shape[1] - 1)


@dataclass(frozen=True)
class Walks:
    """Walks as arrays, one row each; columns beyond a walk's own length are not part of it."""

    states: np.ndarray
    """[walks, longest + 1]"""
    places: np.ndarray
    """[walks, longest + 1]"""
    actions: np.ndarray
    """[walks, longest]"""
    contexts: np.ndarray
    """[walks, longest]"""
    irrelevant: np.ndarray
    """[walks, irrelevant words]"""
    lengths: np.ndarray
    """[walks]: actions of each."""

    def __len__(self) -> int:
        return len(self.lengths)

    def key(self, i: int) -> tuple[int, ...]:
        """What a walk is, whatever its contexts and irrelevant words: two walks with the same key have the same solution."""
        return (int(self.states[i, 0]), int(self.places[i, 0]), *self.actions[i, : self.lengths[i]].tolist())

    def prompt(self, i: int) -> str:
        steps = zip(self.contexts[i, : self.lengths[i]], self.places[i, 1:], strict=False)
        shown = " ".join(f"C {context} P {place}" for context, place in steps)
        irrelevant = " ".join(map(str, ["I", *self.irrelevant[i]])) + " " if self.irrelevant.shape[1] else ""
        return f"S {self.states[i, 0]} P {self.places[i, 0]} {shown} {irrelevant}:"

    def solution(self, i: int) -> str:
        return written(self.states[i, : self.lengths[i] + 1], self.actions[i, : self.lengths[i]])

    def problem(self, i: int, name: str) -> Problem:
        length = self.lengths[i]
        data = {"states": self.states[i, : length + 1].tolist(), "actions": self.actions[i, :length].tolist()}
        return Problem(name, (Message("user", self.prompt(i)),), self.solution(i), data)

    def facts(self, n: int) -> np.ndarray:
        """How often each T(state, action) is used, [state, action]."""
        counts = np.zeros((n, n), int)
        inside = np.arange(self.actions.shape[1]) < self.lengths[:, None]
        np.add.at(counts, (self.states[:, :-1][inside], self.actions[inside]), 1)
        return counts


def written(states: Sequence[int] | np.ndarray, actions: Sequence[int] | np.ndarray) -> str:
    """`S s0 A a0 S s1 …`"""
    return " ".join([f"S {states[0]}", *(f"A {a} S {s}" for a, s in zip(actions, states[1:], strict=True))])


def read(text: str) -> tuple[list[int], list[int]] | None:
    """The states and actions of a written walk; None for anything else."""
    words = text.split()
    marks, numbers = words[::2], words[1::2]
    if not numbers or len(marks) != len(numbers) or marks != ["S", *["A", "S"] * (len(marks) // 2)]:
        return None
    if not all(word.isdecimal() for word in numbers):
        return None
    values = [int(word) for word in numbers]
    return values[::2], values[1::2]


@dataclass(frozen=True)
class Steps:
    """What each written step of an attempt was worth."""

    starts: bool
    """Whether it begins in the state that it was given, and has as many steps as the walk."""
    planned: list[bool]
    """Of each step: the action is the one between its two places, whatever state it is taken in."""
    executed: list[bool]
    """Of each step: the state written is where the action written leads from the state written before."""

    @property
    def solves(self) -> bool:
        """All is right: the attempt then is the gold solution, and the other way round."""
        return self.starts and all(self.planned) and all(self.executed)


@dataclass(frozen=True)
class SolutionTree:
    """Walks through a made world. The defaults are the published sizes; the published count of demonstrations is 200,000."""

    n: int = 20
    """States, places, actions and contexts, of each so many."""
    lengths: tuple[int, ...] = (5, 10)
    """Fewest and most steps of a walk."""
    irrelevant: int = 10
    """Words behind the walk that mean nothing."""
    alpha: float = 0.3
    """Of the habits in demonstrations: the smaller, the more facts are never shown."""
    beta: float = 0.3
    """Of the hints in demonstrations: the smaller, the more a context says of its action."""
    smudge: float = 0.0
    """Chance that a place shown in a demonstration is any place; 0 as published."""
    n_train: int = 128
    """Problems for reinforcement learning; a smaller number takes the first of a larger one's."""
    n_test: int = 512
    seed: int = 0
    """Of the world, and of everything drawn in it."""

    def __post_init__(self) -> None:
        if len(self.lengths) != 2 or not 1 <= self.lengths[0] <= self.lengths[1]:
            raise UserError(f"tree needs lengths=FEWEST+MOST with 1 <= FEWEST <= MOST, not {'+'.join(map(str, self.lengths))}")
        if self.n < 2 or min(self.n_train, self.n_test) < 1 or self.irrelevant < 0:
            raise UserError("tree needs n of at least 2, n_train and n_test of at least 1, and irrelevant of at least 0")
        if not (self.alpha > 0 and self.beta > 0):
            raise UserError("tree needs alpha and beta above 0")
        if not 0 <= self.smudge < 1:
            raise UserError("tree needs smudge from 0 up to, but not, 1")

    @property
    def name(self) -> str:
        return "tree"

    @property
    def words(self) -> tuple[str, ...]:
        """All that prompts and solutions are made of."""
        return (*MARKS, *map(str, range(self.n)))

    @cached_property
    def world(self) -> World:
        return World(self.n, self.alpha, self.beta, self.seed, self.smudge)

    @property
    def longest_tokens(self) -> int:
        """Words of the longest solution, with its end."""
        return 2 + 4 * self.lengths[1] + 1

    def problems(self, split: str) -> Sequence[Problem]:
        """Walks with uniform actions and contexts, all different. Raises UserError for another split, and where the world holds too few."""
        check_split(split)
        test = self._drawn("test", self.n_test)
        drawn = test if split == "test" else self._drawn("train", self.n_train, frozenset(test))
        return list(drawn.values())

    def _drawn(self, split: str, n: int, taken: frozenset = frozenset()) -> Mapping[tuple[int, ...], Problem]:
        return _different(self.world, _pair(self.lengths), self.irrelevant, split, n, taken)

    def demonstrations(self, n: int, part: str = "sft") -> Walks:
        """`n` walks as supervised learning sees them; `part` names an independent draw."""
        return self.world.walks(np.random.default_rng(fold(self.seed, "tree", part)), n, _pair(self.lengths), self.irrelevant, True)

    def wrong_solution(self, problem: Problem) -> str:
        """The solution with one action, or one state but the first, other than it should be: the same one whenever it is asked for."""
        rng = np.random.default_rng(fold(self.seed, "wrong", problem.id))
        states, actions = list(problem.data["states"]), list(problem.data["actions"])
        column, first = (actions, 0) if rng.integers(2) else (states, 1)
        at = int(rng.integers(first, len(column)))
        column[at] = (column[at] + int(rng.integers(1, self.n))) % self.n
        return written(states, actions)

    async def score(self, rollout: Rollout) -> Score:
        """1 for the one right text, else 0; the parts `plan` and `execute` are the shares of steps right in either way.

        An attempt that is no walk has no such parts, and `parsed` 0.
        """
        problem, right = rollout.problem, rollout.text.split() == rollout.problem.answer.split()
        steps = self.steps(problem, rollout.text)
        if steps is None or not steps.planned:
            return Score(float(right), {"parsed": 0.0}, "no walk")
        parts = {"parsed": 1.0, "plan": float(np.mean(steps.planned)), "execute": float(np.mean(steps.executed))}
        return Score(float(right), parts, f"looked for {problem.answer}")

    def steps(self, problem: Problem, text: str) -> Steps | None:
        """What each step of the attempt was worth, as far as the walk goes; None where the text is no walk through this world."""
        found = read(text)
        if found is None or max(*found[0], *found[1], 0) >= self.n:
            return None
        states, actions = found
        gold, transitions = problem.data["actions"], self.world.tables[0]
        planned = [a == b for a, b in zip(actions, gold, strict=False)]
        executed = [bool(transitions[s, a] == after) for s, a, after in zip(states, actions, states[1:], strict=False)]
        return Steps(states[0] == problem.data["states"][0] and len(actions) == len(gold), planned, executed[: len(planned)])

    def solution(self, problem: Problem) -> str:
        return problem.answer


def _pair(lengths: tuple[int, ...]) -> tuple[int, int]:
    return lengths[0], lengths[1]


@lru_cache(maxsize=64)
def _different(
    world: World, lengths: tuple[int, int], irrelevant: int, split: str, n: int, taken: frozenset
) -> Mapping[tuple[int, ...], Problem]:
    """By their keys, the problems of the first `n` uniform walks that differ from one another and from those `taken`."""
    found: dict[tuple[int, ...], Problem] = {}
    for number in range(2 + MOST_DRAWS * n // CHUNK):
        walks = world.walks(np.random.default_rng(fold(world.seed, "tree", split, number)), CHUNK, lengths, irrelevant, demonstrated=False)
        for i in range(CHUNK):
            if len(found) == n:
                return found
            if (key := walks.key(i)) not in found and key not in taken:
                found[key] = walks.problem(i, f"tree/{split}/{len(found)}")
    raise UserError(f"this world holds too few different walks for {n} problems: ask for fewer, or take a larger n or longer walks")
