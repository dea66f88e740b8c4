"""transformers' plain training step on one vocabulary: `model(input_ids, labels).loss`, AdamW of torch."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from transformers import AutoModelForCausalLM

from benchmarks.memory import state_bytes
from benchmarks.vocabularies import LEARNING_RATE, Vocabularies
from benchmarks.work import Done, Moment, durations


def run(work: Vocabularies, setting: str) -> Done:
    """A step for each repeat; `setting` is the size of the vocabulary."""
    with work.model(int(setting)) as folder:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    adamw = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    token_ids = torch.tensor([work.sequence.prompt + work.sequence.tokens])
    moments = [Moment.now()]
    for _ in range(work.n_repeats):
        with torch.autocast("cpu", torch.bfloat16) if work.dtype == "bfloat16" else nullcontext():
            loss = model(input_ids=token_ids, labels=token_ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        moments.append(Moment.now())
    trained = {"trained": token_ids.numel() - 1}
    return Done(*durations(moments[work.warmup : -1], moments[work.warmup + 1 :]), trained, state_bytes=state_bytes([model], adamw))
