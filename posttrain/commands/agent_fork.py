"""`posttrain agent fork`: another way for an attempt to go on, from any of its turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from posttrain.commands.attempting import Undertaking, asked, make_agent, show
from posttrain.commands.base import positional
from posttrain.types import UserError


@dataclass(frozen=True)
class Args:
    """Begin an attempt anew after some of its turns, with another seed, in a folder of its own; its tools are run.

    What tools have left outside this program (files, a site) is as it is now, and not as it was then.
    """

    folder: Annotated[Path, positional()]
    """The folder of `agent run`."""
    at: int
    """How many of its turns are kept."""
    out: Path
    """The folder for the fork."""
    problem: str = ""
    """Of which problem, by its id; empty takes the first attempt."""
    sample: int = 0
    """Which attempt at it, from 0."""
    seed: int = 1
    """What the turns after it are drawn with."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    from posttrain.runs.attempts import NAME, AttemptLog, read_attempts

    undertaking = Undertaking.read(args.folder)
    kept = read_attempts(args.folder / NAME)
    name = args.problem or (kept[0].transcript.problem.id if kept else "")
    found = next((a.transcript for a in kept if (a.transcript.problem.id, a.transcript.sample) == (name, args.sample)), None)
    if found is None:
        raise UserError(f"'{args.folder}' holds no attempt {args.sample} at '{name}': name one with --problem and --sample")
    answered = [turn for turn in found.turns if turn.told is not None and not turn.done]
    if not 0 <= args.at <= len(answered):
        raise UserError(f"the attempt has {len(answered)} turns that can be gone on from: give --at of 0 to {len(answered)}")
    task, _ = asked(undertaking)
    settings = replace(undertaking.args, out=args.out, seed=args.seed, json=args.json)
    agent = make_agent(settings)
    Undertaking(settings, undertaking.prompt, ((name, args.sample),)).write()
    forked = replace(agent, journal=AttemptLog(args.out / NAME).journal)
    rollout = await forked.go_on(replace(found, turns=tuple(answered[: args.at])), args.seed)
    return await show([rollout], task, settings)
