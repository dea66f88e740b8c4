"""Attempts of agents on disk: a line for each thing that happens, written as it happens, from which any attempt can be taken up.

    begun   the problem, the sample, the seed, and what tools were offered
    said    a turn of the model, with its exact tokens
    told    what came back, how long that took, and whether it was the end
    ended   the outcome, its reason, and what the world has come to

A line stands in the file before anything follows from it: a turn is kept before its calls are run. It is then safe from the end
of this process, and at the end of an attempt from that of the machine. Of the tokens read, those that an earlier turn has already
read or written are not written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from posttrain.agents.conversation import Spoken, Transcript
from posttrain.evals.records import completion_from, message_from, plain
from posttrain.runs.folder import disk_errors, read_jsonl
from posttrain.runs.records import cut_torn_line
from posttrain.types import Completion, Message, Problem, Rollout, Usage, UserError

NAME = "steps.jsonl"


@dataclass(frozen=True)
class KeptAttempt:
    """One attempt, as a file has it."""

    transcript: Transcript
    seed: int
    rollout: Rollout | None = None
    """None while it has not come to an end."""


@dataclass
class AttemptLog:
    """A file of attempts; a single process writes to it. What a kill has torn of its last line is forgotten."""

    path: Path
    kept: dict[tuple[str, int], KeptAttempt] = field(default_factory=dict)
    """What the file held when it was opened, by problem and sample."""

    def __post_init__(self) -> None:
        cut_torn_line(self.path)
        self.kept = {(a.transcript.problem.id, a.transcript.sample): a for a in read_attempts(self.path)}

    def journal(self, problem: Problem, sample: int) -> AttemptJournal:
        """What is told of one attempt."""
        return AttemptJournal(self, problem, sample, (problem.id, sample) in self.kept)

    def write(self, row: Mapping[str, Any], sync: bool = False) -> None:
        with disk_errors(self.path.parent), self.path.open("a") as file:
            file.write(json.dumps(plain(row), separators=(",", ":")) + "\n")
            file.flush()
            if sync:
                os.fsync(file.fileno())


@dataclass
class AttemptJournal:
    """A `Journal` in an `AttemptLog`."""

    log: AttemptLog
    problem: Problem
    sample: int
    has_begun: bool
    """An attempt that is taken up began before."""

    def begun(self, transcript: Transcript, seed: int) -> None:
        if not self.has_begun:
            problem = asdict(self.problem)
            self._write("begun", seed=seed, tools=list(transcript.tools), asked={key: problem[key] for key in ("messages", "answer", "data")})
            for end in range(1, len(transcript.turns) + 1):  # a fork brings turns of another file
                part = replace(transcript, turns=transcript.turns[:end])
                self.spoke(part)
                if not part.waits:
                    self.answered(part)

    def spoke(self, transcript: Transcript) -> None:
        spoken, before = transcript.turns[-1].spoken, transcript.completions[:-1] if transcript.turns[-1].spoken.completion else ()
        self._write(
            "said", message=asdict(spoken.message), finished=spoken.finished, complaints=spoken.complaints,
            usage=asdict(spoken.usage) if spoken.usage else None, completion=_completion_row(spoken.completion, _seen(before)) if spoken.completion else None,
        )  # fmt: skip

    def answered(self, transcript: Transcript) -> None:
        turn = transcript.turns[-1]
        self._write("told", messages=[asdict(message) for message in turn.told or ()], seconds=turn.seconds, done=turn.done)

    def ended(self, rollout: Rollout) -> None:
        self.log.write({"event": "ended", **self._name(), "outcome": rollout.outcome, "error": rollout.error, "state": rollout.state}, sync=True)

    def _write(self, event: str, **more: Any) -> None:
        self.log.write({"event": event, **self._name(), **more})

    def _name(self) -> dict[str, Any]:
        return {"id": self.problem.id, "sample": self.sample}


def read_attempts(path: Path) -> list[KeptAttempt]:
    """The attempts in a file, in the order in which they began. Raises UserError for a line that is none of ours."""
    found: dict[tuple[str, int], KeptAttempt] = {}
    for number, row in enumerate(read_jsonl(path) if path.exists() else [], 1):
        try:
            key = (row["id"], row["sample"])
            found[key] = _begun(row) if row["event"] == "begun" else _after(found[key], row)
        except (KeyError, TypeError, AttributeError, IndexError):
            raise UserError(f"line {number} of '{path}' is no step of an attempt: remove it, or give another --out") from None
    return list(found.values())


def _begun(row: Mapping[str, Any]) -> KeptAttempt:
    asked = row["asked"]
    problem = Problem(row["id"], tuple(map(message_from, asked["messages"])), asked["answer"], asked["data"])
    return KeptAttempt(Transcript(problem, row["sample"], tuple(row["tools"])), row["seed"])


def _after(attempt: KeptAttempt, row: Mapping[str, Any]) -> KeptAttempt:
    transcript = attempt.transcript
    if row["event"] == "said":
        return replace(attempt, transcript=transcript.spoke(_spoken(row, _seen(transcript.completions))))
    if row["event"] == "told":
        return replace(attempt, transcript=transcript.answered(_messages(row["messages"]), row["seconds"], row["done"]))
    ended = Rollout(
        transcript.problem, transcript.said, transcript.completions, row["outcome"], transcript.sample, row["error"], usage=transcript.usage, state=row["state"],
    )  # fmt: skip
    return replace(attempt, rollout=ended)


def _messages(rows: list[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(map(message_from, rows))


def _spoken(row: Mapping[str, Any], seen: tuple[int, ...]) -> Spoken:
    written = row["completion"]
    if written is not None:
        read = seen[: written["kept_tokens"]] + tuple(written["read_token_ids"])
        rest = {key: value for key, value in written.items() if key not in ("kept_tokens", "read_token_ids")}
        written = completion_from({"prompt_token_ids": read, **rest})
    return Spoken(message_from(row["message"]), written, row["finished"], tuple(row["complaints"]), Usage(**row["usage"]) if row.get("usage") else None)


def _seen(completions: tuple[Completion, ...]) -> tuple[int, ...]:
    """What the last of them has read and written."""
    return completions[-1].prompt_token_ids + completions[-1].token_ids if completions else ()


def _completion_row(completion: Completion, seen: tuple[int, ...]) -> dict[str, Any]:
    kept = len(seen) if completion.prompt_token_ids[: len(seen)] == seen else 0
    row = asdict(completion)
    read = row.pop("prompt_token_ids")[kept:]
    return {"kept_tokens": kept, "read_token_ids": read, **row}
