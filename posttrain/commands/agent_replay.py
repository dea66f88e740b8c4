"""`posttrain agent replay`: the same attempts against the answers that tools gave then."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from posttrain.commands.attempting import Undertaking, make_agent
from posttrain.commands.base import DONE, PARTIAL, positional
from posttrain.types import Rollout, UserError

if TYPE_CHECKING:
    from posttrain.agents.tool_agent import ToolAgent
    from posttrain.runs.attempts import KeptAttempt


@dataclass(frozen=True)
class Args:
    """Let the model speak again, run no tool, and say where it departs from what was kept. Exits with 3 where it does."""

    folder: Annotated[Path, positional()]
    """The folder of `agent run`."""
    model: str = ""
    """Another model in place of the one that made the attempts."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    from asyncio import gather

    from posttrain.runs.attempts import NAME, read_attempts

    undertaking = Undertaking.read(args.folder)
    kept = [attempt for attempt in read_attempts(args.folder / NAME) if attempt.rollout is not None and attempt.rollout.outcome != "error"]
    if not kept:
        raise UserError(f"'{args.folder}' holds no attempt that came to an end: posttrain agent resume {args.folder}")
    agent = make_agent(replace(undertaking.args, model=args.model or undertaking.args.model, tools=""))
    again = await gather(*(_again(agent, attempt) for attempt in kept))
    departed = [_departure(attempt.rollout, rollout) for attempt, rollout in zip(kept, again, strict=True)]
    rows = [{"id": a.transcript.problem.id, "sample": a.transcript.sample, "turns": len(a.transcript.turns), "departed": d} for a, d in zip(kept, departed, strict=True)]
    if args.json:
        print(json.dumps({"attempts": rows}))
    else:
        for row, exact in zip(rows, (bool(attempt.transcript.completions) for attempt in kept), strict=True):
            print(f"{row['id']} · attempt {row['sample'] + 1} · " + (row["departed"] or f"the same {row['turns']} turns, {'token for token' if exact else 'word for word'}"))
    return PARTIAL if any(departed) else DONE


async def _again(agent: ToolAgent, attempt: KeptAttempt) -> Rollout:
    from posttrain.agents.conversation import Transcript
    from posttrain.agents.recorded import Recorded

    alone = replace(agent, world=Recorded(attempt.transcript))
    return await alone.go_on(Transcript(attempt.transcript.problem, attempt.transcript.sample), attempt.seed)


def _departure(then: Rollout, now: Rollout) -> str:
    """Where the tokens part, in words; empty where they do not. Of a model that shows no tokens, where the messages part."""
    if not (then.completions and now.completions):
        pairs = enumerate(zip_longest(then.messages, now.messages), 1)
        return next((f"departs at message {number}" for number, (old, new) in pairs if old != new), "")
    for turn, (old, new) in enumerate(zip_longest(then.completions, now.completions), 1):
        if old is None or new is None:
            return f"departs at turn {turn}: {'nothing more was said' if new is None else 'more was said than then'}"
        if old.token_ids != new.token_ids:
            at = next((i for i, (a, b) in enumerate(zip(old.token_ids, new.token_ids, strict=False)) if a != b), min(len(old.token_ids), len(new.token_ids)))
            return f"departs at turn {turn}, token {at + 1}"
    return ""
