"""What models are trained and tested on. A task owns its problems and the one judge of their answers.

    task = load("arithmetic:levels=1+2+3")        task = load("gsm8k:path_train=train.jsonl,path_test=test.jsonl")
    task = load("rg:chain_sum,min_terms=2")       task = load("math500:path=math500.jsonl")
    task = load("humaneval:path=humaneval.jsonl") task = load("mbpp:path=mbpp.jsonl,n_shown=1")
    task = load("ledger:horizon=8")               task = load("files:horizon=8,told=one_by_one")
    task = load("asked:questions=questions.jsonl,index=INDEX")

A new task is one file with `problems(split)`, `score(rollout)` and `solution(problem)`, and a line below. One whose problems
are attempted with tools has a `world` as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.asked import Asked
from posttrain.tasks.facts import Facts
from posttrain.tasks.files_job import FilesJob
from posttrain.tasks.gsm8k import GSM8K
from posttrain.tasks.humaneval import HumanEval
from posttrain.tasks.invented import Invented
from posttrain.tasks.ledger import Ledger
from posttrain.tasks.math500 import Math500
from posttrain.tasks.mbpp import MBPP
from posttrain.tasks.options import defaults, parse_options, split, typed_options, unknown
from posttrain.tasks.reasoning_gym import ReasoningGym
from posttrain.tasks.tree import SolutionTree
from posttrain.types import Problem, Score, Task, UserError, answered

TASKS: Mapping[str, type[Arithmetic | Asked | Facts | FilesJob | GSM8K | HumanEval | Invented | Ledger | Math500 | MBPP | SolutionTree]] = {
    "arithmetic": Arithmetic, "asked": Asked, "facts": Facts, "files": FilesJob, "gsm8k": GSM8K, "humaneval": HumanEval,
    "invented": Invented, "ledger": Ledger, "math500": Math500, "mbpp": MBPP, "tree": SolutionTree,
}  # fmt: skip


def load(spec: str) -> Task:
    """The task that `NAME[:key=value,…]` or `rg:GENERATOR[,key=value,…]` describes.

    Values take the type of the option's default; lists are written `1+2` or `[1, 2]`. A generator's own options stand
    beside those of `ReasoningGym`. Raises `UserError` for a task, generator, option or value that does not exist, with
    those that do. Reads no file yet; `rg:` starts a worker to ask what there is.
    """
    name, _, options = spec.strip().partition(":")
    if name == "rg":
        return _reasoning_gym(options)
    if name not in TASKS:
        raise UserError(unknown("task", name, [*TASKS, "rg:GENERATOR"]))
    kind = TASKS[name]
    return kind(**typed_options(name, parse_options(options), defaults(kind)))


def split_specs(text: str) -> list[str]:
    """The specs in `facts,arithmetic:levels=1,n_test=3,rg:chain_sum,min_terms=2`: a part whose `=` comes before any `:` is an option.

    Raises `UserError` for none, and for an option without a task before it.
    """
    specs: list[str] = []
    for part in split(text):
        before, equals, _ = part.partition("=")
        if not (equals and ":" not in before):
            specs.append(part.strip())
        elif specs:
            specs[-1] += f",{part}"
        else:
            raise UserError(f"'{text}' begins with an option: tasks are written NAME[:key=value,…][,NAME…]")
    if not specs or not all(specs):
        raise UserError(f"'{text}' names no task: tasks are written NAME[:key=value,…][,NAME…]")
    return specs


def _reasoning_gym(text: str) -> ReasoningGym:
    generator, _, rest = text.partition(",")
    if not generator or "=" in generator:
        raise UserError(f"name a generator first: rg:chain_sum, for instance, not rg:{text}")
    options = parse_options(rest)
    own = {key: value for key, value in defaults(ReasoningGym).items() if key not in ("generator", "config")}
    ours = typed_options(f"rg:{generator}", {key: value for key, value in options.items() if key in own}, own)
    task = ReasoningGym(generator.strip(), {key: value for key, value in options.items() if key not in own}, **ours)
    task.check()
    return task


async def check_gold(task: Task, problems: Sequence[Problem]) -> None:
    """Try the judge on the gold answers before any model is tried on it.

    Raises `UserError` if there is no problem, and if a `solution` scores anything but 1, "could not judge" included.
    """
    if not problems:
        raise UserError(f"{task.name} has no problems")
    scores = await asyncio.gather(*(task.score(answered(problem, task.solution(problem))) for problem in problems))
    wrong = [(problem, score) for problem, score in zip(problems, scores, strict=True) if score.value != 1]
    if wrong:
        raise UserError(f"{task.name}: {len(wrong)} of {len(problems)} gold answers do not score 1; {_first(*wrong[0])}")


def _first(problem: Problem, score: Score) -> str:
    verdict = "could not be judged" if score.is_unscored else f"scored {score.value:g}"
    return f"that of {problem.id} {verdict} ({score.explanation}): mend the problem or its judge"
