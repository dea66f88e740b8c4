"""What a timing was taken on: without it, no number means anything."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("posttrain", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Machine:
    """The machine and what is installed on it."""

    processor: str
    cores: int
    """That this process may use."""
    bf16_units: str
    """Which units multiply bf16 matrices: `AMX`, `AVX-512 BF16` or `none`."""
    load: float
    """Mean number of busy processes during the minute before the first side began: 0 is an idle machine."""
    versions: dict[str, str]
    """Of Python and of the packages compared; of those that are installed."""

    @classmethod
    def here(cls) -> Machine:
        """This machine, now."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(_processor(), cores, _bf16_units(), round(os.getloadavg()[0], 2), _versions())

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, bf16 units: {self.bf16_units}, load before: {self.load}; {versions}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _bf16_units() -> str:
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 BF16" if torch.cpu._is_avx512_bf16_supported() else "none"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
