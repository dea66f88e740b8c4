"""Which city is a country's capital, among others' capitals: a task of choice that needs no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.tasks.choices import Choosing, choice_problem
from posttrain.tasks.facts import CAPITALS
from posttrain.types import Problem, UserError


@dataclass(frozen=True)
class Capitals(Choosing):
    """Every country several times, with other wrong options and places; the questions of one country count as one in intervals."""

    per_country: int = 4
    """How often each country is asked for."""
    n_options: int = 4
    """How many cities there are to choose from."""
    seed: int = 0
    """Which wrong cities, and where the right one stands."""

    def __post_init__(self) -> None:
        if self.per_country < 1 or not 2 <= self.n_options <= 26:
            raise UserError("capitals: per_country must be at least 1, and n_options from 2 to 26")

    @property
    def name(self) -> str:
        return "capitals"

    def problems(self, split: str) -> Sequence[Problem]:
        """All for `test`, every country once before any comes again. Raises UserError for `train`."""
        if split != "test":
            raise UserError("capitals has nothing to train on: it measures what a model still knows after training on something else")
        rng = np.random.default_rng(self.seed)
        rounds = [self._round(i, rng) for i in range(self.per_country)]
        return [problem for asked in rounds for problem in asked]

    def _round(self, number: int, rng: np.random.Generator) -> list[Problem]:
        cities = list(CAPITALS.values())
        found = []
        for country, capital in CAPITALS.items():
            wrong = rng.choice([city for city in cities if city != capital], self.n_options - 1, replace=False).tolist()
            right = int(rng.integers(self.n_options))
            options = (*wrong[:right], capital, *wrong[right:])
            id = f"capitals/{country}/{number + 1}"
            found.append(choice_problem(id, f"What is the capital of {country}?", options, [right], cluster=country))
        return found
