"""Options written as text, `key=value,key=value`, typed by the defaults that they replace."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import difflib
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from posttrain.types import UserError

_WORDS = {"true": True, "false": False, "none": None}


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: what does, the closest first."""
    known = sorted(known)
    closest = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return f"there is no {what} {name!r}; there is {', '.join(closest + [k for k in known if k not in closest]) or 'none'}"


def parse_options(text: str) -> dict[str, str]:
    """`{"a": "1", "b": "(2, 3)"}` from `a=1,b=(2, 3)`: commas within brackets do not separate.

    Raises `UserError` for a part without `=` and for a key given twice.
    """
    options: dict[str, str] = {}
    for part in split(text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and key):
            raise UserError(f"cannot read {part!r} in {text!r}: options are written key=value,key=value")
        if key in options:
            raise UserError(f"{text!r} gives {key} twice")
        options[key] = value
    return options


def split(text: str) -> list[str]:
    """The parts between commas, but for commas within brackets."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [] if parts == [""] else parts


def defaults(kind: type) -> dict[str, Any]:
    """The fields of a dataclass and their defaults."""
    return {
        field.name: field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for field in dataclasses.fields(kind)
    }


def typed_options(what: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the types of the defaults in `known`. Raises `UserError` for an unknown key or a value of another type."""
    for key in options:
        if key not in known:
            raise UserError(unknown(f"option of {what}", key, known))
    return {key: _typed(f"{what}: {key}", value, known[key]) for key, value in options.items()}


def _typed(what: str, value: Any, default: Any) -> Any:
    try:
        typed = _converted(what, value, default)
    except (ValueError, TypeError, SyntaxError) as error:
        raise UserError(f"{what} cannot be {value!r}: it must be like {default!r}") from error
    if default is not None and type(typed) is not type(default):
        raise UserError(f"{what} cannot be {value!r}: it must be like {default!r}")
    return typed


def _converted(what: str, value: Any, default: Any) -> Any:
    if isinstance(default, enum.Enum):
        return type(default)(value)
    if isinstance(default, datetime.date | datetime.time):
        return type(default).fromisoformat(value)
    if isinstance(default, str):
        return value
    if isinstance(default, list | tuple):
        items = _items(value) if isinstance(value, str) else value
        return type(default)(_typed(what, item, default[0]) for item in items)
    value = _literal(value, default) if isinstance(value, str) else value
    return float(value) if isinstance(default, float) and type(value) is int else value


def _items(text: str) -> list[Any]:
    """The items of `[1, 2]`, of `(1, 2)`, or of `1+2`."""
    return list(ast.literal_eval(text)) if text[:1] in ("[", "(") else text.split("+")


def _literal(text: str, default: Any) -> Any:
    """A Python literal, or true, false or none in any case; where the default is None any other text stays text."""
    try:
        return _WORDS[text.lower()] if text.lower() in _WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if default is None:
            return text
        raise
