"""Memory of a training step against the size of the vocabulary: does it grow with tokens × vocabulary?

    python -m benchmarks.vocabulary
    python -m benchmarks.vocabulary --sizes 512 1024 --tokens 64 --width 64
    python -m benchmarks.vocabulary --no-tied --markdown docs/BENCHMARKS.md

The same for all: a random Llama of two layers, written once and loaded by each side, one row of 1,024 tokens, the negative
log-likelihood of all of them, full weights, the gradient's norm cut at 1, one AdamW step, and as many threads. Only the
vocabulary changes, from 8,192 tokens to 262,144. A larger vocabulary has a larger embedding, with its gradient and AdamW's
moments, whatever the loss: *beyond state* leaves these out. What then remains is the libraries, activations, what is held of
the logits, and the embedding's gradient a second time while it is added up. Ratios are to our side at the smallest size.

posttrain: `training/likelihood.likelihood_step`, the step of SFT. It also computes the entropy. Weights, gradients and
AdamW's state are in fp32; in bfloat16, the model computes in bf16 copies of the weights.

transformers: `model(input_ids, labels=input_ids).loss`, backward, fused AdamW (fp32 weights, under bf16 autocast where the
dtype is bfloat16), SDPA attention: the logits of all tokens, their softmax and its gradient. TRL's losses are not this one;
they are measured by `benchmarks.sft` and `benchmarks.dpo`.
"""

from __future__ import annotations

from benchmarks.apart import Side
from benchmarks.compare import main
from benchmarks.vocabularies import Vocabularies


def sides(work: Vocabularies) -> tuple[Side, ...]:
    """Ours at each size, the smallest first, then the peer's."""
    who = {"posttrain": "posttrain_vocabulary", "transformers": "transformers_vocabulary"}
    return tuple(Side(f"{name}, {size:,}", module, str(size)) for name, module in who.items() for size in sorted(work.sizes))


if __name__ == "__main__":
    main("benchmarks.vocabulary", "memory of a training step, by vocabulary", __doc__, Vocabularies(), sides)
