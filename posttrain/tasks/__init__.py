"""What models are trained and tested on. A task owns its problems and the one judge of their answers.

    task = load("arithmetic:levels=1+2+3")        task = load("gsm8k:path_train=train.jsonl,path_test=test.jsonl")
    task = load("rg:chain_sum,min_terms=2")       task = load("math500:path=math500.jsonl")
    task = load("humaneval:path=humaneval.jsonl") task = load("mbpp:path=mbpp.jsonl,n_shown=1")
    task = load("ledger:horizon=8")               task = load("files:horizon=8,told=one_by_one")
    task = load("mmlu:path=mmlu.jsonl")           task = load("sycophancy:of=mmlu,path=mmlu.jsonl")
    task = load("asked:questions=questions.jsonl,index=INDEX")

A new task is one file with `problems(split)`, `score(rollout)` and `solution(problem)`, and a line below. One whose problems
are attempted with tools has a `world` as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.asked import Asked
from posttrain.tasks.bbq import BBQ
from posttrain.tasks.capitals import Capitals
from posttrain.tasks.choice_sets import CHOICE_SETS
from posttrain.tasks.conversation import Conversation, in_conversation
from posttrain.tasks.facts import Facts
from posttrain.tasks.files_job import FilesJob
from posttrain.tasks.gsm8k import GSM8K
from posttrain.tasks.humaneval import HumanEval
from posttrain.tasks.ifeval import IFEval
from posttrain.tasks.invented import Invented
from posttrain.tasks.ledger import Ledger
from posttrain.tasks.math500 import Math500
from posttrain.tasks.mbpp import MBPP
from posttrain.tasks.options import defaults, parse_options, split, typed_options, unknown
from posttrain.tasks.persona import Persona
from posttrain.tasks.reasoning_gym import ReasoningGym
from posttrain.tasks.sycophancy import Sycophancy
from posttrain.tasks.tree import SolutionTree
from posttrain.tasks.truthfulqa import TruthfulQA
from posttrain.tasks.winogenerated import Winogenerated
from posttrain.tasks.xstest import XSTest
from posttrain.types import ChoiceTask, Problem, Score, Task, UserError, answered

TASKS: Mapping[str, type[Any]] = {
    "arithmetic": Arithmetic, "asked": Asked, "capitals": Capitals, "facts": Facts, "files": FilesJob, "gsm8k": GSM8K, "humaneval": HumanEval,
    "invented": Invented, "ledger": Ledger, "math500": Math500, "mbpp": MBPP, "tree": SolutionTree,
    "bbq": BBQ, "ifeval": IFEval, "persona": Persona, "truthfulqa": TruthfulQA, "winogenerated": Winogenerated, "xstest": XSTest, **CHOICE_SETS,
}  # fmt: skip


def load(spec: str, also: Mapping[str, Callable[[str], Task]] | None = None) -> Task:
    """The task that `NAME[:key=value,…]` or `rg:GENERATOR[,key=value,…]` describes; `also` are more kinds that are made of another task.

    Values take the type of the option's default; lists are written `1+2` or `[1, 2]`. A generator's own options stand
    beside those of `ReasoningGym`. Raises `UserError` for a task, generator, option or value that does not exist, with
    those that do. Reads no file yet; `rg:` starts a worker to ask what there is.
    """
    name, _, options = spec.strip().partition(":")
    if name == "rg":
        return _reasoning_gym(options)
    made_of = {**OF_OTHERS, **(also or {})}
    if name in made_of:
        return made_of[name](options)
    if name not in TASKS:
        raise UserError(unknown("task", name, [*TASKS, "rg:GENERATOR", *(f"{other}:of=TASK" for other in made_of)]))
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


def _sycophancy(text: str) -> Sycophancy:
    task, own = of_another("sycophancy", text, {})
    if not isinstance(task, ChoiceTask):
        raise UserError(f"sycophancy is made of a task with options to choose from, such as capitals or mmlu, and {task.name} has none")
    return Sycophancy(task, **own)


def _conversation(text: str) -> Conversation:
    task, own = of_another("conversation", text, {"turns": 6})
    return in_conversation(task, **own)


OF_OTHERS: Mapping[str, Callable[[str], Task]] = {"sycophancy": _sycophancy, "conversation": _conversation}
"""Tasks that are made of another: `NAME:of=TASK`, and then that one's options."""


def of_another(name: str, text: str, own: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task that is named by `of`, made with the options that are not the wrapper's `own`; and these, typed."""
    options = parse_options(text)
    if not options.get("of"):
        raise UserError(f"{name} is made of another task: say {name}:of=capitals, or {name}:of=mmlu,path=FILE")
    kind, _, first = options.pop("of").partition(":")
    rest = [first] * bool(first) + [f"{key}={value}" for key, value in options.items() if key not in own]
    return load(f"{kind}:{','.join(rest)}"), typed_options(name, {key: options[key] for key in own if key in options}, own)


async def check_gold(task: Task, problems: Sequence[Problem]) -> None:
    """Try the judge on the gold answers before any model is tried on it.

    Left out are problems that have no gold answer and say so (`no_gold`), and golds that cannot be judged for want of an optional
    package (the score's part `unavailable`), which every attempt will say as well. Raises `UserError` if there is no problem, and if any
    other `solution` scores anything but 1, "could not judge" included.
    """
    if not problems:
        raise UserError(f"{task.name} has no problems")
    golden = [problem for problem in problems if not problem.data.get("no_gold")]
    scores = await asyncio.gather(*(task.score(answered(problem, task.solution(problem))) for problem in golden))
    wrong = [(problem, score) for problem, score in zip(golden, scores, strict=True) if score.value != 1 and not score.parts.get("unavailable")]
    if wrong:
        raise UserError(f"{task.name}: {len(wrong)} of {len(problems)} gold answers do not score 1; {_first(*wrong[0])}")


def _first(problem: Problem, score: Score) -> str:
    verdict = "could not be judged" if score.is_unscored else f"scored {score.value:g}"
    return f"that of {problem.id} {verdict} ({score.explanation}): mend the problem or its judge"
