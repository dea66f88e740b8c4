"""Which dtype this machine is fast in, and matrix products whose rows do not depend on how many rows there are.

A sampler multiplies by 64 rows, a trainer by 1,000. MKL picks another kernel for another shape, and a kernel sums in its
own order: log-probs of the same token then differ by 1e-5 and a run is no longer on-policy to the bit. MKL's strict
reproducibility mode (`MKL_CBWR=AUTO,STRICT`) fixes the order, and at the 8 to 64 rows of decoding happens to be faster.
It is read once, at the process's first product, hence the early call.
"""

from __future__ import annotations

import os


def prefer_reproducible_products() -> None:
    """Ask MKL for products that do not depend on the number of rows. A value that the user set stays."""
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 matrices faster than fp32 ones: it needs AMX tiles. AVX-512 BF16 alone is not enough
    (measured with torch 2.13: .17 TFLOP/s on two cores that do .29 in fp32)."""
    import torch

    return torch.cpu._is_amx_tile_supported()
