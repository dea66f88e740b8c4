"""Models measured as agents with tools: `eval` and `compare` with --tools."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from posttrain import cli
from posttrain.agents.loop import ModelAgent
from posttrain.commands.measuring import Measured, SuiteArgs
from posttrain.engine.scripted import ScriptedEngine
from posttrain.evals.comparison import Named
from posttrain.evals.kept import compare_evaluations
from posttrain.evals.measure import Evaluation, measure
from posttrain.policy.models import tiny_tokenizer
from posttrain.renderer import Renderer
from posttrain.tasks.arithmetic import Arithmetic
from posttrain.tasks.ledger import Ledger
from posttrain.tools.calculator import calculator
from posttrain.tools.calling import Calling
from posttrain.tools.tool import tool
from posttrain.types import Sampling, UserError
from tests.small_models import write_model

RENDERER = Renderer(tiny_tokenizer())
SMALL = ("--task", "arithmetic:levels=1", "--problems", "3", "--samples", "2", "--max-tokens", "6", "--dtype", "float32")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model with room for the descriptions of tools."""
    return str(write_model(tmp_path_factory.mktemp("model"), max_position_embeddings=2048))


def calls(prompt: tuple[int, ...], sample: int, seed: int) -> list[int]:
    """A model that can add only by calling, and then says what it is told."""
    read = RENDERER.decode(prompt)
    told = re.findall(r"<tool_response>\n(-?\d+)", read)
    asked = re.findall(r"(-?\d+ ?[-+*] ?-?\d+)", read)[-1]
    text = f"It is {told[-1]}." if told else "<tool_call>" + json.dumps({"name": "calculator", "arguments": {"expression": asked}}) + "</tool_call>"
    return [*RENDERER.encode(text), RENDERER.stop_token_ids[0]]


def measured(**args) -> Evaluation:
    """That model on three sums."""
    world = Calling((tool(calculator),)) if args else None
    model = Measured("m", None, ModelAgent(ScriptedEngine(calls), RENDERER, Sampling(max_tokens=200)), Sampling(), SuiteArgs(samples=2, **args), world)
    task = Arithmetic((1,))
    asked = model.asked(task)
    return asyncio.run(measure(asked.agent, task, task.problems("test")[:3], asked.samples))


def test_a_model_that_can_add_only_by_calling_is_right_with_tools_alone() -> None:
    bare, agent = measured(), measured(tools="calculator")
    assert bare["accuracy"].value == 0 and agent["accuracy"].value == 1
    assert (agent["turns"].value, agent["calls"].value, agent["call_errors_frac"].value) == (2, 1, 0)
    assert not any(quantity.name in ("turns", "calls") for quantity in bare.quantities)
    assert measured(tools="calculator", tool_steps=1)["truncated_frac"].value == 1
    found = compare_evaluations(Named("bare", ""), Named("agent", ""), bare, agent)
    assert [(found[name].base.value, found[name].trained.value) for name in ("turns", "calls")] == [(1, 2), (0, 1)]


def test_attempts_with_tools_are_kept_apart_and_may_be_compared_with_those_without(posttrain, roomy: str, tmp_path: Path) -> None:
    bare = posttrain("eval", "--model", roomy, *SMALL, "--out", tmp_path / "a", "--json").json
    argv = ("eval", "--model", roomy, *SMALL, "--tools", "calculator", "--tool-steps", 2, "--json")
    agent = posttrain(*argv, "--out", tmp_path / "a").json
    assert agent["settings"] == {**bare["settings"], "tools": "calculator", "tool_steps": 2}
    rows = [json.loads(line) for line in (tmp_path / "a" / "records.jsonl").read_text().splitlines()]
    assert len({row["key"] for row in rows}) == 6
    prompts = [RENDERER.decode(row["attempts"][0]["completions"][0]["prompt_token_ids"]) for row in rows]
    assert ["calculator" in prompt for prompt in prompts] == [False] * 3 + [True] * 3
    assert posttrain(*argv, "--out", tmp_path / "b").json == agent
    ended = posttrain("compare", tmp_path / "b", tmp_path / "b")
    assert ended.code == 0 and "verdict: tied" in ended.out
    said = posttrain(*argv[:-1], "--out", tmp_path / "b").out
    assert "attempted with the tools calculator, in at most 2 turns; no attempt called one on arithmetic" in said
    found = posttrain("compare", roomy, roomy, *SMALL, "--tools", "calculator", "--out", tmp_path / "c", "--json").json
    assert next(row for row in found["rows"] if row["name"] == "accuracy")["difference"]["value"] == 0
    assert any(row["name"] == "kl_trained_base_per_token" and row["difference"]["value"] == 0 for row in found["rows"])


def test_a_task_that_comes_with_tools_is_measured_with_them(posttrain, roomy: str) -> None:
    ended = posttrain("eval", "--model", roomy, "--task", "ledger:horizon=1", "--tools", "task", *SMALL[2:], "--json")
    assert ended.code == 0 and ended.json["settings"]["tools"] == "task", ended.err
    model = Measured("m", None, ModelAgent(ScriptedEngine(calls), RENDERER), Sampling(), SuiteArgs(tools="task"))
    assert model.asked(Ledger(1)).agent.world == Ledger(1).world
    with pytest.raises(UserError, match="takes the tools that a task comes with"):
        model.asked(Arithmetic())


def test_tools_that_do_not_fit_are_refused_before_any_work(posttrain, roomy: str) -> None:
    for argv, words in (
        (("--tools", "calculater"), "there is no tool 'calculater'"),
        (("--tools", "calculator", "--tool-steps", "0"), "limit of steps must be above 0"),
        (("--tool-steps", "2"), "--tool-steps has no effect without --tools"),
        (("--tools", "calculator", "--task", "capitals"), "--choices written"),
        (("--tools", "task"), "takes the tools that a task comes with"),
    ):
        for command in (("eval", "--model", roomy), ("compare", roomy, roomy)):
            ended = posttrain(*command, *SMALL, *argv)
            assert ended.code == cli.USAGE and words in ended.err and "Traceback" not in ended.err, ended.err
    ended = posttrain("eval", "--model", "tiny", *SMALL, "--tools", "calculator")
    assert ended.code == cli.USAGE and "longer context" in ended.err
