"""`posttrain agent run`: a model with tools, at a prompt or at a task's problems."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from posttrain.commands.attempting import AgentArgs, Undertaking, asked, undertake
from posttrain.commands.base import positional


@dataclass(frozen=True)
class Args(AgentArgs):
    """Have a model with tools attempt something, and keep every step as it happens.

    The folder is taken up with `agent resume`, tried again with `agent replay`, and branched off with `agent fork`.
    """

    prompt: Annotated[str, positional()] = ""
    """What the user says; leave it out with --task."""


async def main(args: Args) -> int:
    """Claim the folder, attempt, show."""
    undertaking = Undertaking(AgentArgs(**{f.name: getattr(args, f.name) for f in fields(AgentArgs)}), args.prompt)
    asked(undertaking)  # what is asked for must be there before a folder is
    undertaking.write()
    return await undertake(undertaking)
