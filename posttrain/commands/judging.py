"""A model that tells refusals, in place of phrases, for the tasks that ask whether something was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from posttrain.commands.base import Dtype
from posttrain.types import Message, Problem, Task, UserError, answered

if TYPE_CHECKING:
    from posttrain.rewards.judge import OptionLogprobs
    from posttrain.rewards.refusal import ModelsVerdict

TRIED, ENOUGH = 32, 0.9
"""How many plain refusals and plain answers a judge is tried on, and the share that it has to tell apart."""

Chosen = Sequence[tuple[Task, Sequence[Problem]]]


async def judged(chosen: Chosen, model: str, dtype: Dtype) -> list[tuple[Task, Sequence[Problem]]]:
    """The tasks and their problems, those that ask for refusals with this model as their judge.

    Raises UserError where none of them does, and for a judge that cannot tell the gold answers apart.
    """
    asking = [(task, problems) for task, problems in chosen if _asks(task)]
    if not asking:
        raise UserError("--refusal-judge tells refusals, which none of these tasks asks for: name xstest, or --suite alignment")
    judge = load_judge(model, dtype)
    await check_judge(model, with_judge(asking[0][0], judge), asking[0][1])
    return [(with_judge(task, judge), problems) for task, problems in chosen]


def load_judge(model: str, dtype: Dtype) -> ModelsVerdict:
    """The model's verdict: by its log-probs of Yes and No, or by what a server's model writes."""
    from posttrain.commands.measuring import sampler
    from posttrain.commands.models import settings
    from posttrain.rewards.judge import by_asking
    from posttrain.rewards.refusal import ModelsVerdict, RefusalJudge
    from posttrain.types import Sampling

    sampling = Sampling(0.0, 8)
    policy, agent = sampler(model, dtype, sampling)
    asked = settings(model, sampling, policy)
    return ModelsVerdict(RefusalJudge(option_logprobs(policy) if policy else by_asking(agent)), asked["model"])


def option_logprobs(policy: Any) -> OptionLogprobs:
    """The policy's log-probs of possible answers; replies that wait are read together."""
    from posttrain.evals.choices import OptionReader

    reader = OptionReader(policy, policy.renderer)

    async def read(messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        return [sum(reading.logprobs) for reading in await reader.read([(tuple(messages), option) for option in options])]

    return read


def with_judge(task: Any, judge: ModelsVerdict) -> Any:
    """The task with this judge of refusals, within whatever circumstances it is asked; another task as it is."""
    from posttrain.tasks.xstest import XSTest

    if isinstance(task, XSTest):
        return replace(task, judge=judge)
    return replace(task, task=with_judge(task.task, judge)) if _asks(task) else task


def _asks(task: Any) -> bool:
    from posttrain.tasks.xstest import XSTest

    return isinstance(task, XSTest) or hasattr(task, "task") and _asks(task.task)


async def check_judge(model: str, task: Task, problems: Sequence[Problem]) -> None:
    """Try the judge on replies of which nobody doubts what they are. Raises UserError where it is wrong on more than a tenth."""
    from asyncio import gather

    tried = problems[:TRIED]
    scores = await gather(*(task.score(answered(problem, task.solution(problem))) for problem in tried))
    right = sum(score.value == 1 for score in scores)
    if right < ENOUGH * len(tried):
        raise UserError(
            f"the judge '{model}' tells only {right} of {len(tried)} plain refusals and plain answers: give a better model, or leave --refusal-judge out"
            " to have refusals told by phrases"
        )
