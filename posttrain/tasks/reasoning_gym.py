"""Any generator of reasoning-gym by name (Stojanovski et al. 2025, arXiv 2505.24760; package 0.1.25): `rg:chain_sum`.

An attempt's answer is what stands in its last `<answer>…</answer>`, else all of its text; the generator's own judge scores
it, between 0 and 1 (some give 0.01 for trying), in a worker process. What differs from calling that judge:

- A judge that hangs, crashes or raises gives nan; but `boxnet`, `game_of_life` and `prime_factorization` raise over every
  answer in the wrong form, and that is a 0.
- Nine judges evaluate what the model wrote as Python. They are given numbers, lists and elementary functions; any other
  Python scores 0 unevaluated.
- `coin_flip` gave 1 to "0", `complex_arithmetic` to "nan", `game_of_life_halting` to everything, `gsm_symbolic` to the wrong
  sign, and `puzzle24` to any four numbers that make 24. These score 0 here. (Left as it is: `propositional_logic` gives 1
  to the premises repeated, which do follow.)
- `boxnet`, `graph_color`, `propositional_logic`, `rubiks_cube` and `rush_hour` come without an answer: ours are made for
  them. `composite` only mixes other generators, and is refused.
- A problem to whose gold answer its judge does not give 1 is left out: most cubes larger than 3, whose scrambles it cannot
  read, and one in ten of `intermediate_integration`, whose gold answer is the integral itself, not solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from posttrain.rewards import workers
from posttrain.rewards.workers import WorkerFailure
from posttrain.seeds import fold
from posttrain.tasks.splits import check_split
from posttrain.types import Message, Problem, Rollout, Score, UserError, unscored

_WORKER = "posttrain.tasks.reasoning_gym_worker"
_ASK = "Give your final answer between <answer> and </answer>, and nothing else there."
_CHUNK = 16
"""How many entries one call makes."""
_PATIENCE = 4
"""How many entries are tried for each problem wanted before the generator counts as used up."""


@dataclass(frozen=True)
class ReasoningGym:
    """Problems of one generator. Nothing is made before the first call of `problems`."""

    generator: str
    """Its name in reasoning-gym."""
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The generator's own options where they differ from its defaults; values may be text."""
    n_train: int = 256
    """How many problems to train on; fewer if the generator has fewer."""
    n_test: int = 64
    """How many problems to test on; fewer if the generator has fewer."""
    seed: int = 0
    """From which the seeds of the two splits are made."""
    timeout_s: float = 5.0
    """Wall clock of one judgement, in seconds, after which the attempt is unscored."""
    make_timeout_s: float = 240.0
    """Wall clock of making 16 problems, in seconds. Most generators take milliseconds, knight_swap a second for each."""

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_test) < 1:
            raise UserError(f"{self.name} needs n_train and n_test of at least 1, not {self.n_train} and {self.n_test}")
        if min(self.timeout_s, self.make_timeout_s) <= 0:
            raise UserError(f"{self.name} needs a timeout_s and a make_timeout_s above 0")

    @property
    def name(self) -> str:
        return f"rg:{self.generator}"

    def check(self) -> None:
        """Raises `UserError` unless the generator exists, can be a task, and takes these options."""
        self._make("check", [(self.generator, dict(self.config))])

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of `train` or `test`, all different; the two are made from different seeds and share no question.

        The test comes first: `n_train` does not change it. Raises `UserError` for another split, for what `check` refuses,
        and where the generator makes no problem, or takes too long over it.
        """
        check_split(split)
        return _problems(self, split)

    async def score(self, rollout: Rollout) -> Score:
        """What the generator's judge gives the answer, from 0 to 1; nan where it gave nothing."""
        answer, problem = extract_answer(rollout.text), rollout.problem
        job = (self.generator, dict(self.config), answer, problem.answer, problem.data["metadata"])
        try:
            value = await workers.call_async(f"{_WORKER}:score", *job, timeout_s=self.timeout_s)
        except WorkerFailure as failure:
            return unscored(f"the judge of {self.name} gave nothing: {failure}")
        marked = "<answer>" in rollout.text and "</answer>" in rollout.text
        return Score(value, {"parsed": float(marked)}, f"answer {answer[:80]!r}")

    def solution(self, problem: Problem) -> str:
        return f"<answer>{problem.answer}</answer>"

    def final_answer(self, text: str) -> str | None:
        """What the judge is given."""
        return extract_answer(text) or None

    def entries(self, split: str, start: int, stop: int) -> list[dict[str, str]]:
        """What the workers make of the entries numbered `start` to `stop - 1`, in order; see `generate` there."""
        seed = fold(self.seed, "reasoning-gym", split)
        chunks = [(first, min(first + _CHUNK, stop)) for first in range(start, stop, _CHUNK)]
        made = self._make("generate", [(self.generator, dict(self.config), seed, *chunk) for chunk in chunks])
        return [entry for chunk in made for entry in chunk]

    def _make(self, function: str, jobs: list[tuple[Any, ...]]) -> list[Any]:
        try:
            return workers.call_all(f"{_WORKER}:{function}", jobs, timeout_s=self.make_timeout_s)
        except WorkerFailure as failure:
            raise UserError(f"{self.name} could not be made ({failure}): try easier options, or fewer problems") from failure


def extract_answer(text: str) -> str:
    """What stands in the last closed `<answer>…</answer>`, stripped; without one all of `text`, stripped."""
    before, closing, _ = text.rpartition("</answer>")
    _, opening, inside = before.rpartition("<answer>")
    return (inside if closing and opening else text).strip()


@lru_cache(maxsize=16)
def _problems(task: ReasoningGym, split: str) -> tuple[Problem, ...]:
    if split == "test":
        return _different(task, split, task.n_test, frozenset())
    return _different(task, split, task.n_train, frozenset(problem.messages for problem in _problems(task, "test")))


def _different(task: ReasoningGym, split: str, size: int, excluded: frozenset[tuple[Message, ...]]) -> tuple[Problem, ...]:
    """The first `size` problems that differ from one another and from those excluded; fewer if there are no more."""
    found: dict[tuple[Message, ...], Problem] = {}
    tried, left_out = 0, ""
    while len(found) < size and tried < _PATIENCE * size + _CHUNK:
        entries = task.entries(split, tried, tried + size - len(found))
        for index, entry in enumerate(entries, tried):
            left_out = left_out or entry.get("left_out", "")
            if "question" in entry:
                problem = _problem(f"rg/{task.generator}/{split}/{index}", entry)
                found.setdefault(problem.messages, problem)
        for messages in excluded & found.keys():
            del found[messages]
        tried += len(entries)
    if not found:
        why = left_out or "all that it makes are in the test, so ask for a smaller n_test"
        raise UserError(f"{task.name} has no {split} problem: {why}")
    return tuple(found.values())


def _problem(id: str, entry: Mapping[str, str]) -> Problem:
    message = Message("user", f"{entry['question'].rstrip()}\n\n{_ASK}")
    return Problem(id, (message,), entry["answer"], {"metadata": entry["metadata"]})
