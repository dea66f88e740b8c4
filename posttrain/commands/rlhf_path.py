"""What offline DPO passes through: it draws no answers as it learns, so that some are drawn at stops to show how far it has come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posttrain.commands.rlhf import Args
    from posttrain.evals.frontier import Samples
    from posttrain.policy.hf import Policy
    from posttrain.types import Problem, Task

STOPS = 3
"""Places of a run at which it is looked at, its end among them and its start not."""


def stops(steps: int) -> list[int]:
    """The numbers of updates after which to look: the thirds of the run, without any twice."""
    return sorted({max(1, round(steps * i / STOPS)) for i in range(1, STOPS + 1)})


def seen(out: Path) -> list[dict[str, Any]]:
    """What has been seen of DPO so far, as rows of its path."""
    return [row["waypoint"] for row in _rows(out)]


def n_drawn(out: Path) -> int:
    """How many answers were drawn to see it."""
    return sum(len(asked["attempts"]) for row in _rows(out) for asked in row["answers"])


@dataclass(frozen=True)
class Watch:
    """Looks at DPO with as many answers as a step of the others learns from: to prompts from all over
    the training split, the same at every stop."""

    args: Args
    task: Task
    problems: list[Problem]
    start: Policy

    @classmethod
    async def of(cls, args: Args, start: str, learned: Mapping[str, str]) -> Watch:
        from posttrain.policy.hf import load_policy
        from posttrain.training.scored import prompts_that_fit, scored_task

        task = await scored_task(learned["task"], learned["reward"], args.dtype, gold=learned["gold"])
        policy = load_policy(start, args.dtype)
        policy.model.requires_grad_(False)
        fitting, n = prompts_that_fit(task.problems("train"), policy).items, args.answers_per_step // args.group_size
        spread = fitting[:: max(1, len(fitting) // n)][:n]  # neighbours in a file often ask for much the same
        return cls(args, task, spread, policy)

    async def look(self, updates: int) -> None:
        """Draw, score and keep the answers of the model after so many updates, unless it has been done."""
        from posttrain.agents.loop import ModelAgent
        from posttrain.engine.local import LocalEngine
        from posttrain.evals.frontier import draw, point
        from posttrain.policy.hf import load_policy
        from posttrain.runs.path import Waypoint
        from posttrain.types import Sampling

        step = updates + 1  # which would begin with these answers, as the others' steps do with theirs
        if step in (row["step"] for row in seen(self.args.out)):
            return
        policy = load_policy(str(self.args.out / "dpo"), self.args.dtype) if updates else self.start
        agent = ModelAgent(LocalEngine(policy), policy.renderer, Sampling(1.0, self.args.max_tokens))
        samples = await draw(agent, self.task, self.problems, self.args.group_size, self.args.seed)
        found = point("dpo", samples, self.start)
        _keep(self.args.out, asdict(Waypoint(step, found.kl_nats, found.proxy, found.gold)), _answers(samples))


def _answers(samples: Samples) -> list[dict[str, Any]]:
    """What was drawn, so that the means can be traced to it."""
    from posttrain.evals.records import prompt_text

    attempts = lambda group, scores: [{"text": r.text, "score": s.value, "parts": s.parts} for r, s in zip(group, scores, strict=True)]  # noqa: E731
    groups = zip(samples.rollouts_PG, samples.scores_PG, strict=True)
    return [{"prompt": prompt_text(group[0].problem), "attempts": attempts(group, scores)} for group, scores in groups]


def _keep(out: Path, waypoint: dict[str, Any], answers: list[dict[str, Any]]) -> None:
    from posttrain.evals.records import plain
    from posttrain.runs.folder import write_atomically

    file = _file(out)
    before = file.read_text() if file.exists() else ""
    write_atomically(file, before + json.dumps(plain({"waypoint": waypoint, "answers": answers}), ensure_ascii=False) + "\n")


def _rows(out: Path) -> list[dict[str, Any]]:
    from posttrain.runs.folder import read_jsonl

    return read_jsonl(_file(out)) if _file(out).exists() else []


def _file(out: Path) -> Path:
    return out / "dpo_path.jsonl"
