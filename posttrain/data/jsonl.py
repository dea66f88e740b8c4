"""Rows of JSON in a file, each with its place, so that whatever is wrong with one can be named."""

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


def read_jsonl(path: str | Path) -> list[Row]:
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
        row = json.loads(line.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not JSON: it is not UTF-8 from byte {error.start + 1} on; save the file as UTF-8") from error
    except json.JSONDecodeError as error:  # its own text speaks of line 1, whichever line of the file it is
        raise UserError(f"{place} is not JSON: {error.msg.lower()} at character {error.pos + 1}; mend or remove the line") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, and what is nested too deep
        raise UserError(f"{place} is not JSON that can be read: {error}") from error
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
