"""SFT, against TRL's: forward and backward, one AdamW step, full weights, on conversations of mixed length.

    python -m benchmarks.sft
    python -m benchmarks.sft --data conversations.jsonl
    python -m benchmarks.sft --model tiny --steps 1 --per-step 2
    python -m benchmarks.sft --markdown docs/BENCHMARKS.md

The same for all: model files, token ids (each conversation goes through the chat template once, and every side gets the
result), the marks that say which tokens are trained (the assistant's, to the end of its turn), 2 optimizer steps of 16
conversations a pass, learning rate 1e-6, the gradient's norm cut at 1, the loss averaged over the trained tokens of an
optimizer step, and as many threads. A repeat is a pass over the data. Conversations have one to three questions and
together 20 to 400 tokens before the chat template's own, log-normal, in passages of a novella; or they come from a file.
Tokens read (no padding) and trained are counted on each side, and the negative log-likelihood of the first pass is compared:
a run whose sides did not read the same tokens, or not in the same context, is an error. Tokens per second are tokens read.
Memory is at its height from the second optimizer step on, when AdamW has its moments: one step alone understates it.

posttrain: `algorithms/sft.step` with the defaults of `posttrain train sft`, nothing held out. It also computes the entropy.
Weights, gradients and AdamW's state are in fp32; in bfloat16, the model computes in bf16 copies of the weights.

TRL: `SFTTrainer`, its defaults (fp32 weights, under bf16 autocast where the dtype is bfloat16; fused AdamW; its fused head,
which never holds all logits, and on a CPU computes those of every token, trained or not; entropy and accuracy; SDPA
attention; random order), no logging, no saving, no progress bar, and

- `TRL, default`: micro-batches of 8 padded conversations, activations recomputed in the backward pass
- `TRL, kept activations`: the same with `gradient_checkpointing=False`, which is faster and larger
- `TRL, one by one`: micro-batches of one conversation, so that nothing is padded; activations kept
- `TRL, one by one, recomputed`: the same with recomputed activations: its smallest
- `TRL, packed`: `packing=True`, best fit, without padding; one row a micro-batch; activations kept. Rows are of the length
  closest to the default of 1,024 with which a pass has as many optimizer steps as elsewhere
- `TRL, packed, recomputed`: the same with recomputed activations
- `TRL, bf16 weights` (bfloat16 only): kept activations, and a model loaded in bf16, so that no step casts the weights.
  AdamW then steps bf16 weights, where updates of 1e-6 round to nothing: a bound, not a way to train.

Left out: `padding_free=True` without packing, which is packing with rows as they come; `torch_compile`, since rows have ever
new lengths; Liger and other kernels, which need a GPU.
"""

from __future__ import annotations

from benchmarks.apart import Side
from benchmarks.compare import main
from benchmarks.learning import Conversations


def sides(work: Conversations) -> tuple[Side, ...]:
    """Ours first."""
    settings = ["default", "kept activations", "one by one", "one by one, recomputed", "packed", "packed, recomputed"]
    settings += ["bf16 weights"] if work.dtype == "bfloat16" else []
    return Side("posttrain", "posttrain_sft"), *(Side(f"TRL, {setting}", "trl_sft", setting, needs="trl") for setting in settings)


if __name__ == "__main__":
    main("benchmarks.sft", "SFT, against TRL", __doc__, Conversations(), sides)
