"""What the sides did, as ratios: a table, JSON, or a section of docs/BENCHMARKS.md. No number in it is typed by hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from benchmarks.machine import Machine
from benchmarks.work import Done, Work

HEADER = """# Benchmarks

Written by the programs in `benchmarks/` (`--markdown docs/BENCHMARKS.md` appends a section); no number here was typed by
hand. Each section is one run: every side did the same work, one after the other, each in a process of its own, and the
settings of each are in the program's docstring. Figures are medians over the repeats, with [lowest highest]; a ratio's
brackets are the worst and the best that these allow. *CPU* is processor time, summed over threads: beside other programs
it is the sounder figure. *Memory* is the largest resident memory of the process, loading included; *beyond state* is what of
it is neither weights, gradients, AdamW's moments nor a reference's weights. *× time*, *× CPU* and *× memory* say how many
times as much of each the peer took as posttrain.
"""

ROUNDING = {"float32": 1e-3, "bfloat16": 2e-2}
"""How far apart, relatively, two sides' negative log-likelihoods of the same tokens may be."""


@dataclass(frozen=True)
class Ratios:
    """How many times as much as we a peer took."""

    time: tuple[float, float, float]
    """Of the medians; and the lowest and highest that any two repeats give."""
    cpu: float
    """Of the medians of processor seconds."""
    memory: float
    """Of the peaks."""

    @classmethod
    def of(cls, peer: Done, ours: Done) -> Ratios:
        time = (
            median(peer.seconds) / median(ours.seconds),
            min(peer.seconds) / max(ours.seconds),
            max(peer.seconds) / min(ours.seconds),
        )
        return cls(time, median(peer.cpu_seconds) / median(ours.cpu_seconds), peer.peak_bytes / ours.peak_bytes)


@dataclass(frozen=True)
class Report:
    """One run of a benchmark."""

    title: str
    command: str
    """What to type for another."""
    work: Work
    machine: Machine
    sides: dict[str, Done]
    """By name; the first is ours."""

    def __post_init__(self) -> None:
        amounts = {name: done.tokens for name, done in self.sides.items()}
        if any(tokens != self.ours.tokens for tokens in amounts.values()):
            raise ValueError(f"the sides did different work (tokens): {amounts}")
        losses = {name: done.nll_nats for name, done in self.sides.items() if done.nll_nats is not None}
        if losses and max(losses.values()) > min(losses.values()) * (1 + ROUNDING[self.work.dtype]):
            raise ValueError(f"the sides did not compute the same (nats per trained token, before training): {losses}")

    @property
    def ours(self) -> Done:
        return next(iter(self.sides.values()))

    @property
    def parts(self) -> list[str]:
        """What the time was spent on, where the sides say."""
        return list(self.ours.parts)

    @property
    def conditions(self) -> str:
        """What was asked, in a line."""
        work = self.work
        tokens = ", ".join(f"{n:,} {kind}" for kind, n in self.ours.tokens.items())
        return f"{work.asked} (tokens: {tokens}); threads: {work.threads}; {work.repeats} repeats after {work.warmup} of warm-up"

    @property
    def rows(self) -> list[list[str]]:
        """The table's rows, its header first."""
        header = ["side", "all, s", *self._figures(self.ours), "× time", "× CPU", "× memory"]
        return [header, *(self._row(name, done) for name, done in self.sides.items())]

    def _row(self, name: str, done: Done) -> list[str]:
        seconds = _interval(median(done.seconds), min(done.seconds), max(done.seconds))
        cells = [name, seconds, *map(_short, self._figures(done).values())]
        if done is self.ours:
            return [*cells, "", "", ""]
        ratios = Ratios.of(done, self.ours)
        return [*cells, _interval(*ratios.time), _short(ratios.cpu), _short(ratios.memory)]

    def _figures(self, done: Done) -> dict[str, float]:
        """What a side took, by the heading of its column: what all sides of this benchmark say."""
        figures = {f"{part}, s": median(done.parts[part]) for part in self.parts}
        figures |= {"CPU, s": median(done.cpu_seconds), "tokens/s": done.tokens_per_s, "memory, GB": done.peak_bytes / 1e9}
        if done.state_bytes:
            figures["beyond state, GB"] = (done.peak_bytes - done.state_bytes) / 1e9
        if done.nll_nats is not None:
            figures["nll, nats"] = done.nll_nats
        return figures

    def table(self) -> Table:
        """For a terminal."""
        header, *rows = self.rows
        found = Table(title=Text(self.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
        for i, name in enumerate(header):
            found.add_column(Text(name), justify="right" if i else "left", no_wrap=not i)
        for row in rows:
            found.add_row(*(Text(cell) for cell in row))
        found.caption = Text(f"{self.conditions}\n{self.machine}\nmedian [lowest highest]")
        return found

    def markdown(self) -> str:
        """A dated section."""
        header, *rows = self.rows
        title = f"## {date.today().isoformat()}: {self.title}"
        lines = [title, "", f"`{self.command}`", "", f"{self.conditions}. {self.machine}.", ""]
        lines += [_line(header), _line(["---", *["---:"] * (len(header) - 1)]), *map(_line, rows)]
        return "\n".join(lines) + "\n"

    def json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        sides = {name: asdict(done) | {"tokens_per_s": done.tokens_per_s} for name, done in self.sides.items()}
        ratios = {name: asdict(Ratios.of(done, self.ours)) for name, done in self.sides.items() if done is not self.ours}
        return {
            "title": self.title, "date": date.today().isoformat(), "command": self.command, "work": asdict(self.work),
            "machine": asdict(self.machine), "sides": sides, "ratios": ratios,
        }  # fmt: skip

    def append_to(self, path: Path) -> None:
        """Add the section at the end of a file, which is begun with its header where it does not exist."""
        text = path.read_text() if path.is_file() else HEADER
        path.write_text(f"{text.rstrip()}\n\n{self.markdown()}")


def _interval(value: float, low: float, high: float) -> str:
    return f"{_short(value)} [{_short(low)} {_short(high)}]"


def _short(value: float) -> str:
    """Three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
