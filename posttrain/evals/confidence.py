"""How sure a model is of its answers, asked for in four ways, to be held against whether they are right.

    agreement    the share of a problem's other attempts that give the same answer: costs nothing
    p_true       the model reads the question and the answer, and its probability of `True` against `False` counts (2207.05221)
    verbalised   it reads the same, and says a percentage (2305.14975)
    options      multiple choice: the probability of the likeliest option among those given, of the task's own questions where
                 it is asked by likelihood, else of the capitals of 32 countries

The first three judge the very attempts that were scored. Attempts that hold no answer to be sure of, and replies that state no
percentage, are counted apart; what could not be scored is left out.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from posttrain.calibration_intervals import Predictions
from posttrain.evals.records import Attempt, Record, prompt_text
from posttrain.evals.scorer import TokenScorer
from posttrain.rewards.exact import normalise
from posttrain.seeds import fold
from posttrain.types import Agent, Message, Problem, Task, UserError

if TYPE_CHECKING:
    from posttrain.renderer import Renderer

Form = Literal["agreement", "p_true", "verbalised", "options"]

TITLES: dict[str, str] = {
    "agreement": "answer agreement", "p_true": "P(True)", "verbalised": "stated confidence", "options": "option likelihood",
}  # fmt: skip

JUDGED_SAMPLES = 4
"""Attempts at each problem that the model is asked about: equal texts are asked about once."""

WORDS = ("True", "False")

PROPOSED = "Question: {question}\nProposed answer: {answer}\n"
ASK_TRUE = PROPOSED + "Is the proposed answer true or false? Answer with one word, True or False."
ASK_PERCENT = PROPOSED + "How likely is it that the proposed answer is right? Answer with a percentage from 0% to 100%, and nothing else."

Prompt = Callable[[Sequence[Message]], Sequence[int]]
Encode = Callable[[str], Sequence[int]]
AnswerOf = Callable[[str], Hashable | None]
"""The answer in a reply, in one way of writing; None where it holds none."""


@dataclass(frozen=True)
class Confidences:
    """What a model was sure of, by one way of asking."""

    form: str
    predictions: Predictions
    n_unparsed: int = 0
    """Attempts without an answer, or replies without a percentage: they have no confidence, and are in no figure."""
    logits: tuple[tuple[float, ...], ...] = ()
    """Of each prediction: its probability is the softmax of these, in nats. Empty where there are none."""
    chosen: tuple[int, ...] = ()
    """Which of the logits the confidence speaks of."""
    truth: tuple[int, ...] = ()
    """Which of them is true."""
    note: str = ""

    @property
    def title(self) -> str:
        return TITLES.get(self.form, self.form)


async def ask(
    forms: Sequence[Form], task: Task, records: Sequence[Record], agent: Agent, scorer: TokenScorer | None, renderer: Renderer | None, seed: int = 0
) -> tuple[Confidences, ...]:
    """The confidences of one model by each of `forms`; those that came to nothing (agreement of single attempts) are left out.

    A task that is asked by likelihood is not attempted twice: its options stand for agreement. Only agreement, and options that have been
    read, can be had without a scorer and its renderer.
    """
    answer_of, by_likelihood = answers_of(task), any(a.rollout.readings for record in records for a in record.attempts)
    found = []
    for form in dict.fromkeys("options" if form == "agreement" and by_likelihood else form for form in forms):
        if form == "agreement":
            found.append(agreement(records, answer_of))
        elif form == "p_true":
            assert scorer is not None and renderer is not None, "it reads the model's log-probs"
            found.append(p_true(records, scorer, renderer.prompt, renderer.encode, answer_of))
        elif form == "verbalised":
            found.append(await verbalised(records, agent, answer_of, seed))
        elif form == "options" and by_likelihood:
            found.append(read_options(task, records))
        elif form == "options":
            assert scorer is not None and renderer is not None, "it reads the model's log-probs"
            found.append(await capital_options(scorer, renderer))
        else:
            raise UserError(f"there is no way '{form}' to ask for confidence; there is {', '.join(TITLES)}")
    return tuple(one for one in found if one.predictions.confidences or one.n_unparsed)


def answers_of(task: Task) -> AnswerOf:
    """The task's own `final_answer`; else the whole reply, whatever its case, spaces and punctuation at the ends."""
    return getattr(task, "final_answer", lambda text: normalise(text) or None)


# ------------------------------------------------------------------------------------------------------------ four ways


def agreement(records: Sequence[Record], answer_of: AnswerOf) -> Confidences:
    """Of each attempt: the share of the *other* attempts at its problem that give the same answer.

    The others alone, since an attempt always agrees with itself: so the share is an unbiased estimate of the model's probability of
    that answer, of 0 where every attempt says something else. It is coarse: with k attempts it has k values, and a share
    of few is noisy, which by itself looks like overconfidence at the top and its opposite at the bottom. A problem with a single
    attempt says nothing.
    """
    rows: list[tuple[Record, Attempt, Hashable, float]] = []
    n_unparsed = 0
    for record in records:
        answers = [answer_of(attempt.rollout.text) for attempt in record.completed]
        counts = Counter(answers)
        for attempt, answer in zip(record.completed, answers, strict=True):
            if len(answers) < 2 or attempt.score.is_unscored:
                continue
            if answer is None:
                n_unparsed += 1
            else:
                rows.append((record, attempt, answer, (counts[answer] - 1) / (len(answers) - 1)))
    return Confidences("agreement", _predictions(rows), n_unparsed)


def p_true(
    records: Sequence[Record], scorer: TokenScorer, prompt: Prompt, encode: Encode, answer_of: AnswerOf, samples: int = JUDGED_SAMPLES
) -> Confidences:
    """The model's probability that its own answer is true: P(True) / (P(True) + P(False)), Kadavath et al. (2207.05221, section 3).

    Asked about the first `samples` scored attempts at each problem. Deviations: one proposed answer is shown and not several; the
    two words stand in a sentence of a chat and not behind letters; of a word of several tokens the product of their
    probabilities counts. How much of its probability the model gives to the two words at all is in the note.
    """
    judged, n_unparsed = _judged(records, answer_of, samples)
    asked = list(dict.fromkeys((prompt_text(record.problem), attempt.rollout.text) for record, attempt, _ in judged))
    prompts = [prompt([Message("user", ASK_TRUE.format(question=question, answer=answer.strip()))]) for question, answer in asked]
    words = [encode(word) for word in WORDS]
    scored = iter(scorer.score_tokens([(tokens, word) for tokens in prompts for word in words]) if prompts else [])
    logits = {one: tuple(sum(next(scored)[0]) for _ in words) for one in asked}
    read = [logits[prompt_text(record.problem), attempt.rollout.text] for record, attempt, _ in judged]
    rows = [(*one, float(softmax(pair)[0])) for one, pair in zip(judged, read, strict=True)]
    truth = tuple(int(attempt.score.value <= 0.5) for _, attempt, _ in judged)
    mass = float(np.mean([np.exp(pair).sum() for pair in read])) if read else 0.0
    note = f"the model gives {mass:.0%} of its probability to the words {WORDS[0]} and {WORDS[1]}"
    return Confidences("p_true", _predictions(rows), n_unparsed, tuple(read), (0,) * len(rows), truth, note)


async def verbalised(
    records: Sequence[Record], agent: Agent, answer_of: AnswerOf, seed: int = 0, samples: int = JUDGED_SAMPLES
) -> Confidences:
    """The percentage that the model itself states for its own answer, in a turn of its own (Tian et al., 2305.14975).

    Asked once about each different text among the first `samples` scored attempts at a problem, and sampled as the agent samples.
    """
    judged, n_unparsed = _judged(records, answer_of, samples)
    asked = {(record.problem.id, attempt.rollout.text): _percent_problem(record.problem, attempt.rollout.text) for record, attempt, _ in judged}
    replies = await asyncio.gather(*(agent.attempt(problem, 1, fold(seed, problem.id)) for problem in asked.values()))
    stated = {key: percentage(reply.text) for key, (reply,) in zip(asked, replies, strict=True)}
    rows, silent = [], 0
    for record, attempt, answer in judged:
        confidence = stated[record.problem.id, attempt.rollout.text]
        if confidence is None:
            silent += 1
        else:
            rows.append((record, attempt, answer, confidence))
    note = f"{silent} of {len(judged)} replies state no percentage" if silent else ""
    return Confidences("verbalised", _predictions(rows), n_unparsed + silent, note=note)


def options(
    logprobs: Sequence[Sequence[float]], right: Sequence[Collection[int]], clusters: Sequence[str], form: str = "options", note: str = ""
) -> Confidences:
    """Of each question: the probability of the likeliest option among those given, which is not the model's of saying it.

    logprobs [questions][options] in nats; `right` holds the places of each question's right options, `clusters` what intervals count.
    Where a question has several right options there are no logits: a temperature is fitted to one truth.
    """
    chosen = tuple(int(np.argmax(row)) for row in logprobs)
    confidences = tuple(float(softmax(row)[i]) for row, i in zip(logprobs, chosen, strict=True))
    outcomes = tuple(float(i in places) for i, places in zip(chosen, right, strict=True))
    predictions = Predictions(confidences, outcomes, tuple(clusters), tuple(str(i) for i in range(len(chosen))))
    if any(len(places) != 1 for places in right):
        return Confidences(form, predictions, note=note)
    rows, truth = tuple(tuple(map(float, row)) for row in logprobs), tuple(place for (place,) in right)
    return Confidences(form, predictions, 0, rows, chosen, truth, note)


def read_options(task: Task, records: Sequence[Record], note: str = "") -> Confidences:
    """`options` of a task that was asked by likelihood, from what was read of them: costs nothing."""
    from posttrain.evals.choices import ByLikelihood, option_logprobs

    assert isinstance(task, ByLikelihood), "only there options are read"
    choices = [task.choice(record.problem) for record in records]
    read = zip(records, choices, strict=True)
    rows = [option_logprobs(record.attempts[0].rollout.readings, choice.options, task.form) for record, choice in read]
    return options(rows, [choice.right for choice in choices], [record.cluster for record in records], note=note)


async def capital_options(scorer: TokenScorer, renderer: Renderer) -> Confidences:
    """`options` by letter, of questions that need no task: the capitals of 32 countries. Questions of one country count as one."""
    from posttrain.evals.choices import ByLikelihood, LikeliestOption, OptionReader
    from posttrain.evals.measure import measure
    from posttrain.tasks.capitals import Capitals

    task = ByLikelihood(Capitals(), "letter")
    found = await measure(LikeliestOption(OptionReader(scorer, renderer), task), task, task.problems("test"), 1)
    return read_options(task, found.records, "of the capitals of 32 countries, by letter: the same questions whatever the task")


# ---------------------------------------------------------------------------------------------------------------- parts

_PERCENT = re.compile(r"(?<![\w.,-])(\d{1,3}(?:\.\d+)?)\s*(?:%|percent\b|per cent\b)", re.IGNORECASE)
_BARE = re.compile(r"\d{1,3}")


def percentage(text: str) -> float | None:
    """The percentage that a reply states, as a fraction; None for none, for two different ones, and for more than 100%.

    Without a percent sign the reply must be one whole number and nothing else: of `0.8` nobody knows what it means.
    """
    stated = {float(match) for match in _PERCENT.findall(text)}
    bare = text.strip(" \n.*")
    if not stated and _BARE.fullmatch(bare):
        stated = {float(bare)}
    value = stated.pop() if len(stated) == 1 else None
    return value / 100 if value is not None and value <= 100 else None


def softmax(logits: Sequence[float], temperature: float = 1.0) -> np.ndarray:
    scaled = np.asarray(logits, float) / temperature
    chances = np.exp(scaled - scaled.max())
    return chances / chances.sum()


def _judged(records: Sequence[Record], answer_of: AnswerOf, samples: int) -> tuple[list[tuple[Record, Attempt, Hashable]], int]:
    """The first scored attempts at each problem that hold an answer, with it; and how many hold none."""
    found, n_unparsed = [], 0
    for record in records:
        for attempt in [a for a in record.completed if not a.score.is_unscored][:samples]:
            answer = answer_of(attempt.rollout.text)
            if answer is None:
                n_unparsed += 1
            else:
                found.append((record, attempt, answer))
    return found, n_unparsed


def _predictions(rows: Sequence[tuple[Record, Attempt, Hashable, float]]) -> Predictions:
    numbers: dict[Hashable, int] = {}
    # Judges may look at more than the answer: what scored otherwise is not the same prediction.
    same = [(record.problem.id, answer, attempt.score.value) for record, attempt, answer, _ in rows]
    return Predictions(
        tuple(confidence for *_, confidence in rows),
        tuple(attempt.score.value for _, attempt, *_ in rows),
        tuple(record.cluster for record, *_ in rows),
        tuple(str(numbers.setdefault(one, len(numbers))) for one in same),
    )


def _percent_problem(problem: Problem, text: str) -> Problem:
    words = ASK_PERCENT.format(question=prompt_text(problem), answer=text.strip())
    return Problem(f"{problem.id}/confidence/{fold(0, text)}", (Message("user", words),), "")


def confidences_from(row: dict[str, Any]) -> Confidences:
    """The confidences that were written as JSON, by their fields. Raises KeyError or TypeError for anything else."""
    p = row["predictions"]
    predictions = Predictions(*(tuple(p[name]) for name in ("confidences", "outcomes", "clusters", "together")))
    columns = {name: tuple(row[name]) for name in ("chosen", "truth")}
    logits = tuple(tuple(-math.inf if value is None else value for value in each) for each in row["logits"])
    return Confidences(row["form"], predictions, row["n_unparsed"], logits, note=row["note"], **columns)
