"""What the policy's own samples are scored by: a task's judge, or another reward on the same problems."""

from __future__ import annotations

import json
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from posttrain.agents.tool_agent import ToolAgent
from posttrain.batching import TokenSequence
from posttrain.data.conversations import load_prompts
from posttrain.data.loaded import split
from posttrain.policy.hf import Policy
from posttrain.renderer import Tools
from posttrain.rewards.weighted import Reward
from posttrain.tasks import load as load_task
from posttrain.tasks import TASKS, check_gold
from posttrain.training.agents import offered
from posttrain.training.job import Job
from posttrain.training.texts import Fitted, WhenTooLong, fit
from posttrain.types import Agent, Problem, Rollout, Score, Task, UserError, unscored


@dataclass(frozen=True)
class _Otherwise:
    """A task's problems, scored by something else than the task."""

    task: Task
    spec: str
    """What scores them, as the user named it."""

    @property
    def name(self) -> str:
        return f"{self.task.name} by {self.spec}"

    def problems(self, split: str) -> Sequence[Problem]:
        return self.task.problems(split)

    def solution(self, problem: Problem) -> str:
        """A gold answer of the task; what else is made of it nobody knows."""
        return self.task.solution(problem)


@dataclass(frozen=True)
class Rewarded(_Otherwise):
    """A task's problems, scored by a reward of another kind."""

    reward: Reward
    unbounded = True
    """Its scores may lie outside 0 to 1."""

    async def score(self, rollout: Rollout) -> Score:
        """The reward's, with the task's own judgement beside it as the part `gold`, where the task has one."""
        return await _with_gold(self.task, rollout, await self.reward(rollout))


@dataclass(frozen=True)
class Compared(_Otherwise):
    """A task's problems, of which the attempts at each are compared with one another."""

    compare: Callable[[Sequence[Rollout]], Awaitable[Sequence[Score]]]

    async def score(self, rollout: Rollout) -> Score:
        return unscored(f"{self.spec} compares an attempt with its siblings, and there are none")

    async def score_siblings(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Of all attempts at one problem, with the task's own judgement as the part `gold`, where it has one."""
        try:
            scores = await self.compare(rollouts)
        except UserError:
            raise
        except Exception as error:  # as with any judge: what it cannot do is no opinion
            scores = [unscored(f"the judge failed: {type(error).__name__}: {error}")] * len(rollouts)
        return list(await gather(*(_with_gold(self.task, r, s) for r, s in zip(rollouts, scores, strict=True))))


async def _with_gold(task: Task, rollout: Rollout, score: Score) -> Score:
    if isinstance(task, Prompts) or rollout.outcome == "error":
        return score
    gold = await task.score(rollout)
    return replace(score, parts={**score.parts, "gold": gold.value})


@dataclass(frozen=True)
class Prompts:
    """The prompts of a file as problems, which only a reward can score."""

    path: str
    test_frac: float = 0.1
    _found: dict[str, list[Problem]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def problems(self, split_name: str) -> Sequence[Problem]:
        if not self._found:
            loaded = load_prompts(self.path)
            unique = {(c.messages, json.dumps(c.tools)): Problem(c.id, c.messages, "", {"tools": c.tools} if c.tools else {}) for c in loaded.items}
            share = max(self.test_frac, min(0.25, 8 / len(unique))) if len(unique) > 1 else 0.0  # about 8 to measure on, if that leaves most
            learned, heldout = split(list(unique.values()), share, lambda problem: problem.messages)
            self._found.update(train=learned, test=heldout)
        return self._found[split_name]

    async def score(self, rollout: Rollout) -> Score:
        return unscored("prompts of a file have no judge of their own")

    def solution(self, problem: Problem) -> str:
        return ""


async def scored_task(task: str, reward: str = "", dtype: str = "auto", judged: bool = True, gold: str = "") -> Task:
    """The task that `task` names, or the prompts of the file that it is, scored by itself or by the reward that `reward` names.

    The part `gold` of a score is that of the reward that `gold` names, or else the task's own. Raises UserError for an unknown
    task or reward, a task without problems to train on or with a gold answer that its own judge refuses, and a file of
    prompts without a reward unless nothing need be `judged`.
    """
    found: Task = Prompts(task) if _is_file(task) else load_task(task)
    problems = found.problems("train")
    if not problems:
        raise UserError(f"the task '{task}' has no problems to train on")
    if gold and not reward:
        raise UserError("--gold is watched beside a --reward: give one, or take --reward for what is to be learned")
    if reward:
        from posttrain.training.rewards import PAIRWISE, load_judge, load_reward

        judge = Rewarded(found, gold, load_reward(gold, dtype)) if gold else found
        if reward.startswith(PAIRWISE) and reward != PAIRWISE:
            return Compared(judge, reward, load_judge(reward.removeprefix(PAIRWISE), dtype).compare_all)
        return Rewarded(judge, reward, load_reward(reward, dtype))
    if isinstance(found, Prompts):
        if not judged:
            return found
        raise UserError(f"the prompts of '{task}' have no judge of their own: give --reward model:FOLDER, process:FOLDER, judge:MODEL, pairwise:MODEL, length:WORDS or format:REGEX")
    await check_gold(found, problems[:16])
    return found


async def answerable(job: Job, task: Task, policy: Policy, agent: Agent, when_too_long: WhenTooLong) -> Sequence[Problem]:
    """The problems to train on whose prompts, with the tools that the agent offers, leave the policy room for an answer; `data.json` counts
    what is left out. Raises UserError as `prompts_that_fit`."""
    problems = task.problems("train")
    if told := next((problem.id for problem in problems if problem.tools and isinstance(agent, ToolAgent)), None):
        raise UserError(f"{told} in '{task.name}' describes tools of its own, which --tools would stand beside: leave out the one or the other")
    found = prompts_that_fit(problems, policy, when_too_long, await offered(agent, *problems[:1]))
    if found.dropped:
        job.describe(problems=len(found.items), left_out=found.dropped)
    return found.items


def prompts_that_fit(problems: Sequence[Problem], policy: Policy, when_too_long: WhenTooLong = "drop", tools: Tools = ()) -> Fitted:
    """The problems whose prompts leave room for one token at least. Raises UserError as `texts.fit`."""
    read = lambda problem: TokenSequence(policy.renderer.prompt(problem.messages, problem.tools or tools), (0,))  # noqa: E731
    name = lambda problem: f"{problem.id}, with one token of an answer,"  # noqa: E731
    return fit(problems, read, lambda made: [made], policy.max_context, when_too_long, name)


def prompt_files(task: str) -> list[str]:
    """The file of prompts that `task` names, if it does: a run goes on only with the same content."""
    return [task] if _is_file(task) else []


def _is_file(task: str) -> bool:
    """Whether these are prompts and no task, whose own options may name files too. Raises UserError for any other path."""
    if task.partition(":")[0] in (*TASKS, "rg"):
        return False
    if task.endswith((".jsonl", ".jsonl.gz")):
        return True
    if "/" in task and Path(task).exists():
        raise UserError(f"'{task}' is no file of prompts: give a .jsonl or .jsonl.gz file, or a task's name")
    return False
