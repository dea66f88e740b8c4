"""A configuration out of presets and files, which flags then change."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from posttrain.types import UserError


def take(argv: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `flag VALUE` or `flag=VALUE`, and the arguments without it."""
    for i, word in enumerate(argv):
        if word.startswith(f"{flag}="):
            return word.split("=", 1)[1], argv[:i] + argv[i + 1 :]
        if word == flag:
            if i + 1 == len(argv):
                raise UserError(f"{flag} needs a value")
            return argv[i + 1], argv[:i] + argv[i + 2 :]
    return None, argv


def default_config(module: Any, preset: str | None, file: str | None) -> Any:
    """The configuration that the flags then change."""
    config, presets = module.Config(), getattr(module, "PRESETS", {})
    if file is not None:
        config = _from_json(module.Config, Path(file))
    if preset is not None:
        if preset not in presets:
            known = f"choose one of {', '.join(presets)}" if presets else "this algorithm has none, leave --preset out"
            raise UserError(f"there is no preset '{preset}': {known}")
        config = presets[preset](config)
    return config


def _from_json(kind: type, path: Path) -> Any:
    """A configuration out of a file such as a run's config.json; keys that are missing keep their default."""
    try:
        found = json.loads(path.read_text())
    except OSError:
        raise UserError(f"'{path}' cannot be read: --config takes a JSON file such as a run's config.json") from None
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON ({error}): mend it") from None
    return _filled(kind(), found, path)


def _filled(config: Any, found: Any, path: Path) -> Any:
    """The configuration with what a file says in place of what it had."""
    if not isinstance(found, dict):
        raise UserError(f"'{path}' holds no settings: --config takes a JSON object such as a run's config.json")
    known, hints = {f.name: getattr(config, f.name) for f in fields(config)}, get_type_hints(type(config))
    stray = sorted(set(found) - set(known) - {"algorithm", "files_sha256"})
    if stray:
        raise UserError(f"'{path}' has a setting that does not exist here: {stray[0]}")
    return replace(config, **{name: _setting(name, old, found[name], hints[name], path) for name, old in known.items() if name in found})


def _setting(name: str, old: Any, new: Any, hint: Any, path: Path) -> Any:
    """A setting out of a JSON file, as the type of the one that it replaces."""
    if is_dataclass(old):
        return _filled(old, new, path)
    try:
        typed = type(old)(new) if isinstance(old, float | Path | tuple) else new
    except (TypeError, ValueError):
        typed = None
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if type(typed) is not type(old) or (choices and typed not in choices):
        like = f"one of {', '.join(choices)}" if choices else f"like {old!r}"
        raise UserError(f"'{path}': {name} cannot be {new!r}, it must be {like}")
    return typed
