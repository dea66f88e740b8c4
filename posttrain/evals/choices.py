"""Multiple choice by likelihood: which of the given answers a model finds most likely, and how sure it is.

Two forms, both of them common and not equal: the *letter* of the option, after all options have been listed, and the
*text* of the option as the answer to the bare question, as the sum of its tokens' log-probs and per byte (a sum favours
short options). Confidence is the probability of the chosen option among the options given, which is not the model's
probability of saying it.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain import calibration
from posttrain.evals.scorer import TokenScorer
from posttrain.statistics import rate_over_problems
from posttrain.tasks.facts import CAPITALS
from posttrain.types import Measurement, Message, UserError


@dataclass(frozen=True)
class Choice:
    """A question, its options, and which of them is right."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class ChoiceScores:
    """Log-probs of every option of every question, [questions][options], in nats."""

    choices: tuple[Choice, ...]
    letter: tuple[tuple[float, ...], ...]
    text: tuple[tuple[float, ...], ...]
    per_byte: tuple[tuple[float, ...], ...]


Prompt = Callable[[Sequence[Message]], Sequence[int]]
Encode = Callable[[str], Sequence[int]]


def score_choices(scorer: TokenScorer, prompt: Prompt, encode: Encode, choices: Sequence[Choice]) -> ChoiceScores:
    """Ask every question in both forms, all in two calls to the scorer."""
    if not choices:
        raise UserError("there are no questions to choose on")
    letters = [[(prompt([Message("user", listed(c))]), encode(string.ascii_uppercase[i])) for i in range(len(c.options))] for c in choices]
    texts = [[(prompt([Message("user", c.question)]), encode(option)) for option in c.options] for c in choices]
    by_letter, by_text = (_sums(scorer, rows) for rows in (letters, texts))
    per_byte = tuple(
        tuple(x / len(option.encode()) for x, option in zip(row, c.options, strict=True)) for row, c in zip(by_text, choices, strict=True)
    )
    return ChoiceScores(tuple(choices), by_letter, by_text, per_byte)


def capitals(per_country: int = 4, n_options: int = 4, seed: int = 0) -> list[Choice]:
    """Which city is a country's capital, among others' capitals: every country several times, with other wrong options and places.

    The questions of one country share its id, and count as one in intervals.
    """
    rng = np.random.default_rng(seed)
    cities = list(CAPITALS.values())
    found = []
    for country, capital in CAPITALS.items():
        others = [city for city in cities if city != capital]
        for _ in range(per_country):
            wrong = rng.choice(others, n_options - 1, replace=False).tolist()
            answer = int(rng.integers(n_options))
            found.append(Choice(country, f"What is the capital of {country}?", (*wrong[:answer], capital, *wrong[answer:]), answer))
    return found


def listed(choice: Choice) -> str:
    """The question with its options by letter."""
    options = "\n".join(f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, choice.options, strict=False))
    return f"{choice.question}\n{options}\nAnswer with the letter only."


def _sums(scorer: TokenScorer, rows: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]]) -> tuple[tuple[float, ...], ...]:
    flat = iter(scorer.score_tokens([pair for row in rows for pair in row]))
    return tuple(tuple(sum(next(flat)[0]) for _ in row) for row in rows)


@dataclass(frozen=True)
class ChoiceMeasure:
    """Accuracy and calibration of one form."""

    accuracy: Measurement
    ece: float
    ece_by_chance: float
    """What a perfectly calibrated model with these confidences would show at this n."""
    ece_by_chance_high: float
    """What it would stay below in 95 of 100 such samples: an ECE beneath this says nothing against calibration."""
    brier: float
    auroc: float
    n: int


def measure_choices(logprobs: Sequence[Sequence[float]], choices: Sequence[Choice]) -> ChoiceMeasure:
    """Accuracy of the likeliest option with its interval over questions (equal `id`s count as one), and its calibration."""
    confidences, right = confidences_and_outcomes(logprobs, choices)
    by_id: dict[str, list[float]] = {}
    for choice, hit in zip(choices, right, strict=True):
        by_id.setdefault(choice.id, []).append(float(hit))
    by_chance = calibration.ece_under_calibration(confidences)
    return ChoiceMeasure(
        rate_over_problems([float(np.mean(hits)) for hits in by_id.values()]), calibration.ece(confidences, right),
        float(by_chance.mean()), float(np.quantile(by_chance, 0.95)), calibration.brier(confidences, right), calibration.auroc(confidences, right), len(choices),
    )  # fmt: skip


def confidences_and_outcomes(logprobs: Sequence[Sequence[float]], choices: Sequence[Choice]) -> tuple[np.ndarray, np.ndarray]:
    """Of each question: the probability of the likeliest option among all, and whether it is right."""
    confidences, right = [], []
    for row, choice in zip(logprobs, choices, strict=True):
        values = np.asarray(row, float)
        chances = np.exp(values - values.max())
        confidences.append(float(chances.max() / chances.sum()))
        right.append(float(int(values.argmax()) == choice.answer))
    return np.array(confidences), np.array(right)
