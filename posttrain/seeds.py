"""Counter-based randomness: a number is a function of its key, never of what was drawn before it.

A token drawn at (run, step, problem, sample, position) is therefore the same whatever else is in the batch, however
many workers there are, and after a resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def fold(seed: int, *parts: int | str) -> int:
    """A new 63-bit seed from an old one and what sets this use of it apart: `fold(run_seed, step, problem.id)`."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniforms(seeds: Sequence[int] | np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """One float64 in [0, 1) for each (seed, position), elementwise: SplitMix64 (Steele et al. 2014) at counter `position`."""
    with np.errstate(over="ignore"):
        x = np.asarray(seeds, np.uint64) + (np.asarray(positions, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
