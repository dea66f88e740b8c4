"""Sampling, against transformers' `generate`.

    python -m benchmarks.sampling
    python -m benchmarks.sampling --model tiny --prompts 2 --samples 2 --tokens 4
    python -m benchmarks.sampling --markdown docs/BENCHMARKS.md

The same for all: model files, dtype, chats (8 arithmetic questions), 8 samples of each in one batch, exactly 64 tokens a
sample drawn from the whole distribution at temperature 1, and as many threads. No side has a stop token, so that all
completions have the same length; tokens are counted on each side, and a run whose sides did not read and write equally
many is an error.

posttrain: `LocalEngine`, all prompts asked at once. It also returns the log-prob of each token.

transformers: `generate` on the left-padded prompts with `num_return_sequences`, `do_sample=True`, `top_k=0` and `top_p=1`
(no truncation to compute), no scores returned, SDPA attention (its default), and

- `generate, dynamic cache`: its default
- `generate, static cache`: `cache_implementation="static"`, which on a CPU is not compiled
"""

from __future__ import annotations

from benchmarks.apart import Side
from benchmarks.compare import main
from benchmarks.work import Attempts


def sides(work: Attempts) -> tuple[Side, ...]:
    """Ours first."""
    return (
        Side("posttrain", "posttrain_sampling"),
        Side("generate, dynamic cache", "generate", "dynamic"),
        Side("generate, static cache", "generate", "static"),
    )


if __name__ == "__main__":
    main("benchmarks.sampling", "sampling, against transformers' generate", __doc__, Attempts(), sides)
