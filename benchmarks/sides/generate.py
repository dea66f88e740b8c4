"""transformers' sampling: `generate` on one left-padded batch, with a dynamic or a static cache."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.work import Attempts, Done, Moment, durations


def run(work: Attempts, setting: str) -> Done:
    """All completions for each repeat. `setting` is the cache: `dynamic` (transformers' default) or `static`."""
    tokenizer = AutoTokenizer.from_pretrained(work.folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(work.folder, dtype=work.dtype).eval()
    model.generation_config.eos_token_id = None  # nothing then stops a completion early
    batch = _batch(tokenizer, work)
    torch.manual_seed(work.seed)
    moments = [Moment.now()]
    for _ in range(work.n_repeats):
        outputs = model.generate(
            **batch, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=work.tokens,
            num_return_sequences=work.samples, pad_token_id=tokenizer.pad_token_id, cache_implementation=setting,
        )  # fmt: skip
        moments.append(Moment.now())
    sampled = outputs[:, batch["input_ids"].shape[1] :].numel()
    tokens = {"prompt": int(batch["attention_mask"].sum()), "sampled": sampled}
    return Done(*durations(moments[work.warmup : -1], moments[work.warmup + 1 :]), tokens)


def _batch(tokenizer, work: Attempts) -> dict[str, torch.Tensor]:
    """The prompts as chats, in one batch."""
    chats = [[{"role": m.role, "content": m.content} for m in problem.messages] for problem in work.problems]
    texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    return dict(tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt"))
