"""How long each attempt took, by the clock, kept in a file beside what was attempted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from posttrain.agents.conversation import Transcript, Unwritten
from posttrain.runs.folder import disk_errors, read_jsonl
from posttrain.runs.records import cut_torn_line
from posttrain.types import Problem, Rollout

NAME = "timings.jsonl"


@dataclass
class Clock:
    """What a `ToolAgent` takes for its `journal`; a single process writes to the file, if there is one."""

    path: Path | None = None
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    """By problem and sample. An attempt runs beside others, and waits for them."""

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            cut_torn_line(self.path)
            self.seconds |= {(row["id"], row["sample"]): row["seconds"] for row in read_jsonl(self.path)}

    def __call__(self, problem: Problem, sample: int) -> Timed:
        return Timed(self)


class Timed(Unwritten):
    """The `Journal` of one attempt."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.started = clock, time.perf_counter()

    def begun(self, transcript: Transcript, seed: int) -> None:
        self.started = time.perf_counter()

    def ended(self, rollout: Rollout) -> None:
        key, seconds = (rollout.problem.id, rollout.sample), round(time.perf_counter() - self.started, 4)
        self.clock.seconds[key] = seconds
        if self.clock.path is not None:
            with disk_errors(self.clock.path.parent), self.clock.path.open("a") as file:
                file.write(json.dumps({"id": key[0], "sample": key[1], "seconds": seconds}) + "\n")
