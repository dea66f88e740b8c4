"""`posttrain agent resume`: attempts that were cut off, taken up where they stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from posttrain.commands.attempting import Undertaking, undertake
from posttrain.commands.base import positional


@dataclass(frozen=True)
class Args:
    """Take up the attempts of a folder that were cut off, and make those that were not begun.

    Tools whose work was lost with the process (python) have their calls made again; a call that was under way is made again too.
    """

    folder: Annotated[Path, positional()]
    """The folder of `agent run` or `agent fork`."""
    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    undertaking = Undertaking.read(args.folder)
    return await undertake(replace(undertaking, args=replace(undertaking.args, json=args.json)))
