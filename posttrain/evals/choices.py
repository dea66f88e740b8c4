"""Multiple choice by likelihood: which of the given answers a model finds most likely, and how sure it is.

Three forms, all of them common and none equal to another: the *letter* of the option, after all options have been listed; the
*text* of the option as the answer to the bare question, as the sum of its tokens' log-probs; and that sum per *byte*, for a
sum favours short options. The likeliest option is then the model's answer, and the task judges its letter as it would one that
was written, so that records, resuming, intervals and comparisons are those of every other task.

Each option is read as the assistant's own turn, by the chat template, without the token that ends it. Confidence is the
probability of the chosen option among the options given, which is not the model's probability of saying it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from posttrain.evals.measure import Evaluation
from posttrain.evals.scorer import TokenScorer
from posttrain.renderer import Renderer
from posttrain.tasks.choices import LETTERS
from posttrain.types import Choice, ChoiceTask, Message, Problem, Reading, Rollout, Score, Task, UserError

Form = Literal["letter", "text", "byte"]
FORMS: tuple[Form, ...] = get_args(Form)
TITLES = {"letter": "by letter", "text": "by text", "byte": "by text per byte"}

AT_ONCE = 16
"""Problems whose options are read in one call to the scorer; what is read is kept before the next."""

Asked = tuple[tuple[Message, ...], str]
"""A conversation, and what the assistant may say to it."""


@dataclass(frozen=True)
class ByLikelihood:
    """A choice task as it is asked in one form. It is a choice task of its own, with the same problems and the same judge."""

    task: ChoiceTask
    form: Form

    @property
    def name(self) -> str:
        return f"{self.task.name} {TITLES[self.form]}"

    @property
    def aspects(self) -> Sequence[Any]:
        return getattr(self.task, "aspects", ())

    @property
    def beside(self) -> str:
        """The name of the task next to which the wrapped one is shown, as it is asked in this form; empty if there is none."""
        other = getattr(self.task, "beside", "")
        return f"{other} {TITLES[self.form]}" if other else ""

    def problems(self, split: str) -> Sequence[Problem]:
        return self.task.problems(split)

    def choice(self, problem: Problem) -> Choice:
        return self.task.choice(problem)

    async def score(self, rollout: Rollout) -> Score:
        return await self.task.score(rollout)

    def solution(self, problem: Problem) -> str:
        return self.task.solution(problem)


WRITTEN = "written"


def asked_forms(task: Task, choices: str) -> list[Task]:
    """The task once for each form in `choices` (`letter+text+byte+written`); a task without options alone, as it is.

    Raises UserError for a form that does not exist, and for none.
    """
    forms = [form.strip() for form in choices.split("+")]
    wrong = next((form for form in forms if form not in (*FORMS, WRITTEN)), None)
    if wrong is not None:
        raise UserError(f"tasks of choice are not asked by {wrong!r}: say one or more of {'+'.join(FORMS)}+{WRITTEN}")
    if not isinstance(task, ChoiceTask):
        return [task]
    return [task if form == WRITTEN else ByLikelihood(task, form) for form in dict.fromkeys(forms)]  # type: ignore[arg-type]


@dataclass
class OptionReader:
    """Asks a model how likely it finds possible answers. Whoever waits is read together; what has been read is not read again."""

    scorer: TokenScorer
    renderer: Renderer
    _known: dict[Asked, Reading] = field(default_factory=dict)
    _waiting: list[tuple[list[Asked], asyncio.Future[None]]] = field(default_factory=list)

    async def read(self, asked: Sequence[Asked]) -> list[Reading]:
        """The reading of each. Raises UserError where the model's log-probs are nan, and what rendering raises."""
        if any(each not in self._known for each in asked):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((list(asked), future))
            if len(self._waiting) == 1:
                asyncio.get_running_loop().call_soon(self._read_some)
            await future
        return [self._known[each] for each in asked]

    def _read_some(self) -> None:
        now, self._waiting[:] = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        try:
            self._read([each for asked, _ in now for each in asked])
            _settle(now, None)
        except Exception as error:
            _settle(now, error)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._read_some)

    def _read(self, asked: Sequence[Asked]) -> None:
        new = [each for each in dict.fromkeys(asked) if each not in self._known]
        tokens = [self._tokens(messages, text) for messages, text in new]
        for each, pair, (logprobs, _) in zip(new, tokens, self.scorer.score_tokens(tokens) if tokens else [], strict=True):
            if np.isnan(logprobs).any():
                raise UserError("the model gives log-probabilities that are nan: its weights are broken; measure an earlier checkpoint")
            self._known[each] = Reading(*pair, tuple(logprobs))

    def _tokens(self, messages: tuple[Message, ...], text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the model reads, and the tokens of `text` as its own turn, the end of the turn left out."""
        rendered = self.renderer.documents((*messages, Message("assistant", text)), answers={len(messages)})[-1]
        start = rendered.trained.index(True)
        own = [t for t, mark in zip(rendered.token_ids[start:], rendered.trained[start:], strict=True) if mark]
        said = tuple(t for t in own if t not in self.renderer.stop_token_ids)
        if not said:
            raise UserError(f"the option {text!r} has no tokens of its own in this model's chat format: leave its problem out")
        return rendered.token_ids[:start], said


def _settle(waiting: Sequence[tuple[list[Asked], asyncio.Future[None]]], error: Exception | None) -> None:
    for _, future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


@dataclass(frozen=True)
class LikeliestOption:
    """An agent that answers with the letter of the option that the model finds likeliest; its attempts are all alike."""

    reader: OptionReader
    task: ByLikelihood

    async def attempt(self, problem: Problem, n: int, seed: int = 0) -> list[Rollout]:
        choice = self.task.choice(problem)
        if self.task.form == "letter":
            asked = [(tuple(problem.messages), LETTERS[i]) for i in range(len(choice.options))]
        else:
            asked = [(choice.messages, option) for option in choice.options]
        readings = tuple(await self.reader.read(asked))
        best = int(np.argmax(option_logprobs(readings, choice.options, self.task.form)))
        said = (Message("assistant", LETTERS[best]),)
        return [Rollout(problem, said, sample=sample, readings=readings) for sample in range(n)]


def option_logprobs(readings: Sequence[Reading], options: Sequence[str], form: Form) -> list[float]:
    """What the options are compared by, in nats: each one's log-prob, or with `byte` that per byte of its UTF-8."""
    sums = [sum(reading.logprobs) for reading in readings]
    return [x / len(option.encode()) for x, option in zip(sums, options, strict=True)] if form == "byte" else sums
