"""Attempts as a table, one row each: plain JSON lines, or parquet, from either of which the records can be made again.

Of what was sampled every turn is a list of its own: `prompt_token_ids`, `token_ids`, `sampling_logprobs` (nats, null where
unknown); of options that were not written but read there are `readings`. What has no fixed shape (messages, the problem's data, a
score's parts) is an object in JSON lines, and JSON as text in parquet, whose columns must all be of one kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posttrain.evals.records import Record, record_from, record_row
from posttrain.runs.folder import disk_errors, read_jsonl, write_atomically
from posttrain.types import UserError

OBJECTS = ("settings", "problem", "messages", "parts", "usage", "turns", "readings", "retrievals", "state")
"""Columns without a fixed shape."""
EXACT = ("prompt_token_ids", "token_ids", "sampling_logprobs")


def attempt_rows(task: str, settings: Mapping[str, Any], records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A row for each attempt, in order."""
    for record in records:
        whole = record_row(record)
        for attempt, made in zip(whole["attempts"], record.attempts, strict=True):
            completions = attempt.pop("completions")
            exact = {name: [completion.pop(name) for completion in completions] for name in EXACT}
            known = bool(made.rollout.completions or made.rollout.usage)
            yield {
                "task": task, "id": whole["id"], "sample": attempt.pop("sample"), "score": attempt.pop("score"), "outcome": attempt.pop("outcome"),
                "answer": whole["problem"]["answer"], "text": made.rollout.text, "n_tokens": made.rollout.n_tokens if known else None,
                "explanation": attempt.pop("explanation"), "error": attempt.pop("error"), **exact, "messages": attempt.pop("messages"),
                "problem": whole["problem"], "parts": attempt.pop("parts"), "usage": attempt.pop("usage", None), "turns": completions,
                **{name: attempt.pop(name, []) for name in ("readings", "retrievals")}, "state": attempt.pop("state"), "settings": dict(settings),
            }  # fmt: skip


def records_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Record]]:
    """What `attempt_rows` was given, by task. Raises UserError for rows of another kind."""
    problems: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    try:
        for row in rows:
            problems.setdefault((row["task"], json.dumps(row["settings"], sort_keys=True), row["id"]), []).append(row)
        found: dict[str, list[Record]] = {}
        for (task, _, name), attempts in problems.items():
            whole = {"id": name, "problem": attempts[0]["problem"], "attempts": [_attempt(row) for row in attempts]}
            found.setdefault(task, []).append(record_from(whole))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError("these rows are not those of an evaluation's attempts: export them anew") from None
    return found


def _attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    exact = zip(row["turns"], *(row[name] for name in EXACT), strict=True)
    completions = [{**turn, **dict(zip(EXACT, values, strict=True))} for turn, *values in exact]
    return {**row, "completions": completions}


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """One JSON object a line."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of either kind, by its name."""
    return read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)


def write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """A parquet file. Raises UserError where pyarrow is not installed."""
    pa, parquet = _pyarrow()
    kinds = {
        "task": pa.string(), "id": pa.string(), "sample": pa.int64(), "score": pa.float64(), "outcome": pa.string(), "answer": pa.string(),
        "text": pa.string(), "n_tokens": pa.int64(), "explanation": pa.string(), "error": pa.string(),
        "prompt_token_ids": pa.list_(pa.list_(pa.int32())), "token_ids": pa.list_(pa.list_(pa.int32())),
        "sampling_logprobs": pa.list_(pa.list_(pa.float64())), **{name: pa.string() for name in OBJECTS},
    }  # fmt: skip
    flat = [{**row, **{name: json.dumps(row[name], ensure_ascii=False) for name in OBJECTS}} for row in rows]
    work = path.with_name(f".{path.name}.partial")
    with disk_errors(path.parent):
        try:
            parquet.write_table(pa.Table.from_pylist(flat, schema=pa.schema(list(kinds.items()))), work)
            work.replace(path)
        finally:
            work.unlink(missing_ok=True)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows that `write_parquet` wrote."""
    pa, parquet = _pyarrow()
    try:
        flat = parquet.read_table(path).to_pylist()
        return [{**row, **{name: json.loads(row[name]) for name in OBJECTS if name in row}} for row in flat]
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
        raise UserError(f"'{path}' is no parquet file of an evaluation's attempts: export it anew") from None


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError("parquet needs 'pyarrow': pip install 'posttrain[parquet]'") from None
    return pyarrow, pyarrow.parquet
