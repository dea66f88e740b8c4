"""The program behind each benchmark: read the flags, run the sides one after the other, print what they did."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.apart import Side, run_apart
from benchmarks.machine import Machine
from benchmarks.report import Report
from benchmarks.work import Done, Work, default_threads
from posttrain.policy.numerics import has_fast_bf16
from posttrain.types import UserError


SidesFor = Callable[[Work], Sequence[Side]]
"""Who is compared at some work, ours first."""


@dataclass(frozen=True)
class Options:
    """What to measure, and how to print it."""

    work: Work
    peers: bool = True
    """Also run the peers; without them there are no ratios."""
    only: tuple[str, ...] = ()
    """Of the peers, run these by name ("TRL, default"); all where none is named."""
    json: bool = False
    """Print JSON, unrounded."""
    markdown: Path | None = None
    """Also append a dated section to this file (docs/BENCHMARKS.md)."""


def main(module: str, title: str, about: str, work: Work, sides_for: SidesFor, argv: Sequence[str] | None = None) -> None:
    """`python -m MODULE`: exits with 2 on bad input, said in one sentence. `work` is what is done unless flags say otherwise."""
    argv = list(sys.argv[1:] if argv is None else argv)
    options = _parse(module, about, work, argv)
    try:
        report = measure(shlex.join(["python", "-m", module, *argv]), title, options, sides_for)
    except UserError as error:
        sys.exit(_say(f"{module}: {error}", 2))
    _show(report, options)


def measure(command: str, title: str, options: Options, sides_for: SidesFor) -> Report:
    """Run all sides, ours first.

    Raises UserError where a peer is unknown or not installed, before anything is measured; ValueError as soon as a side has
    done other work than ours.
    """
    work = _settled(options.work)
    sides = _chosen(sides_for(work), options)
    for side in sides:
        if side.needs and find_spec(side.needs) is None:
            raise UserError(f"{side.needs} is not installed: pip install 'posttrain[bench]', or run our side alone: --no-peers")
    work.prepare()
    machine = Machine.here()
    done: dict[str, Done] = {}
    for side in sides:
        _say(f"{side.name} …")
        done[side.name] = run_apart(side, work)
        _say(f"  {done[side.name]}")
        report = Report(title, command, work, machine, done)
    return report


def _chosen(sides: Sequence[Side], options: Options) -> list[Side]:
    """Ours, and the peers that are asked for."""
    peers = [side.name for side in sides if not side.is_ours]
    if unknown := [name for name in options.only if name not in peers]:
        raise UserError(f"no peer is called {unknown[0]!r}: --only takes some of {'; '.join(peers)}")
    return [side for side in sides if side.is_ours or options.peers and (not options.only or side.name in options.only)]


def _settled(work: Work) -> Work:
    """With `auto` and 0 replaced by what they stand for here."""
    automatic = "bfloat16" if has_fast_bf16() else "float32"
    return replace(work, dtype=automatic if work.dtype == "auto" else work.dtype, threads=work.threads or default_threads())


def _parse(module: str, about: str, work: Work, argv: list[str]) -> Options:
    import tyro

    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
    try:
        return tyro.cli(Options, prog=f"python -m {module}", args=argv, description=about, default=Options(work), config=markers)
    except UserError as error:
        sys.exit(_say(f"{module}: {error}", 2))


def _show(report: Report, options: Options) -> None:
    if options.markdown is not None:
        report.append_to(options.markdown)
    if options.json:
        print(json.dumps(report.json()))
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 140).print(report.table())


def _say(text: str, code: int = 0) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
