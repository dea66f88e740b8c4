"""Another model, or a whole agent, as a tool."""

from __future__ import annotations

import itertools

from posttrain.seeds import fold
from posttrain.tools.tool import Tool, tool
from posttrain.types import Agent, Message, Problem, ToolError


def agent_tool(agent: Agent, name: str = "ask", about: str = "Ask another model, which sees nothing but your question.", seed: int = 0) -> Tool:
    """The tool that puts a question to an agent and gives its last words; `about` is what the model reads of it.

    The same question asked again gets another attempt. An agent that failed is told of; one that ran out of a budget has its last words
    given with the reason.
    """
    asked = itertools.count()

    async def ask(question: str) -> str:
        number = next(asked)
        problem = Problem(f"{name}/{number}", (Message("user", question),), "")
        (rollout,) = await agent.attempt(problem, 1, fold(seed, name, number))
        if rollout.outcome == "error":
            raise ToolError(f"{name} failed: {rollout.error}")
        reason = f"\n(it was broken off: {rollout.error or 'it ran out of tokens'})" if rollout.outcome == "truncated" else ""
        return rollout.text + reason

    ask.__doc__ = about
    return tool(ask, name)
