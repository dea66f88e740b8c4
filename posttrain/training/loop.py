"""The loop around an algorithm's step: take up where it stopped, log, save, show."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from posttrain.policy.optim import Optimizer
from posttrain.policy.trunk import Trunk
from posttrain.runs.folder import RunFolder
from posttrain.runs.mirrors import Mirror
from posttrain.runs.progress import Bar
from posttrain.types import UserError


@dataclass(frozen=True)
class StepResult:
    """What one step has to report."""

    metrics: dict[str, float]
    """The same in every repetition of the run."""
    timings: dict[str, float]
    """Seconds and speeds, which are not."""
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    """A few words beside the progress bar."""


@dataclass
class Trained:
    """What changes from step to step, and so belongs in a checkpoint."""

    policy: Trunk
    optimizer: Optimizer
    position: int = 0
    """How far the stream of problems or documents has been read."""

    @property
    def n_updates(self) -> int:
        """Optimizer steps that have moved the weights; those skipped for a gradient that was not finite have not."""
        return self.policy.version - self.optimizer.n_skipped

    def restore(self, state: dict[str, Any], checkpoint: Path) -> None:
        """As it was when the checkpoint was written; the policy's weights have been loaded already."""
        try:
            self.optimizer.load_state_dict(torch.load(checkpoint / "trainer" / "optimizer.pt", weights_only=True))
        except Exception as error:  # torch, pickle and zip each raise their own for a damaged file
            raise UserError(f"'{checkpoint}' is damaged (the optimizer's state cannot be read): give another --out") from error
        self.policy.version, self.position = state["weight_version"], state["position"]
        torch.set_rng_state(torch.tensor(state["torch_rng"], dtype=torch.uint8))

    def save(self, folder: Path) -> None:
        """Write model and optimizer into a checkpoint's folder."""
        self.policy.save(folder)
        with (folder / "trainer" / "optimizer.pt").open("wb") as file:  # Python's own writes say so when a disk is full
            torch.save(self.optimizer.state_dict(), file)

    def state(self) -> dict[str, Any]:
        """The rest, as JSON."""
        return {"position": self.position, "weight_version": self.policy.version, "torch_rng": torch.get_rng_state().tolist()}


async def run_steps(
    run: RunFolder,
    trained: Trained,
    step: Callable[[int], Awaitable[StepResult]],
    first: int,
    last: int,
    checkpoint_every: int,
    title: str,
    mirrors: Sequence[Mirror] = (),
) -> Path:
    """Steps `first` to `last`, each logged before the next begins; a checkpoint every so many and at the end, whose path is returned.

    A run that never moved the weights says so on stderr: its model is the one that it began with.
    """
    with Bar(title, last, first - 1) as bar:
        for number in range(first, last + 1):
            result = await step(number)
            run.append("rollouts.jsonl", [{"step": number, **row} for row in result.rollouts])
            run.append("timings.jsonl", [{"step": number, **result.timings}])
            run.append("metrics.jsonl", [{"step": number, **result.metrics}])
            for mirror in mirrors:
                mirror.log(number, {**result.metrics, **result.timings})
            if number % checkpoint_every == 0 or number == last:
                run.checkpoint(number, trained.save, trained.state())
            bar.advance(result.note)
    for mirror in mirrors:
        mirror.close()
    if trained.n_updates == 0:
        print(f"{title}: warning: nothing was learned in {last} steps, the model is what it was: the metrics say why", file=sys.stderr)
    return run.last_checkpoint()
