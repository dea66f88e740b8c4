"""The model of an agent that answers in one turn, taken into the loop: the same model and sampling, with tools."""

from __future__ import annotations

from posttrain.agents.chat import ChatAgent, Reported
from posttrain.agents.conversation import Limits, Speaker
from posttrain.agents.local import LocalSpeaker
from posttrain.agents.loop import ModelAgent
from posttrain.agents.server import ServerSpeaker
from posttrain.agents.tool_agent import ToolAgent
from posttrain.types import Agent, World


def in_loop(agent: Agent, world: World, steps: int) -> ToolAgent:
    """The agent's model in a world, for at most so many turns, of which its sampling's `max_tokens` is the longest.

    Raises UserError for a chat template whose calls cannot be read back, and TypeError for an agent that is no bare model.
    """
    if not isinstance(agent, ModelAgent | ChatAgent | Reported):
        raise TypeError(f"{type(agent).__name__} is no bare model's agent, and cannot be taken into the loop")
    return ToolAgent(_speaker(agent), world, Limits(steps, steps * agent.sampling.max_tokens))


def _speaker(agent: Agent) -> Speaker:
    if isinstance(agent, Reported):
        return _speaker(agent.agent)
    if isinstance(agent, ChatAgent):
        return ServerSpeaker(agent.endpoint, agent.sampling)
    assert isinstance(agent, ModelAgent), "a server's agent is one of these two"
    agent.renderer.read((), ({},))  # says at once where calls cannot be read
    return LocalSpeaker(agent.engine, agent.renderer, agent.sampling)
