"""How much memory a side has held, and how much of it does not depend on what it read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn


def state_bytes(models: Iterable[nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, of a gradient for each weight that is stepped, and of what the optimizer keeps for each: shared ones once.

    Call it after a step: before it, the optimizer keeps nothing.
    """
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    weights = [p for model in models for p in model.parameters()]
    distinct = {x.data_ptr(): x.nbytes for x in (*weights, *stepped, *kept)}
    return sum(distinct.values()) + sum(p.nbytes for p in stepped)


def peak_bytes() -> int:
    """The largest resident memory of this process so far, in bytes.

    `ru_maxrss` is only the second choice: on Linux it carries over what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
