"""Calls of tools, read out of what a model wrote, in the form in which its chat template writes them.

    tags      <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number of them, words around      Hermes, Qwen; tools in words
    bare      {"name": …, "parameters": {…}}, the whole turn, perhaps behind <|python_tag|>                 Llama 3
    brackets  [TOOL_CALLS] and a list of objects, or name[ARGS]{…} and more of them                       Mistral

What looks like a call and cannot be read stays among the words, with a complaint: one sentence for the model. A call whose end
alone is missing, for the turn was over, is read; arguments that are JSON within a string are too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posttrain.types import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
PYTHON_TAG = "<|python_tag|>"
BRACKETS = "[TOOL_CALLS]"
_NAMED = re.compile(r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*(\w+)\s*)?\[ARGS\]\s*")
_KEYS = ("arguments", "parameters")


@dataclass(frozen=True)
class Read:
    """A turn of the assistant: what it says, which tools it calls, and what is wrong with calls that cannot be read."""

    content: str
    calls: tuple[ToolCall, ...] = ()
    complaints: tuple[str, ...] = ()


def read_tags(text: str) -> Read:
    """Calls between tags."""
    words, calls, complaints, end = [], [], [], 0
    while (start := text.find(OPEN, end)) >= 0:
        words.append(text[end:start].removesuffix("\n"))
        try:
            value, stop = _json_at(text, start + len(OPEN))
            call, end = _call(value), _closed(text, stop)
            calls.append(call)
        except ValueError as error:
            close = text.find(CLOSE, start)
            end = len(text) if close < 0 else close + len(CLOSE)
            words.append(text[start:end])
            complaints.append(_complaint(error, f"write {OPEN}, an object with name and arguments, {CLOSE}"))
    if not (calls or complaints):
        return Read(text)
    return Read("\n".join(piece for piece in (*words, text[end:]) if piece.strip()), tuple(calls), tuple(complaints))


def read_bare(text: str) -> Read:
    """One call that is the whole turn; other JSON is an answer."""
    tagged = PYTHON_TAG in text
    body = text.replace(PYTHON_TAG, "", 1).strip()
    if not tagged and not (body.startswith("{") and '"name"' in body and any(f'"{key}"' in body for key in _KEYS)):
        return Read(text)
    try:
        value, stop = _json_at(body, 0)
        if body[stop:].strip():
            raise ValueError("something stands behind its end")
        return Read("", (_call(value),))
    except ValueError as error:
        return Read(text, (), (_complaint(error, 'write one object with "name" and "parameters", and nothing else'),))


def read_brackets(text: str) -> Read:
    """A list of calls behind a mark, or calls each behind a mark and its name."""
    before, mark, after = text.partition(BRACKETS)
    if not mark:
        return Read(text)
    try:
        calls = _listed(after) if after.lstrip().startswith("[") else [_named(part) for part in after.split(BRACKETS)]
    except ValueError as error:
        return Read(text, (), (_complaint(error, f"write {BRACKETS} and a list of objects with name and arguments"),))
    return Read(before, tuple(calls))


READERS: Mapping[str, Callable[[str], Read]] = {"tags": read_tags, "bare": read_bare, "brackets": read_brackets}
"""In the order in which they are tried on what a template writes."""


def _listed(text: str) -> list[ToolCall]:
    values, stop = _json_at(text, 0)
    if text[stop:].strip():
        raise ValueError("something stands behind its end")
    return [_call(value) for value in values]


def _named(text: str) -> ToolCall:
    found = _NAMED.match(text)
    if not found:
        raise ValueError("no name and [ARGS] stand before its arguments")
    arguments, stop = _json_at(text, found.end())
    if text[stop:].strip():
        raise ValueError("something stands behind its end")
    return _call({"name": found[1], "arguments": arguments, "id": found[2] or ""})


def _closed(text: str, stop: int) -> int:
    """Where the closing tag ends. Raises ValueError where something else stands in its place."""
    rest = text[stop:]
    if rest.strip() and not rest.lstrip().startswith(CLOSE):
        raise ValueError(f"{CLOSE} is missing behind it")
    return stop + (len(rest) if not rest.strip() else rest.index(CLOSE) + len(CLOSE))


def _json_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends. Raises ValueError, NaN and infinities included."""
    start += len(text) - start - len(text[start:].lstrip())
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos - start + 1})") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refused)


def _call(value: Any) -> ToolCall:
    """The call that an object describes. Raises ValueError with what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    name, arguments = value.get("name"), next((value[key] for key in _KEYS if key in value), {})
    if not isinstance(name, str) or not name:
        raise ValueError("it has no name")
    if isinstance(arguments, str):
        arguments, _ = _json_at(arguments, 0)
    if not isinstance(arguments, dict):
        raise ValueError("its arguments are not an object")
    try:
        json.dumps([name, arguments], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None
    return ToolCall(name, arguments, str(value.get("id") or ""))


def _complaint(error: ValueError, how: str) -> str:
    return f"Your call could not be read: {error}. To call a tool, {how}."
