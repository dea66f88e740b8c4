"""Another task's problems in an agent's loop: the same ability in use.

The model reads the descriptions of tools before the question, and answers when it calls none any more. By default the tools are those
of an empty workspace of files, which are of no help: what a model scores here less than on the bare problems (`beside`) is what it loses
by being an agent. `of` names the task, whose options follow: `loop:of=gsm8k,path=FILE,tools=files+calculator,steps=8`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.agents.in_loop import in_loop
from posttrain.agents.toolboxes import load_world
from posttrain.tasks import load, of_another
from posttrain.tasks.of_task import InUse
from posttrain.types import Agent, Task

LOOP = "loop"


@dataclass(frozen=True)
class InLoop(InUse):
    """A task whose problems are attempted with tools, in at most `steps` turns. Attempts are written: a task of choice is then none."""

    tools: tuple[str, ...] = ("files",)
    """As `agents/toolboxes.py` names them."""
    steps: int = 4
    """Turns of the model in one attempt, at most."""

    @property
    def name(self) -> str:
        return f"{self.task.name} in an agent's loop with {' and '.join(self.tools)}"

    @property
    def depends_on(self) -> Mapping[str, Any]:
        return {**super().depends_on, "tools": ",".join(self.tools), "tool_steps": self.steps}

    def through(self, agent: Agent) -> Agent:
        """The bare model's agent in the loop. Raises UserError for tools that do not exist, and for calls that cannot be read back."""
        return in_loop(agent, load_world(",".join(self.tools)), self.steps)


def load_used(spec: str) -> Task:
    """The task that `posttrain.tasks.load` knows by this name, or `loop:of=TASK`."""
    return load(spec, {LOOP: _in_loop})


def _in_loop(options: str) -> InLoop:
    task, own = of_another(LOOP, options, {"tools": ("files",), "steps": 4})
    return InLoop(task, **own)
