"""DPO, against TRL's: the reference's log-probs, forward and backward, one AdamW step, full weights, on pairs of mixed length.

    python -m benchmarks.dpo
    python -m benchmarks.dpo --data pairs.jsonl
    python -m benchmarks.dpo --model tiny --steps 1 --per-step 2
    python -m benchmarks.dpo --markdown docs/BENCHMARKS.md

The same for all: model files, the model itself as the reference, token ids (each pair goes through the chat template once,
and every side gets the result), the tokens that are trained (all of both answers, to the end of the turn), the loss of the
paper with beta 0.1, 2 optimizer steps of 16 pairs a pass, learning rate 1e-6, the gradient's norm cut at 1, and as many
threads. A repeat is a pass over the data. Prompts and answers have 10 to 200 tokens each before the chat template's own,
log-normal, in passages of a novella; or they come from a file. Tokens read (a pair's prompt once, no padding) and trained
are counted on each side, and the negative log-likelihood of the first pass is compared: a run whose sides did not read the
same tokens, or not in the same context, is an error. Tokens per second are tokens read.
Memory is at its height from the second optimizer step on, when AdamW has its moments: one step alone understates it.

posttrain: `algorithms/dpo.step` with the defaults of `posttrain train dpo`, nothing held out. Both answers share their
prompt's computation. It also computes entropy, accuracy and margins, and how far each side has moved. Weights, gradients and
AdamW's state are in fp32; in bfloat16, both models compute in bf16 copies of the weights.

TRL: `DPOTrainer`, its defaults (fp32 weights, under bf16 autocast where the dtype is bfloat16; a second model as reference;
fused AdamW; its fused head, which never holds all logits, and on a CPU computes those of every token, trained or not;
entropy, accuracies and margins; SDPA attention; random order), no logging, no saving, no progress bar, and

- `TRL, default`: micro-batches of 8 pairs (16 padded rows), activations recomputed in the backward pass
- `TRL, kept activations`: the same with `gradient_checkpointing=False`, which is faster and larger
- `TRL, one by one`: micro-batches of one pair, so that little is padded; activations kept
- `TRL, one by one, recomputed`: the same with recomputed activations
- `TRL, reference first`: one by one with `precompute_ref_log_probs=True`: the reference's log-probs are computed once by the
  model itself, before the first step, and no second model is held. Its time counts in every pass, as in a training of one
- `TRL, reference first, recomputed`: the same with recomputed activations: its smallest
- `TRL, bf16 weights` (bfloat16 only): kept activations, and models loaded in bf16, so that no step casts the weights.
  AdamW then steps bf16 weights, where updates of 1e-6 round to nothing: a bound, not a way to train.

Its trainer is handed tokens in place of text, in which `_prepare_dataset` is overridden; this is before the clock starts.
Left out: `padding_free`, which TRL 1.16 accepts and ignores; `torch_compile`, since rows have ever new lengths; Liger and
other kernels, which need a GPU.
"""

from __future__ import annotations

from benchmarks.apart import Side
from benchmarks.compare import main
from benchmarks.learning import Pairs


def sides(work: Pairs) -> tuple[Side, ...]:
    """Ours first."""
    settings = ["default", "kept activations", "one by one", "one by one, recomputed", "reference first", "reference first, recomputed"]
    settings += ["bf16 weights"] if work.dtype == "bfloat16" else []
    return Side("posttrain", "posttrain_dpo"), *(Side(f"TRL, {setting}", "trl_dpo", setting, needs="trl") for setting in settings)


if __name__ == "__main__":
    main("benchmarks.dpo", "DPO, against TRL", __doc__, Pairs(), sides)
