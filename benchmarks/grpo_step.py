"""One GRPO step, against TRL's: sampling, scoring, forward and backward, one AdamW step, full weights.

    python -m benchmarks.grpo_step
    python -m benchmarks.grpo_step --model tiny --prompts 2 --samples 2 --tokens 4
    python -m benchmarks.grpo_step --markdown docs/BENCHMARKS.md

The same for all: model files, chats (8 arithmetic questions, the same ones at each step), 8 samples of each, exactly 64
tokens a sample at temperature 1, the loss's clipped ratio with token reduction, no KL, one optimizer step a batch, the
gradient's norm cut at 1, a reward that costs nothing to compute, and as many threads. Completions have the same length on
every side because nothing ends one: our engine is given no stop tokens, and TRL's tokenizer gets an end-of-text that the
model has no row for, which costs nothing (a logits processor that forbids it would). Tokens are counted on each side, and
a run whose sides did not read and write equally many is an error.

posttrain: `algorithms/grpo.step` with the defaults of `posttrain train grpo`, but for groups without signal, which are
computed here like the others, as TRL does. It also computes entropy, clip shares and the sampler's mismatch, as in training.
Weights, gradients and AdamW's state are in fp32; in bfloat16, the model computes in bf16 copies of the weights.

TRL: `GRPOTrainer`, its defaults (fp32 weights, under bf16 autocast where the dtype is bfloat16; fused AdamW; chunked head;
`generate` with a dynamic cache; SDPA attention, which eager attention did not outrun), no logging, no saving, no progress
bar, `processing_class` padded on the left, one generation batch for each step, and

- `TRL, default`: micro-batches of one group (TRL's default of 8 rows), activations recomputed in the backward pass
- `TRL, kept activations`: the same with `gradient_checkpointing=False`, which is faster and larger
- `TRL, one batch`: all rows in one micro-batch, activations kept
- `TRL, bf16 weights` (bfloat16 only): kept activations, and a model loaded in bf16, so that no step casts the weights.
  AdamW then steps bf16 weights, where updates of 1e-6 round to nothing: a bound, not a way to train.

Left out: `use_transformers_continuous_batching`, which took some hundred times as long as `generate` on a CPU, and vLLM.
"""

from __future__ import annotations

from benchmarks.apart import Side
from benchmarks.compare import main
from benchmarks.work import Attempts


def sides(work: Attempts) -> tuple[Side, ...]:
    """Ours first."""
    settings = ["default", "kept activations", "one batch", *(["bf16 weights"] if work.dtype == "bfloat16" else [])]
    peers = (Side(f"TRL, {setting}", "trl_step", setting, needs="trl") for setting in settings)
    return Side("posttrain", "posttrain_step"), *peers


if __name__ == "__main__":
    main("benchmarks.grpo_step", "a GRPO step, against TRL", __doc__, Attempts(), sides)
