"""A training in its folder: begun, or taken up where it stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch

from posttrain.policy.hf import Policy, load_policy
from posttrain.policy.optim import Optimizer
from posttrain.policy.recomputed import recompute_layers
from posttrain.policy.scalar import ScalarModel, load_scalar
from posttrain.policy.trunk import Trunk
from posttrain.runs.folder import RunFolder, write_atomically
from posttrain.runs.mirrors import open_mirrors
from posttrain.training.loop import StepResult, Trained, run_steps
from posttrain.training.settings import MAY_CHANGE, Settings
from posttrain.types import UserError

AnyTrained = TypeVar("AnyTrained", bound=Trained)
AnyTrunk = TypeVar("AnyTrunk", bound=Trunk)


@dataclass(frozen=True)
class Job:
    """One run of one algorithm, and what it knew at its last checkpoint."""

    config: Settings
    algorithm: str
    run: RunFolder
    settings: dict[str, Any]
    state: dict[str, Any] | None
    """None at a fresh start."""

    @classmethod
    def open(cls, config: Settings, algorithm: str, files: Sequence[str] = ()) -> Job:
        """Claim the folder. `files` are read by the run: it goes on only with the same content.

        Raises UserError where the folder belongs to another run or configuration, or is damaged.
        """
        run = RunFolder(config.out)
        settings = asdict(config) | {"algorithm": algorithm}
        settings |= {"files_sha256": {file: _digest(file) for file in files}} if files else {}
        state = run.open(settings, MAY_CHANGE)
        torch.manual_seed(config.seed)  # an adapter's and a head's first weights; a state taken up brings its own
        return cls(config, algorithm, run, settings, state)

    @property
    def checkpoint(self) -> Path | None:
        """What the run goes on from."""
        return self.run.last_checkpoint() if self.state else None

    def load_policy(self) -> Policy:
        """The policy to train: of the last checkpoint, or the model named, with an adapter if one is asked for."""
        return self._load(load_policy)

    def load_scalar(self) -> ScalarModel:
        """The scalar model to train, likewise."""
        return self._load(load_scalar)

    def _load(self, load: Callable[..., AnyTrunk]) -> AnyTrunk:
        config = self.config
        return self.ready(load(str(self.checkpoint), config.dtype) if self.checkpoint else load(config.model, config.dtype, config.lora))

    def ready(self, model: AnyTrunk) -> AnyTrunk:
        """The model, as it is to be trained."""
        if self.config.recompute:
            recompute_layers(model.base)
        return model

    def trained(self, model: Policy | ScalarModel) -> Trained:
        """The model with its optimizer, as both were."""
        return self.restored(Trained(model, Optimizer(model.parameters(), self.config.optim)))

    def restored(self, trained: AnyTrained) -> AnyTrained:
        """`trained` as it was at the last checkpoint, or as it is at a fresh start."""
        if self.state and self.checkpoint:
            trained.restore(self.state, self.checkpoint)
        return trained

    def describe(self, **account: Any) -> None:
        """Keep what the run learns from in `data.json`, and say it: how much there is, what was left out and why."""
        write_atomically(self.config.out / "data.json", json.dumps(account, indent=1))
        said = [f"{name.replace('_', ' ')} {value}" for name, value in account.items() if value not in ({}, None)]
        print(f"{self.algorithm}: {', '.join(said)}", file=sys.stderr)

    async def run_steps(self, trained: Trained, step: Callable[[int], Awaitable[StepResult]]) -> Path:
        """The steps that are still to do; returns the last checkpoint."""
        config, first = self.config, self.state["step"] + 1 if self.state else 1
        mirrors = open_mirrors(config.mirrors, config.out, self.settings)
        return await run_steps(self.run, trained, step, first, config.steps, config.checkpoint_every, self.algorithm, mirrors)


def _digest(file: str) -> str:
    try:
        return sha256(Path(file).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"'{file}' cannot be read ({error.strerror}): give a .jsonl file") from None
