"""What the tasks share: the two splits, and rows of JSON in a file or on the hub."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from posttrain.types import UserError

Row = tuple[str, dict[str, Any]]
"""Where a row stands ("FILE line 3"), and what is in it."""


def check_split(split: str) -> None:
    """Raises `UserError` unless `split` is `train` or `test`."""
    if split not in ("train", "test"):
        raise UserError(f"a task has the splits train and test, not {split!r}")


def read_jsonl(path: str) -> list[Row]:
    """The objects in a file of JSON lines (gzipped if it ends in .gz), each with its place; blank lines are skipped.

    Raises `UserError`, naming the file and the line, for what is not there, not readable or not a JSON object.
    """
    return [(place, _object(place, line)) for place, line in _lines(Path(path)) if line.strip()]


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path} line {number}", line
    except (OSError, EOFError, zlib.error) as error:
        where = f"{path} after line {number}" if number else path
        raise UserError(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from error


def _object(place: str, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # what is no UTF-8, what is no JSON, and what is too deep
        raise UserError(f"{place} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place} is not a JSON object but {type(row).__name__}")
    return row


def text_field(place: str, row: Mapping[str, Any], key: str) -> str:
    """The text under `key`, or the number as text. Raises `UserError` if there is neither."""
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{place} has no text under {key!r}; its keys are {', '.join(map(repr, row)) or 'none'}")
    return value


def read_hub(dataset: str, config: str | None, split: str, option: str) -> list[Row]:
    """The rows of a data set on the Hugging Face hub, or in its cache, through the optional package `datasets`.

    Raises `UserError` if the package is missing, or if the data set is neither cached nor within reach; `option` is the
    task's own option that takes a local file instead.
    """
    try:
        import datasets
    except ImportError as error:
        remedy = f"pip install 'posttrain[datasets]', or say {option}=FILE"
        raise UserError(f"{dataset} needs the package datasets: {remedy}") from error
    try:
        rows = datasets.load_dataset(dataset, config, split=split)
    except Exception as error:  # the hub's client raises a dozen kinds for "not cached and not within reach"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot get {dataset} from the hub or its cache ({reason}): say {option}=FILE") from error
    return [(f"{dataset} {split} row {number}", dict(row)) for number, row in enumerate(rows, 1)]
