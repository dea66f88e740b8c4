"""A benchmark whose findings are rows of text: its command line, its section of docs/BENCHMARKS.md, its lines on the terminal."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from benchmarks.machine import Machine
from benchmarks.report import HEADER
from posttrain.types import UserError

Rows = Sequence[Sequence[str]]
"""The header first; the first cell of a row is its name."""


class Options(Protocol):
    """What every such benchmark can be told."""

    json: bool
    markdown: Path | None


@dataclass(frozen=True)
class Found:
    """What a benchmark has measured."""

    rows: Rows
    figures: Mapping[str, Any]
    """The same, unrounded, for --json."""
    conditions: str
    """What was done; the machine is told behind it."""
    besides: str = ""
    """What is told behind the machine."""
    remarks: Sequence[str] = ()
    """Lines below the rows, such as whether a goal is reached."""


def main(module: str, title: str, about: str | None, options: type, measure: Callable[[Any], Found], argv: Sequence[str] | None = None) -> None:
    """`python -m MODULE`: measures, writes, prints; exits with 2 on bad input, said in one sentence."""
    import tyro

    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        told = tyro.cli(options, prog=f"python -m {module}", args=argv, description=about)
        machine = Machine.here()
        _report(measure(told), told, machine, title, shlex.join(["python", "-m", module, *argv]))
    except UserError as error:
        print(f"{module}: {error}", file=sys.stderr)
        sys.exit(2)


def _report(found: Found, told: Options, machine: Machine, title: str, command: str) -> None:
    if told.markdown is not None:
        text = told.markdown.read_text() if told.markdown.is_file() else HEADER
        told.markdown.write_text(f"{text.rstrip()}\n\n{_markdown(title, command, found, machine)}")
    if told.json:
        print(json.dumps({**found.figures, "machine": asdict(machine)}))
        return
    widths = [max(map(len, column)) for column in zip(*found.rows, strict=True)]
    for name, *cells in found.rows:
        print("  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]))
    print("\n".join(["", str(machine), *found.remarks]))


def _markdown(title: str, command: str, found: Found, machine: Machine) -> str:
    """A dated section."""
    header, *others = found.rows
    conditions = ". ".join(filter(None, [found.conditions, str(machine), found.besides]))
    lines = [f"## {date.today().isoformat()}: {title}", "", f"`{command}`", "", f"{conditions}.", ""]
    lines += [f"| {' | '.join(row)} |" for row in (header, ["---", *["---:"] * (len(header) - 1)], *others)]
    return "\n".join(lines) + "\n"
