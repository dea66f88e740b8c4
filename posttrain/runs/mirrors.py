"""Copies of the metrics for other viewers: off unless asked for, and never the record itself."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from posttrain.types import UserError

NAMES = ("wandb", "trackio", "tensorboard")


class Mirror(Protocol):
    """Takes the numbers of each step."""

    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def open_mirrors(names: tuple[str, ...], run: Path, config: dict[str, Any]) -> list[Mirror]:
    """The mirrors asked for. Raises UserError for one that does not exist or whose package is not installed."""
    stray = [name for name in names if name not in NAMES]
    if stray:
        raise UserError(f"there is no mirror '{stray[0]}': choose among {', '.join(NAMES)}")
    return [_Tensorboard(run) if name == "tensorboard" else _Tracker(name, run, config) for name in names]


class _Tracker:
    """wandb, and trackio, which speaks its language."""

    def __init__(self, name: str, run: Path, config: dict[str, Any]) -> None:
        module = _installed(name, name)
        folder = {"dir": str(run)} if name == "wandb" else {}
        self.run = module.init(project="posttrain", name=run.name, config=config, **folder)
        self.module = module

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.module.log(metrics, step=step)

    def close(self) -> None:
        self.module.finish()


class _Tensorboard:
    def __init__(self, run: Path) -> None:
        _installed("tensorboard", "tensorboard")
        self.writer = _installed("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(run / "tensorboard"))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if math.isfinite(value):
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


def _installed(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UserError(f"--mirrors {extra} needs another package: pip install 'posttrain[{extra}]'") from None
