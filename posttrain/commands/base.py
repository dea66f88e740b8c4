"""What commands share: exit codes, and how they speak."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

DONE, FAILED, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130
Dtype = Literal["auto", "float32", "bfloat16"]


def positional() -> Any:
    """Marks an argument that is given without a flag: `Annotated[str, positional()]`."""
    import tyro

    return tyro.conf.Positional


def progress(title: str, total: int):
    from posttrain.runs.progress import Bar

    return Bar(title, total, every=max(1, -(-total // 10)))


def make_folder(path: Path | None) -> None:
    """The folder for the results, before there are any: one that cannot be made would lose them."""
    from posttrain.types import UserError

    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder '{path}' cannot be made ({error.strerror}): give another --out") from None


def file_name(text: str) -> str:
    """Part of a file's name, made of any text."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


def show(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=110)).print(renderable)


def completeness(unscored: float) -> int:
    """Done, or done in part where some attempts could not be scored."""
    return PARTIAL if unscored > 0 else DONE
