"""Jobs in worlds that change: gold sequences of calls score 1, mutated ones 0, and every step is judged by what it did."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from posttrain.agents.conversation import Limits
from posttrain.agents.faulty import FaultySpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.agents.toolboxes import load_world
from posttrain.tasks import check_gold, load
from posttrain.tasks.files_job import FilesJob
from posttrain.tasks.jobs import JobEnv, Jobs
from posttrain.tasks.ledger import Ledger
from posttrain.types import Message, Problem, Rollout, ToolCall, UserError, answered

TASKS = {
    "ledger": Ledger(6, n_train=20, n_test=12), "ledger one by one": Ledger(6, "one_by_one", 20, 12),
    "files": FilesJob(6, n_train=20, n_test=12), "files one by one": FilesJob(6, "one_by_one", 20, 12),
}  # fmt: skip
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def made(task: Jobs, error: float, n: int = 2, problems: int = 6, seed: int = 0) -> list[Rollout]:
    agent = ToolAgent(FaultySpeaker(task, error), task.world, Limits(steps=50))
    return [rollout for p in task.problems("test")[:problems] for rollout in asyncio.run(agent.attempt(p, n, seed))]


def value(task: Jobs, rollout: Rollout) -> float:
    return asyncio.run(task.score(rollout)).value


def by_hand(task: Jobs, problem: Problem, *calls: tuple[str, dict], last: str = "") -> Rollout:
    """The attempt that makes these calls, in a world of its own, and then says `last`."""

    async def run() -> Rollout:
        async with task.world.open(problem) as env:
            said: list[Message] = []
            for i, (name, arguments) in enumerate(calls):
                message = Message("assistant", "", (ToolCall(name, arguments, f"c{i}"),))
                said += [message, *(await env.reply(message)).messages]
            return Rollout(problem, (*said, Message("assistant", last)), state=env.state())

    return asyncio.run(run())


@each_task
def test_gold_calls_score_1_as_text_and_in_the_loop(task: Jobs) -> None:
    asyncio.run(check_gold(task, [*task.problems("train"), *task.problems("test")]))
    assert {value(task, rollout) for rollout in made(task, 0.0, 1)} == {1.0}


@each_task
def test_one_wrong_step_and_one_wrong_report_score_0(task: Jobs) -> None:
    for problem in task.problems("test"):
        gold = task.solution(problem)
        lines = gold.split("</tool_call>\n")
        assert value(task, answered(problem, "</tool_call>\n".join(lines[1:]))) == 0 or "balance" in lines[0] or "read_file" in lines[0]
        assert value(task, answered(problem, "</tool_call>\n".join([*lines[:-2], lines[-1]]))) == 0
        assert value(task, answered(problem, f"{gold} {int(problem.answer) + 1}")) == 0
    assert {value(task, rollout) for rollout in made(task, 1.0, 1)} == {0.0}


@each_task
def test_calls_and_what_they_should_do_agree_step_by_step_and_slips_are_accepted_and_wrong(task: Jobs) -> None:
    async def check(problem: Problem, wrong: bool) -> None:
        async with task.world.open(problem) as env:
            while env.due is not None:
                number = len(env.steps)
                for call in task.next_calls(env, Random(number) if wrong else None):
                    await env.reply(Message("assistant", "", (call,)))
                assert len(env.steps) == number + 1 and not env.refused
                assert env.steps[-1].right is (not wrong) and env.steps[-1].tool_fits

    for problem in task.problems("test"):
        asyncio.run(check(problem, False))
        asyncio.run(check(problem, True))


@each_task
def test_what_was_said_makes_the_same_world_when_it_is_read_again(task: Jobs) -> None:
    for rollout in made(task, 0.3):
        trace = asyncio.run(task.trace(rollout))
        assert trace.state == rollout.state["world"] and len(trace.steps) == rollout.state["steps"]


@each_task
def test_train_and_test_share_no_job_whatever_the_seed(task: Jobs) -> None:
    worlds = lambda split, seed: {repr((p.data["state"], p.data["operations"])) for p in replace(task, seed=seed).problems(split)}  # noqa: E731
    assert len(worlds("train", 0)) == 20 and worlds("train", 0) == worlds("train", 0) != worlds("train", 1)
    assert not (worlds("train", 0) | worlds("train", 1)) & (worlds("test", 0) | worlds("test", 1))


@each_task
def test_a_job_goes_on_after_a_history_that_was_healed_or_spoiled(task: Jobs) -> None:
    problem = task.problems("test")[0]
    healed = asyncio.run(task.continued(problem, 3))
    spoiled = asyncio.run(task.continued(problem, 3, {0, 2}))
    assert healed.id != spoiled.id and healed.data["cluster"] == spoiled.data["cluster"] == problem.id
    assert healed.messages[: len(problem.messages)] == problem.messages

    async def env_of(p: Problem) -> JobEnv:
        async with task.world.open(p) as env:
            return env

    assert [step.right for step in asyncio.run(env_of(healed)).steps] == [True] * 3
    assert [step.right for step in asyncio.run(env_of(spoiled)).steps] == [False, True, False]
    for p in (healed, spoiled):
        (rollout,) = asyncio.run(ToolAgent(FaultySpeaker(task, 0.0), task.world).attempt(p, 1))
        (step,) = asyncio.run(task.trace(rollout)).steps
        assert step.right and step.number == 3 and rollout.outcome == "terminated"
    with pytest.raises(ValueError, match="cannot go on after 6"):
        asyncio.run(task.continued(problem, 6))


def test_what_nobody_asked_to_be_touched_counts() -> None:
    task = Ledger(2, operations=("add",))
    problem = task.problems("test")[0]
    gold = [("add", dict(o["arguments"])) for o in problem.data["operations"]]
    other = next(name for name in problem.data["state"] if name not in [o["arguments"]["account"] for o in problem.data["operations"]])
    assert value(task, by_hand(task, problem, *gold, last=problem.answer)) == 1
    spoiled = by_hand(task, problem, *gold, ("add", {"account": other, "amount": 1}), last=problem.answer)
    assert value(task, spoiled) == 0
    trace = asyncio.run(task.trace(spoiled))
    assert [(s.number, s.right, s.tool_fits) for s in trace.steps] == [(0, True, True), (1, True, True), (2, False, False)]


def test_a_step_is_judged_by_the_world_as_it_is_and_not_as_it_should_be() -> None:
    task = Ledger(2, operations=("empty",), accounts=2)
    problem = task.problems("test")[0]
    (a, b) = (o["arguments"] for o in problem.data["operations"])
    has = problem.data["state"][a["source"]]
    rollout = by_hand(task, problem, ("transfer", {**a, "amount": has - 1}), ("transfer", {**b, "amount": sum(problem.data["state"].values()) - 1}))
    assert b["source"] == a["target"], "the other has nothing left"
    assert [s.right for s in asyncio.run(task.trace(rollout)).steps] == [False, True]


def test_reading_and_refused_calls_are_no_steps() -> None:
    task = Ledger(1, operations=("add",))
    problem = task.problems("test")[0]
    account = problem.data["operations"][0]["arguments"]["account"]
    rollout = by_hand(task, problem, ("balance", {"account": account}), ("add", {"account": "nobody", "amount": 1}), ("pay", {}), ("add", {"account": account}))
    trace = asyncio.run(task.trace(rollout))
    assert not trace.steps and [(r.turn, r.is_known) for r in trace.refused] == [(1, True), (2, False), (3, True)]


def test_told_one_by_one_the_next_thing_follows_each_step() -> None:
    task = TASKS["ledger one by one"]
    (rollout,) = made(task, 0.0, 1, 1)
    problem = rollout.problem
    said = [m.content for m in rollout.messages if m.role == "user"]
    words = [o["words"] for o in problem.data["operations"]]
    assert words[0] in problem.messages[0].content and words[1] not in problem.messages[0].content
    assert said == [*(f"Next: {w}" for w in words[1:]), f"That was the last one. {problem.data['question']}"]


def test_tasks_of_jobs_are_loaded_by_name_and_say_what_they_cannot_do() -> None:
    assert load("ledger:horizon=8,operations=add+transfer,told=one_by_one") == Ledger(8, "one_by_one", operations=("add", "transfer"))
    assert load("files:horizon=2").problems("test")[0].id.startswith("files/2/")
    for spec, words in {
        "ledger:horizon=0": "horizon", "ledger:accounts=1": "accounts", "ledger:operations=pay": "operations", "files:operations=fax": "operations",
        "files:told=never": "one_by_one",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            load(spec)


def test_the_loop_takes_the_tools_that_a_task_comes_with() -> None:
    assert load_world("task", "ledger:horizon=2") == Ledger(2).world
    for task in ("", "arithmetic", "prompts.jsonl"):
        with pytest.raises(UserError, match="try --task ledger or files"):
            load_world("task", task)
