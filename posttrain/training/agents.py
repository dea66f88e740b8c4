"""Who attempts the problems of a training: the model as it is, or the model with tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.agents.in_loop import in_loop
from posttrain.agents.loop import ModelAgent
from posttrain.agents.tool_agent import ToolAgent
from posttrain.agents.toolboxes import load_world
from posttrain.engine.local import LocalEngine
from posttrain.policy.hf import Policy
from posttrain.types import Agent, Problem, Sampling


def make_agent(policy: Policy, sampling: Sampling, tools: str = "", steps: int = 1, task: str = "") -> Agent:
    """The policy as an agent; with `tools`, as `agents/toolboxes.py` names them, one that answers in at most so many turns.

    `sampling.max_tokens` is then the longest turn. Raises UserError for tools that cannot be had, and for a chat template whose calls
    cannot be read back.
    """
    bare = ModelAgent(LocalEngine(policy), policy.renderer, sampling)
    return in_loop(bare, load_world(tools, task), steps) if tools else bare


async def offered(agent: Agent, problem: Problem = Problem("tools", (), "")) -> Sequence[Mapping[str, Any]]:
    """The descriptions of tools that the agent's model reads at a problem (a task's own world opens for no other); none for a bare model."""
    if not isinstance(agent, ToolAgent):
        return ()
    async with agent.world.open(problem, 0) as env:
        return tuple(env.tools)
