"""`posttrain export`: the attempts of an evaluation in others' formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from posttrain.commands.base import DONE, make_folder, positional


@dataclass(frozen=True)
class Args:
    """Write the attempts that posttrain eval kept: as a log of Inspect (.eval or .json), or as a table, parquet or plain jsonl.

    Every format has the exact tokens and scores; what could not be scored stays apart from what is wrong.
    """

    records: Annotated[Path, positional()]
    """The folder that eval wrote with --out."""
    to: Literal["inspect", "parquet", "jsonl"]
    """The format."""
    out: Path
    """The file."""
    task: str = ""
    """Which of the folder's tasks; a log of Inspect holds one, a table all."""


async def main(args: Args) -> int:
    """Read, write, say."""
    from posttrain.runs.attempt_rows import attempt_rows, write_jsonl, write_parquet
    from posttrain.types import UserError

    if args.to == "inspect" and args.out.suffix not in (".eval", ".json"):
        raise UserError(f"a log of Inspect ends in .eval or .json, not in '{args.out.name}': give another --out")
    kept, when = _kept(args.records, args.task)
    make_folder(args.out.parent)
    if args.to == "inspect":
        _write_inspect(kept, when, args.out)
    else:
        asked = zip(kept.evaluations, kept.settings, strict=True)
        rows = (row for e, settings in asked for row in attempt_rows(e.task, {**settings, "samples": e.samples, "seed": e.seed}, e.records))
        (write_parquet if args.to == "parquet" else write_jsonl)(rows, args.out)
    n = sum(len(record.attempts) for e in kept.evaluations for record in e.records)
    print(f"exported: {args.out} ({n} attempts at {sum(len(e.records) for e in kept.evaluations)} problems)")
    return DONE


def _kept(folder: Path, task: str):
    """The evaluations in a folder with the settings they were made with, and when. Raises UserError where there are none of this name."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from posttrain.runs.records import EVALUATION, read_kept
    from posttrain.types import UserError

    file = folder / EVALUATION
    if not file.is_file():
        raise UserError(f"'{folder}' holds no evaluation: give a folder that posttrain eval wrote with --out")
    kept = read_kept(folder)
    names = [e.task for e in kept.evaluations]
    if task and task not in names:
        raise UserError(f"'{folder}' holds no evaluation of '{task}': there are {', '.join(names)}")
    places = [i for i, name in enumerate(names) if task in ("", name)]
    chosen = replace(kept, **{field: tuple(getattr(kept, field)[i] for i in places) for field in ("evaluations", "settings")})
    return chosen, datetime.fromtimestamp(int(file.stat().st_mtime), UTC)


def _write_inspect(kept, when, out: Path) -> None:
    from posttrain.runs.inspect_log import InspectLog
    from posttrain.types import UserError

    if len(kept.evaluations) != 1:
        raise UserError(f"a log of Inspect holds one task: give --task with one of {', '.join(e.task for e in kept.evaluations)}")
    InspectLog(kept.evaluations[0], kept.model_path, when, {**kept.settings[0], "split": kept.split}).write(out)
