"""`posttrain doctor`: does what keeps untrusted code in hold here?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from posttrain.commands.base import DONE, FAILED, show


@dataclass(frozen=True)
class Args:
    """Say which layers of the sandbox are in force, and run hostile programs in it and against the judge of programs.

    Takes some 10 seconds. Exits with 0 only when every required layer is in force and every program was held.
    """

    json: bool = False
    """Print JSON."""


async def main(args: Args) -> int:
    """Look, try, print."""
    from posttrain.rewards.hostile_answers import run_answers
    from posttrain.sandbox.hostile import run_cases
    from posttrain.sandbox.layers import layers

    found = layers()
    stands = all(layer.in_force for layer in found if layer.required)
    tried = [*await run_cases(), *await run_answers()] if stands else []
    held = stands and all(verdict.held for verdict in tried)
    if args.json:
        print(json.dumps({"held": held, "layers": list(map(asdict, found)), "hostile": list(map(asdict, tried))}))
    else:
        _show_layers(found)
        _show_tried(tried)
        held_of = f"{sum(verdict.held for verdict in tried)} of {len(tried)} hostile programs were held."
        print(f"\n{held_of if stands else 'No untrusted code is run here: a required layer is missing.'}")
    return DONE if held else FAILED


def _show_layers(found: Sequence) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What keeps untrusted code in", title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "in force", "what was found"):
        table.add_column(name)
    for layer in found:
        state = "yes" if layer.in_force else "no" if layer.required else "no (not required)"
        remedy = f"; {layer.remedy}" if layer.remedy and not layer.in_force else ""
        table.add_row(Text(layer.name), Text(state, "" if layer.in_force else "bold red"), Text(f"{layer.detail}{remedy}"))
    show(table)


def _show_tried(tried: Sequence) -> None:
    from rich.table import Table
    from rich.text import Text

    if not tried:
        return
    table = Table(title="\nWhat was tried", title_justify="left", box=None, pad_edge=False)
    for name in ("hostile program", "tries", "held", "how it ended"):
        table.add_column(name)
    for verdict in tried:
        held = Text("yes") if verdict.held else Text("NO", "bold red")
        table.add_row(Text(verdict.name), Text(verdict.tries), held, Text(verdict.detail))
    show(table)
