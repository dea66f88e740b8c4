"""A function's parameters as a JSON schema, and a call's arguments against one, with one sentence for the model where they do not fit."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from posttrain.types import ToolError, UserError

Schema = Mapping[str, Any]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_PYTHON = {"string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}
_A = {"string": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null",
      "array": "a list", "object": "an object"}  # fmt: skip


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of a function's arguments. Raises UserError for a parameter without a type, or of one that JSON has no word for."""
    hints = get_type_hints(function, include_extras=True)
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or name not in hints:
            raise UserError(f"the tool {function.__name__} needs a named and typed parameter in place of '{name}'")
        properties[name] = _schema(hints[name], f"{function.__name__}: {name}")
        if parameter.default is parameter.empty:
            required.append(name)
        elif parameter.default is not None:
            properties[name]["default"] = parameter.default
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema(hint: Any, where: str) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is Annotated:
        return _schema(inner[0], where) | {"description": next((x for x in inner[1:] if isinstance(x, str)), "")}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, where) for each in inner]}
    if hint is list or origin in (list, Sequence):
        return {"type": "array", **({"items": _schema(inner[0], where)} if inner else {})}
    if hint is dict or origin in (dict, Mapping) and inner[0] is str:
        return {"type": "object", **({"additionalProperties": _schema(inner[1], where)} if inner and inner[1] is not Any else {})}
    raise UserError(f"{where} has the type {hint}, which JSON cannot hold: take str, int, float, bool, Literal, list or dict")


def check(arguments: Any, schema: Schema, name: str = "") -> None:
    """Raises ToolError, in one sentence for the model, where the arguments do not fit the schema.

    The words type, enum, const, anyOf, oneOf, properties, required, additionalProperties and items are understood; what else a
    schema asks for is left to the tool. A number without a fraction is whole, however it is written.
    """
    if "enum" in schema and not any(_same(arguments, each) for each in schema["enum"]) or "const" in schema and not _same(arguments, schema["const"]):
        allowed = schema.get("enum", [schema.get("const")])
        raise ToolError(f"{_subject(name)} must be {'one of ' * (len(allowed) > 1)}{', '.join(map(_json, allowed))}, not {_json(arguments)}")
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _check_any(arguments, choices, name)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(arguments, kind) for kind in kinds):
        raise ToolError(f"{_subject(name)} must be {' or '.join(_A.get(kind, kind) for kind in kinds)}, not {_json(arguments)}")
    if isinstance(arguments, dict):
        _check_object(arguments, schema, name)
    if isinstance(arguments, list) and isinstance(schema.get("items"), Mapping):
        for i, item in enumerate(arguments):
            check(item, schema["items"], f"{name}[{i}]")


def _check_any(arguments: Any, choices: Sequence[Schema], name: str) -> None:
    complaints = []
    for choice in choices:
        try:
            return check(arguments, choice, name)
        except ToolError as error:
            complaints.append(str(error))
    raise ToolError(" or ".join(dict.fromkeys(complaints)))


def _check_object(arguments: Mapping[str, Any], schema: Schema, name: str) -> None:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    at = f"{name}." if name else ""
    for missing in (key for key in schema.get("required", ()) if key not in arguments):
        raise ToolError(f"the argument '{at}{missing}' is missing")
    for key, value in arguments.items():
        if key in known:
            check(value, known[key], f"{at}{key}")
        elif more is False:
            raise ToolError(f"there is no argument '{at}{key}': {'there are ' + ', '.join(known) if known else 'it takes none'}")
        elif isinstance(more, Mapping):
            check(value, more, f"{at}{key}")


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int | float) and not isinstance(value, bool) and (kind == "number" or float(value).is_integer())
    return isinstance(value, _PYTHON.get(kind, object))


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _subject(name: str) -> str:
    return f"'{name}'" if name else "what it is given"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:80]}…"
