"""How this process multiplies and allocates: fast dtypes, products whose rows stand alone, memory that is kept.

A sampler multiplies by 64 rows, a trainer by 1,000. A library picks another kernel for another shape, and a kernel sums in
its own order: log-probs of the same token then differ by 1e-5 and a run is no longer on-policy to the bit. MKL's strict
reproducibility mode (`MKL_CBWR=AUTO,STRICT`) fixes the order on Intel's processors. Elsewhere it does not, and is slow:
there oneDNN multiplies, in fp32 as it does anyway in bf16.
"""

from __future__ import annotations

import os
import time
from functools import cache

KEPT_BYTES = 2**31 - 1
"""Blocks up to this size are taken from memory that was freed before, and so much of it is kept: the most that can be asked for."""


@cache
def prepare() -> None:
    """Settle all of it, once for the process and before its first product: MKL reads its mode then. What the user has set stays."""
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    _keep_freed_memory()
    _choose_fp32_products()


def _keep_freed_memory() -> None:
    """Ask glibc not to hand large blocks back to the system at each free: every activation would be paged in anew, which took a
    third of a training step. Elsewhere nothing is done."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    for option in (trim_threshold, mmap_threshold):
        mallopt(option, KEPT_BYTES)


def _choose_fp32_products() -> None:
    """Hand fp32 products to oneDNN where that is as exact and MKL's rows depend on their number.

    torch offers oneDNN for fp32 only as a licence to round to bf16. On processors without bf16 tiles oneDNN makes no use of the
    licence; whether that is so is tried, and where it is not the licence is taken back.
    """
    import torch

    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    if before not in ("none", "ieee") or _rows_stand_alone():
        return
    products.fp32_precision = "bf16"
    if not (_rows_stand_alone() and _fp32_error() < 1e-6):
        products.fp32_precision = before


def _rows_stand_alone() -> bool:
    """Whether a few rows get the same numbers alone as among many."""
    import torch

    many, weight = _probe(torch.float32)
    whole = many @ weight
    return all(torch.equal(many[:n] @ weight, whole[:n]) for n in (2, 3, 17))


def _fp32_error() -> float:
    """The largest error of an fp32 product, relative to its largest number."""
    import torch

    a, b = _probe(torch.float32)
    exact = a.double() @ b.double()
    return ((a @ b - exact).abs().max() / exact.abs().max()).item()


@cache
def has_fast_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices faster than fp32 ones: with AMX it does; with AVX-512 BF16 alone some do
    (an AMD Zen 5 twice as fast) and some do not (an Intel took 1.7 times as long), so that both are timed, in milliseconds."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        return True
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    prepare()
    return 1.25 * _fastest_product(torch.bfloat16) < _fastest_product(torch.float32)


def _fastest_product(dtype) -> float:
    """Seconds that the fastest of many products takes: beside other programs most are slow, and a few are not."""
    a, b = _probe(dtype)
    a @ b  # kernels are made at the first
    moments = []
    for _ in range(30):
        started = time.perf_counter()
        a @ b
        moments.append(time.perf_counter() - started)
    return min(moments)


def _probe(dtype):
    """Two matrices of a small model's sizes, always the same; torch's own generator is left as it is."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in ((256, 576), (576, 1536)))
