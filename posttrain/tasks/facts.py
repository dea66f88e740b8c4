"""Plain knowledge, asked plainly: a task that is there to be left alone.

What a model knew before it was trained on something else, and whether it still says it: the alignment tax in its simplest
form. There is nothing to train on, on purpose. The facts are common ones that a model of a hundred million weights has
met; the answer counts wherever it stands in the reply, for the question is what the model knows and not how briefly it
speaks. A reply that lists everything would be right as well: do not train on this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain.rewards.exact import normalise
from posttrain.types import Message, Problem, Rollout, Score, UserError

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon", "Greece": "Athens",
    "England": "London", "Ireland": "Dublin", "Austria": "Vienna", "Poland": "Warsaw", "Hungary": "Budapest", "Norway": "Oslo",
    "Sweden": "Stockholm", "Denmark": "Copenhagen", "Finland": "Helsinki", "Russia": "Moscow", "Turkey": "Ankara",
    "Egypt": "Cairo", "Kenya": "Nairobi", "India": "New Delhi", "China": "Beijing", "Japan": "Tokyo", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Australia": "Canberra", "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "Argentina": "Buenos Aires",
    "Iran": "Tehran", "Iraq": "Baghdad", "the United States": "Washington",
}  # fmt: skip

OTHERS = {
    "What is the opposite of hot?": "cold", "What is the opposite of up?": "down", "What is the opposite of big?": "small",
    "What is the opposite of day?": "night", "What colour is the sky on a clear day?": "blue", "What colour is grass?": "green",
    "What colour is blood?": "red", "What colour is snow?": "white", "Which planet do we live on?": "Earth",
    "Which star is closest to us?": "Sun", "Which planet has famous rings?": "Saturn", "Which planet is the largest in the solar system?": "Jupiter",
    "Which animal says meow?": "cat", "Which animal barks?": "dog", "Which animal gives us milk and says moo?": "cow",
    "Which insect makes honey?": "bee", "What is the young of a dog called?": "puppy", "What is the largest animal in the ocean?": "whale",
    "Which day comes after Monday?": "Tuesday", "Which month comes after April?": "May", "Which season comes after summer?": "autumn|fall",
    "What is frozen water called?": "ice", "Which gas do we need to breathe?": "oxygen", "Which organ pumps blood?": "heart",
    "Who wrote Romeo and Juliet?": "Shakespeare", "Who painted the Mona Lisa?": "Leonardo|da Vinci",
    "Who discovered gravity when an apple fell?": "Newton", "What is the largest ocean?": "Pacific",
    "What is the tallest mountain on Earth?": "Everest", "Which river flows through Egypt?": "Nile",
    "Which language is spoken in Brazil?": "Portuguese", "Which country is shaped like a boot?": "Italy",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """64 questions of common knowledge, all of them to test on."""

    @property
    def name(self) -> str:
        return "facts"

    def problems(self, split: str) -> Sequence[Problem]:
        """All 64 for `test`. Raises UserError for `train`."""
        if split != "test":
            raise UserError("facts has nothing to train on: it measures what a model still knows after training on something else")
        capitals = [(f"What is the capital of {country}?", city) for country, city in CAPITALS.items()]
        # Alternately, so that the first few are of both kinds.
        pairs = [pair for both in zip(capitals, OTHERS.items(), strict=True) for pair in both]
        return [Problem(f"facts/{question}", (Message("user", question),), answer) for question, answer in pairs]

    async def score(self, rollout: Rollout) -> Score:
        """1 if the answer (or one of several) stands in the reply as words of its own, whatever the case; else 0."""
        answers = rollout.problem.answer.split("|")
        said = normalise(rollout.text)
        found = any(re.search(rf"(?<!\w){re.escape(normalise(answer))}(?!\w)", said) for answer in answers)
        return Score(float(found), {}, f"looked for {' or '.join(answers)}")

    def solution(self, problem: Problem) -> str:
        return f"It is {problem.answer.split('|')[0]}."

    def final_answer(self, text: str) -> str | None:
        """All the answers to these questions that the reply names, in their order; the reply itself where it names none."""
        said = normalise(text)
        return " ".join(dict.fromkeys(_KNOWN.findall(said))) or said or None


_ANSWERS = [normalise(answer) for answers in (*CAPITALS.values(), *OTHERS.values()) for answer in answers.split("|")]
_KNOWN = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(_ANSWERS, key=len, reverse=True)))})(?!\w)")
