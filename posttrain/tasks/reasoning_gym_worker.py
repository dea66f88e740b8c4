"""What a worker process runs for reasoning-gym tasks. Imports `reasoning_gym`: 2 to 5 seconds, and matplotlib with it.

Here, and not in the program, because judges hang and print, because some generators depend on the order of a set
(isomorphic_strings, knight_swap, polynomial_multiplication, ransom_note, word_ladder), and because nine judges hand
what the model wrote to Python's `eval` or to sympy's `parse_expr`, which is `eval` too.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from reasoning_gym.factory import DATASETS, create_dataset

from posttrain.rewards.exact import last_number, number
from posttrain.seeds import fold
from posttrain.tasks.options import defaults, typed_options, unknown
from posttrain.tasks.reasoning_gym_solutions import SOLVERS
from posttrain.types import UserError

PAGE = 500
"""How many entries are drawn from one seed; some generators lay out all their entries at the start."""

EVALUATED = {"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"}
"""Judges that hand an answer to `eval` and forgive what is no Python."""
PARSED = {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
"""Judges that hand an answer to sympy's `parse_expr`, which first rewrites what is no Python, and then runs it."""
RAISING = {"boxnet", "game_of_life", "prime_factorization"}
"""Judges that raise over an answer in the wrong form, which is a wrong answer."""

_FUNCTIONS = frozenset(
    "Abs abs sqrt exp ln log sin cos tan cot sec csc asin acos atan acot sinh cosh tanh asinh acosh atanh".split()
)
_NODES = "Expression Constant List Tuple Name Load BinOp UnaryOp operator unaryop Call"
_HARMLESS = tuple(getattr(ast, node) for node in _NODES.split())

MUST_HOLD: Mapping[str, Callable[[str, str, Mapping[str, Any]], bool]] = {
    "coin_flip": lambda answer, gold, _: abs(Fraction(answer.replace(",", "")) - Fraction(gold)) <= Fraction(1, 10_000),
    "complex_arithmetic": lambda answer, gold, _: "nan" not in answer.lower(),
    "game_of_life_halting": lambda answer, gold, _: answer.strip().lower() == gold.lower(),
    "gsm_symbolic": lambda answer, gold, _: last_number(answer) == number(gold),
    "puzzle24": lambda answer, gold, data: sorted(map(int, re.findall(r"\d+", answer))) == sorted(data["numbers"]),
}
"""What an answer must fulfil where the judge gives 1 to wrong ones: to "0" as a prefix of "0.25", to "nan", to everything, to
the wrong sign, to any four numbers; given the answer, the gold answer and the metadata."""


# ---------------------------------------------------------------------------------------------------------- what there is


def generators() -> list[str]:
    """The names of all generators."""
    return list(DATASETS)


def evaluating() -> list[str]:
    """The generators whose judges evaluate what a model wrote."""
    return sorted(EVALUATED | PARSED)


def check(generator: str, config: dict[str, Any]) -> None:
    """Raises `UserError` for an unknown generator, option or value, and for a generator that cannot be a task."""
    if generator == "composite":
        raise UserError("rg:composite is only a mixture of other generators: name one of those")
    if generator not in DATASETS:
        raise UserError(unknown("reasoning-gym generator", generator, DATASETS))
    _dataset(generator, json.dumps(config), 0)


@lru_cache(maxsize=4)
def _dataset(generator: str, config_json: str, seed: int) -> Any:
    known = {key: value for key, value in defaults(DATASETS[generator][1]).items() if key not in ("seed", "size")}
    values = typed_options(f"rg:{generator}", json.loads(config_json), known)
    try:
        return create_dataset(generator, **values, seed=seed, size=PAGE)
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(f"rg:{generator} does not take {json.loads(config_json)}: {error}") from error


# -------------------------------------------------------------------------------------------------- problems and scores


def generate(generator: str, config: dict[str, Any], seed: int, start: int, stop: int) -> list[dict[str, str]]:
    """The entries numbered `start` to `stop - 1`: question, gold answer and metadata as Python literals, or why one is left out.

    Left out is what its generator fails to make, what cannot be written down, and what has no answer that the judge
    gives 1: the gold answer is judged here as a model's would be.
    """
    check(generator, config)
    return [_problem(generator, json.dumps(config), seed, index) for index in range(start, stop)]


def _problem(generator: str, config_json: str, seed: int, index: int) -> dict[str, str]:
    page, offset = divmod(index, PAGE)
    dataset = _dataset(generator, config_json, fold(seed, "page", page) % 2**31)
    random.seed(fold(seed, index))  # a few generators draw from the global state
    np.random.seed(fold(seed, index) % 2**32)
    try:
        entry = dataset[offset]
        metadata = repr(_plain(entry["metadata"]))
        answer = SOLVERS[generator](entry["metadata"]) if generator in SOLVERS else entry["answer"]
        value = _judged(generator, config_json, answer.strip(), answer, metadata)
    except Exception as error:  # whatever it is that a generator raises, this entry is none
        return {"left_out": f"{type(error).__name__}: {error}"}
    if value != 1:
        return {"left_out": f"the judge gives {value} to the gold answer {answer!r}"}
    return {"question": str(entry["question"]), "answer": answer, "metadata": metadata}


def _plain(value: Any) -> Any:
    """The same, of Python's own types only, so that `repr` can be read back: JSON would lose tuples and whole-number keys."""
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return (set if isinstance(value, frozenset) else type(value))(map(_plain, value))
    return str(value) if isinstance(value, str) else value


def score(generator: str, config: dict[str, Any], answer: str, gold: str, metadata: str) -> float:
    """What the generator's own judge gives an answer, from 0 to 1; 0 for Python that is more than an expression."""
    return _judged(generator, json.dumps(config), answer, gold, metadata)


def _judged(generator: str, config_json: str, answer: str, gold: str, metadata: str) -> float:
    if not _may_be_evaluated(generator, answer):
        return 0.0
    entry = {"answer": None if generator in SOLVERS else gold, "metadata": ast.literal_eval(metadata)}
    try:
        value = float(_dataset(generator, config_json, 0).score_answer(answer, entry))
    except (AttributeError, LookupError, TypeError, ValueError):
        if generator in RAISING:
            return 0.0
        raise
    holds = value < 1 or generator not in MUST_HOLD or MUST_HOLD[generator](answer, gold, entry["metadata"])
    return value if holds else 0.0


def _may_be_evaluated(generator: str, answer: str) -> bool:
    """Whether the judge may have this answer: one that evaluates answers gets none that could do more than compute."""
    if generator not in EVALUATED | PARSED:
        return True
    try:
        nodes = list(ast.walk(ast.parse(answer.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return generator in EVALUATED
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    known = all(isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords for node in calls)
    return known and all(isinstance(node, _HARMLESS) for node in nodes)
