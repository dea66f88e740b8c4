"""Answers for the reasoning-gym generators that come without one: their entries hold None, since many answers would do.

A solver takes an entry's metadata and returns an answer. Whether the generator's own judge gives it 1 is checked when
the problems are made, as it is for every generator.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

Metadata = Mapping[str, Any]
Square = tuple[float, float]


def boxnet(metadata: Metadata) -> str:
    """Carry one box after the other, square by square, to a target of its colour."""
    squares = metadata["initial_state"]
    colours = {item.removeprefix("box_") for items in squares.values() for item in items if item.startswith("box_")}
    steps: list[dict[str, str]] = []
    for colour in sorted(colours):
        for here, there in zip(_places(squares, f"box_{colour}"), _places(squares, f"target_{colour}"), strict=True):
            hops = pairwise(_walk(here, there))
            steps += [{f"Agent[{a[0]}, {a[1]}]": f"move(box_{colour}, square[{b[0]}, {b[1]}])"} for a, b in hops]
            steps += [{f"Agent[{there[0]}, {there[1]}]": f"move(box_{colour}, target_{colour})"}]
    return json.dumps(steps)


def _places(squares: Mapping[str, list[str]], item: str) -> list[Square]:
    found = [tuple(map(float, square.split("_"))) for square, items in squares.items() for _ in range(items.count(item))]
    return [(row, column) for row, column in found]


def _walk(here: Square, there: Square) -> list[Square]:
    """The squares from one to another, both included: along the column first, then along the row."""
    path = [here]
    while (at := path[-1]) != there:
        row, column = at
        down, right = there[0] - row, there[1] - column
        path.append((row + (1 if down > 0 else -1), column) if down else (row, column + (1 if right > 0 else -1)))
    return path


def graph_color(metadata: Metadata) -> str:
    """The colouring that the generator found."""
    return json.dumps(metadata["possible_answer"])


def propositional_logic(metadata: Metadata) -> str:
    """All premises at once, which always follow; twice over, since a lone variable counts as trivial."""
    return " ∧ ".join(f"({premise})" for premise in metadata["premises"] * 2)


def rubiks_cube(metadata: Metadata) -> str:
    """The scramble backwards. The judge reads no moves of inner layers, as cubes of four and more have them."""
    moves = reversed(metadata["scramble_moves"].split())
    return " ".join(move.removesuffix("'") if move.endswith("'") else f"{move}'" for move in moves)


# ------------------------------------------------------------------------------------------------------------ rush hour

_SIDE = 6
_EXIT = 16
"""Where the left end of the red car stands when it is out: row 2, column 4."""


class _Board:
    """Cars named A, B, … in the order of their labels, each with a direction and, for each position, the cells that it fills."""

    def __init__(self, cells: str) -> None:
        labels = sorted(set(cells) - set("ox"))
        where = [[i for i, cell in enumerate(cells) if cell == label] for label in labels]
        self.start = tuple(car[0] for car in where)
        self.strides = [car[1] - car[0] for car in where]
        self.lengths = [len(car) for car in where]
        self.walls = sum(1 << i for i, cell in enumerate(cells) if cell == "x")
        self.masks = [
            [sum(1 << (position + stride * i) for i in range(length)) for position in range(_SIDE * _SIDE)]
            for stride, length in zip(self.strides, self.lengths, strict=True)
        ]

    def room(self, car: int, position: int) -> tuple[int, int]:
        """How far the car may go back and forward before it leaves the board."""
        along = position % _SIDE if self.strides[car] == 1 else position // _SIDE
        return along, _SIDE - self.lengths[car] - along

    def moves(self, state: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every slide of one car past free cells, and the state after it."""
        masks = [self.masks[car][position] for car, position in enumerate(state)]
        taken = self.walls + sum(masks)
        for car, position in enumerate(state):
            for sign, room in zip("-+", self.room(car, position), strict=True):
                for steps in range(1, room + 1):
                    there = position + (steps if sign == "+" else -steps) * self.strides[car]
                    if self.masks[car][there] & (taken - masks[car]):
                        break
                    yield f"{chr(ord('A') + car)}{sign}{steps}", (*state[:car], there, *state[car + 1 :])


def rush_hour(metadata: Metadata) -> str | None:
    """A shortest solution, found breadth first; None if the red car cannot get out."""
    board = _Board(metadata["board_config"])
    came: dict[tuple[int, ...], tuple[str, tuple[int, ...]] | None] = {board.start: None}
    queue = deque([board.start])
    while queue:
        state = queue.popleft()
        if state[0] == _EXIT:
            return " ".join(_moves_to(state, came))
        for move, after in board.moves(state):
            if after not in came:
                came[after] = (move, state)
                queue.append(after)
    return None


def _moves_to(state: tuple[int, ...], came: Mapping[tuple[int, ...], tuple[str, tuple[int, ...]] | None]) -> list[str]:
    moves: list[str] = []
    while (step := came[state]) is not None:
        move, state = step
        moves.append(move)
    return moves[::-1]


SOLVERS: Mapping[str, Callable[[Metadata], str | None]] = {
    solve.__name__: solve for solve in (boxnet, graph_color, propositional_logic, rubiks_cube, rush_hour)
}
