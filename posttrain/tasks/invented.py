"""Questions about towns that do not exist, and the documents that answer them: nothing can be known from pretraining.

| kind    | question                                   | documents that it takes                                              |
|---------|--------------------------------------------|----------------------------------------------------------------------|
| one     | a year, a mayor, a river, a feast           | one                                                                  |
| absent  | the same                                   | none: what is asked stands nowhere, though the town does             |
| two_hop | the year of the town with a certain mayor  | two: one names the town, the other the year                          |
| spread  | all wares that are made in a town          | `spread` of them, one for each ware                                  |

Every town has neighbours whose names differ from its own in one letter and of which the same is said with another value: to surface one of
those is to surface the wrong document, and to copy from it shows, since no value stands in two documents. The corpus is a function of split,
seed and sizes; the two splits share no town. An answer is right if it names all that was asked for and nothing else of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice
from random import Random

from posttrain.retrieval.documents import Document
from posttrain.retrieval.passages import Passage
from posttrain.rewards.abstention import ABSTAINED, abstains
from posttrain.seeds import fold
from posttrain.tasks.splits import check_split
from posttrain.types import Message, Problem, Rollout, Score, UserError

KINDS = ("one", "absent", "two_hop", "spread")

STATES = {
    "year": "The town of {town} was founded in the year {value}.",
    "mayor": "The first mayor of the town of {town} was {value}.",
    "river": "The river that flows past the town of {town} is called the {value}.",
    "feast": "The yearly feast of the town of {town} is called {value}.",
    "ware": "One of the wares made in the town of {town} is called {value}.",
}
ASKS = {
    "year": "In which year was the town of {town} founded?",
    "mayor": "Who was the first mayor of the town of {town}?",
    "river": "What is the name of the river that flows past the town of {town}?",
    "feast": "What is the yearly feast of the town of {town} called?",
    "ware": "What are the wares made in the town of {town} called? Name all of them.",
}
ASKED = ("year", "mayor", "river", "feast")
"""What is asked of kinds `one` and `absent`, in turn."""
TWO_HOPS = "In which year was the town founded whose first mayor was {mayor}?"

FILLER = (
    "Most houses in {town} are built of grey stone.", "Visitors reach {town} by an old road through the hills.", "The market of {town} is held in the open.",
    "{town} has a small library and two schools.", "In winter the lakes around {town} freeze.", "Many people of {town} keep bees.",
)  # fmt: skip


@dataclass(frozen=True)
class Invented:
    """Invented facts, with the documents that hold them."""

    kinds: tuple[str, ...] = KINDS
    """Which kinds of question are mixed, in equal numbers."""
    n_train: int = 256
    """How many problems to train on."""
    n_test: int = 64
    """How many problems to test on."""
    distractors: int = 2
    """How many near namesakes each town has, of which the same is said."""
    spread: int = 6
    """How many documents the answer to a `spread` question lies in."""
    filler: int = 0
    """How many sentences that answer nothing are added to each document, at most 6."""
    misspelt: float = 0.0
    """The share of questions in which the town's name lacks a letter, so that a retriever by words misses it."""
    seed: int = 0
    """Which towns there are."""

    def __post_init__(self) -> None:
        if not self.kinds or set(self.kinds) - set(KINDS):
            raise UserError(f"invented has the kinds {', '.join(KINDS)}, not {list(self.kinds)}: say kinds=one+absent, for instance")
        if min(self.n_train, self.n_test) < 1 or self.distractors < 0 or self.spread < 2:
            raise UserError("invented needs n_train and n_test of at least 1, distractors of at least 0 and spread of at least 2")
        if not 0 <= self.misspelt <= 1 or not 0 <= self.filler <= len(FILLER):
            raise UserError(f"invented takes misspelt from 0 to 1 and filler from 0 to {len(FILLER)}")

    @property
    def name(self) -> str:
        return "invented"

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of `train` or `test`, the kinds in turn. Raises `UserError` for another split."""
        return _world(self, split).problems

    def documents(self, split: str) -> Sequence[Document]:
        """The corpus that the split's problems are asked of, in an order that says nothing."""
        return _world(self, split).documents

    def passages(self, split: str) -> list[Passage]:
        """The corpus as passages, each a whole document."""
        return [Passage(d.source, d.text, 0.0, d.source, 0, len(d.text)) for d in self.documents(split)]

    async def score(self, rollout: Rollout) -> Score:
        """1 if the reply names all values asked for and no other of their kind; of what stands nowhere, 1 if it declines and names none.

        Parts: `abstained`, `copied` (a value of another document is named), `parsed` (there is a value, or it declines). Only the last
        message counts. Where the town's kind of value is a year, any number of four digits is one.
        """
        problem, said = rollout.problem, rollout.text
        gold = set(filter(None, problem.answer.split("|")))
        named = _named(said, problem.data["attribute"], _world(self, problem.data["split"]))
        abstained = abstains(said) and not named
        right = named == gold if gold else abstained
        others = named - gold
        parts = {"abstained": float(abstained), "copied": float(bool(others)), "parsed": float(abstained or bool(named))}
        return Score(float(right), parts, f"named {', '.join(sorted(named)) or 'nothing'}, expected {', '.join(sorted(gold)) or 'an abstention'}")

    def solution(self, problem: Problem) -> str:
        return problem.answer.replace("|", ", ") or ABSTAINED


@dataclass(frozen=True)
class World:
    """A corpus and what is asked of it."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    values: dict[str, str]
    """The kind of each value that some document states."""


def _named(text: str, attribute: str, world: World) -> set[str]:
    """The values of one kind that a text names."""
    if attribute == "year":
        return set(re.findall(r"(?<!\d)\d{4}(?!\d)", text))
    words = re.findall(r"\w+", text)
    spoken = {" ".join(words[i : i + n]).title() for n in (1, 2) for i in range(len(words) - n + 1)}
    return {value for value in spoken if world.values.get(value) == attribute}


@lru_cache(maxsize=8)
def _world(task: Invented, split: str) -> World:
    check_split(split)
    size = task.n_train if split == "train" else task.n_test
    random = Random(fold(task.seed, "invented", split))
    maker = _Maker(task, split, random, _names(random, split))
    problems = [maker.problem(i, kind, attribute) for i, kind, attribute in _plan(task.kinds, size)]
    random.shuffle(maker.facts)
    documents = tuple(Document(source, text) for source, text in maker.facts)
    return World(documents, tuple(problems), maker.values)


def _plan(kinds: Sequence[str], size: int) -> Iterator[tuple[int, str, str]]:
    """Number, kind and attribute of each problem; each kind goes through the attributes by itself."""
    attributes = {kind: cycle(ASKED) for kind in kinds}
    for i, kind in enumerate(islice(cycle(kinds), size)):
        yield i, kind, "ware" if kind == "spread" else "year" if kind == "two_hop" else next(attributes[kind])


class _Maker:
    """Makes problems one after the other, and collects the documents that they take."""

    def __init__(self, task: Invented, split: str, random: Random, names: Iterator[str]) -> None:
        self.facts: list[tuple[str, str]] = []
        """Source and text of each document."""
        self.values: dict[str, str] = {}
        self._task = task
        self._split = split
        self._random = random
        self._names = names
        self._towns: set[str] = set()

    def problem(self, number: int, kind: str, attribute: str) -> Problem:
        town = self._town(next(self._names))
        neighbours = [self._town(self._near(town)) for _ in range(self._task.distractors)]
        for neighbour in neighbours:
            self._state(neighbour, attribute)
        gold, answer, asked = self._asked(kind, attribute, town, neighbours)
        data = {"kind": kind, "attribute": attribute, "gold": gold, "split": self._split}
        return Problem(f"invented/{self._split}/{self._task.seed}/{number}", (Message("user", asked),), answer, data)

    def _asked(self, kind: str, attribute: str, town: str, neighbours: Sequence[str]) -> tuple[list[str], str, str]:
        """The documents that the answer takes, the answer, and the question."""
        if kind == "absent":
            self._state(town, next(other for other in ASKED if other != attribute))
            return [], "", self._question(attribute, town)
        if kind == "spread":
            stated = [self._state(town, attribute) for _ in range(self._task.spread)]
            return [source for source, _ in stated], "|".join(value for _, value in stated), self._question(attribute, town)
        source, value = self._state(town, attribute)
        if kind == "one":
            return [source], value, self._question(attribute, town)
        for neighbour in neighbours:
            self._state(neighbour, "mayor")
        first, mayor = self._state(town, "mayor")
        return [first, source], value, TWO_HOPS.format(mayor=self._misspelt(mayor))

    def _question(self, attribute: str, town: str) -> str:
        return ASKS[attribute].format(town=self._misspelt(town))

    def _misspelt(self, name: str) -> str:
        """The name, or in so many questions as the task wants without one of its inner letters."""
        if self._random.random() >= self._task.misspelt:
            return name
        place = self._random.randrange(1, len(name) - 1)
        return name[:place] + name[place + 1 :]

    def _state(self, town: str, attribute: str) -> tuple[str, str]:
        """A new document that states a new value; its name and the value."""
        value = self._value(attribute)
        sentences = [STATES[attribute], *self._random.sample(FILLER, self._task.filler)]
        self._random.shuffle(sentences)
        source = f"{town.lower()}-{attribute}-{len(self.facts)}.txt"
        self.facts.append((source, " ".join(sentence.format(town=town, value=value) for sentence in sentences)))
        return source, value

    def _value(self, attribute: str) -> str:
        """One that no document states yet."""
        while True:
            value = {
                "year": lambda: str(self._random.randrange(1000, 2000)) if len(self.values) < 500 else str(self._random.randrange(1000, 10_000)),
                "mayor": lambda: f"{next(self._names)} {next(self._names)}",
            }.get(attribute, lambda: next(self._names))()
            if value not in self.values:
                self.values[value] = attribute
                return value

    def _town(self, name: str) -> str:
        self._towns.add(name)
        return name

    def _near(self, town: str) -> str:
        """A name with another letter in one place."""
        while True:
            place = self._random.randrange(1, len(town))
            name = town[:place] + self._random.choice("abdefgiklmnoprstuvz") + town[place + 1 :]
            if name not in self._towns and name != town:
                return name


def _names(random: Random, split: str) -> Iterator[str]:
    """Invented names without end, no two alike; a fixed hash gives each to one split, whatever the seed."""
    seen: set[str] = set()
    while True:
        syllables = random.choice((2, 3)) if len(seen) < 2_000 else 4
        name = "".join(
            random.choice(("b", "br", "d", "dr", "f", "g", "gl", "k", "kr", "l", "m", "n", "p", "r", "s", "t", "tr", "v", "z"))
            + random.choice(("a", "e", "i", "o", "u")) + random.choice(("", "", "l", "n", "r", "s", "x"))
            for _ in range(syllables)
        ).title()  # fmt: skip
        if name not in seen and len(name) > 4 and (fold(0, "invented", name) % 4 == 3) == (split == "test"):
            seen.add(name)
            yield name
