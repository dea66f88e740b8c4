"""What has been measured, on disk: a line for each problem, only ever added to, so that a measurement that was cut off goes on.

A record is found again by the hash of all that it depends on: the problem (what is asked, what is right, what the judge is
given), the settings (samples, seed, sampling, number format) and the model's own revision, which is a hash of its weights. A
model that was trained on, or a problem that was mended, is therefore measured anew, into the same file. Who judged is no part of
that hash, and stands in the record: attempts that another judge has scored are found, and judged again. A judge whose code was
mended is not noticed: ask for all anew with --no-resume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from posttrain.evals.confidence import confidences_from
from posttrain.evals.measure import Evaluation, evaluation
from posttrain.evals.records import Record, plain, record_from, record_row
from posttrain.runs.folder import disk_errors, read_object
from posttrain.types import Aspect, Problem, UserError, unscored

NAME, EVALUATION = "records.jsonl", "evaluation.json"


@dataclass
class RecordLog:
    """A `Keeper` over a file of JSON lines; a single process writes to it."""

    path: Path
    settings: Mapping[str, Any]
    """What the records depend on beside the problem, samples and seed: the model's revision, the sampling."""
    resume: bool = True
    """Whether records from before are found again; without, all is measured anew and added."""
    judged_by: Mapping[str, Any] = field(default_factory=dict)
    """Who scores the attempts, where there is a choice."""
    _rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of each key, in order."""

    def __post_init__(self) -> None:
        cut_torn_line(self.path)
        if self.resume:
            for row in read_rows(self.path):
                self._rows.setdefault(row["key"], []).append(row)

    def find(self, task: str, problem: Problem, samples: int, seed: int) -> Record | None:
        """The newest record that this judge scored; if there is none the newest, with what another judge gave taken from it."""
        settings = self._all(samples, seed)
        rows = self._rows.get(self._key(task, problem, settings), [])
        own = [row for row in rows if row["settings"] == settings | plain(self.judged_by)]
        return _record(self.path, own[-1]) if own else _unjudged(_record(self.path, rows[-1])) if rows else None

    def keep(self, task: str, record: Record, samples: int, seed: int) -> None:
        settings = self._all(samples, seed)
        key, by = self._key(task, record.problem, settings), plain(self.judged_by)
        row = {"key": key, "task": task, "settings": settings | by, **record_row(record)}
        self._rows.setdefault(key, []).append(row)
        with disk_errors(self.path.parent), self.path.open("a") as file:
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _all(self, samples: int, seed: int) -> dict[str, Any]:
        return plain({**self.settings, "samples": samples, "seed": seed})

    @staticmethod
    def _key(task: str, problem: Problem, settings: Mapping[str, Any]) -> str:
        content = {"task": task, "problem": asdict(problem), "settings": settings}
        return sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()[:32]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of records, in order; none where there is no file. Raises UserError, with its number, for a damaged one."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        try:
            row = json.loads(line)
            rows.append({"key": row["key"], "task": row["task"], "settings": row["settings"], **row})
        except (ValueError, KeyError, TypeError):
            raise UserError(f"line {number} of '{path}' is not a record of an evaluation: remove it, or give another --out") from None
    return rows


def read_records(path: Path, task: str, settings: Mapping[str, Any], ids: list[str]) -> list[Record]:
    """The newest record of each problem named, of one task measured with these settings. Raises UserError where one is missing."""
    rows = {row["id"]: row for row in read_rows(path) if row["task"] == task and row["settings"] == settings}
    missing = next((name for name in ids if name not in rows), None)
    if missing is not None:
        raise UserError(f"'{path}' has no record of {missing}, which its evaluation names: measure again")
    return [_record(path, rows[name]) for name in ids]


def _record(path: Path, row: Mapping[str, Any]) -> Record:
    try:
        return record_from(row)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"'{path}' holds a damaged record of {row.get('id')}: remove its line, or give another --out") from None


def _unjudged(record: Record) -> Record:
    """The record without its scores; an attempt at which the machinery failed never had one."""
    bare = [a if a.failed else replace(a, score=unscored("another judge has scored this")) for a in record.attempts]
    return replace(record, attempts=tuple(bare))


@dataclass(frozen=True)
class Kept:
    """What `posttrain eval` left in a folder."""

    model_path: str
    split: str
    evaluations: tuple[Evaluation, ...]
    """One for each task."""
    settings: tuple[Mapping[str, Any], ...]
    """What the records of each depend on, beside problem, samples and seed, and who judged."""


def is_kept(folder: Path) -> bool:
    """Whether the folder holds an evaluation, and is not itself a model or a run."""
    return (folder / EVALUATION).is_file() and not (folder / "config.json").exists()


def read_kept(folder: Path) -> Kept:
    """The evaluations in a folder, made again from their records. Raises UserError for what is missing or damaged."""
    found = read_object(folder / EVALUATION)
    try:
        each = found.get("evaluations", [found])
        settings = tuple(one.get("settings") or found["settings"] for one in each)
        evaluations = tuple(_evaluation(folder / NAME, *one) for one in zip(settings, each, strict=True))
        return Kept(found["model_path"], found["split"], evaluations, settings)
    except (KeyError, TypeError):
        raise UserError(f"'{folder / EVALUATION}' is of an older kind, or damaged: measure again") from None


def _evaluation(path: Path, settings: Mapping[str, Any], found: Mapping[str, Any]) -> Evaluation:
    samples, seed = found["samples"], found["seed"]
    records = read_records(path, found["task"], {**settings, "samples": samples, "seed": seed}, [p["id"] for p in found["problems"]])
    aspects = [Aspect(**asked) for asked in found.get("aspects", ())]
    confidences = tuple(map(confidences_from, found.get("confidences", ())))
    made = evaluation(found["task"], samples, seed, records, chance=found["chance"], aspects=aspects, beside=found.get("beside", ""))
    return replace(made, confidences=confidences)


def cut_torn_line(path: Path) -> None:
    """Forget a last line that a kill left unfinished."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
