"""Small models and texts, for tests that need a real forward, and plain computations that a fast one must equal."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoConfig, AutoModelForCausalLM

from posttrain.batching import TokenSequence, pack
from posttrain.policy.head import Head
from posttrain.policy.hf import Policy
from posttrain.policy.models import tiny_tokenizer
from posttrain.types import Completion

EOS = 257
"""`tiny_tokenizer`'s end of turn; its ids below 256 are bytes."""


def text(n: int, seed: int) -> tuple[int, ...]:
    """`n` random bytes as tokens."""
    return tuple(torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(seed)).tolist())


def write_model(folder: Path, model_type: str = "llama", **settings: Any) -> Path:
    """A model folder of this architecture over bytes, with random weights large enough that attention matters."""
    sizes = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 128}  # fmt: skip
    special = {"bos_token_id": 256, "eos_token_id": EOS, "pad_token_id": EOS}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes | special | settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or "sink" in name or "bias" in name:
                parameter.normal_(0, 0.2, generator=generator)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def eager_model(folder: Path) -> torch.nn.Module:
    """The same model in transformers' own plain forward, fp32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def eager_logprobs(model: torch.nn.Module, sequences: Sequence[TokenSequence]) -> Tensor:
    """Log-probs of every token of each sequence, computed for each alone, at temperature 1; differentiable."""
    parts = []
    for sequence in sequences:
        logits = model(input_ids=torch.tensor([sequence.prompt + sequence.tokens]), use_cache=False).logits[0]
        logp = logits[len(sequence.prompt) - 1 : -1].float().log_softmax(-1)
        parts.append(logp.gather(1, torch.tensor(sequence.tokens)[:, None])[:, 0])
    return torch.cat(parts)


def dense_head(head: Head, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies from all logits at once, with autograd's own derivatives, in the dtype of `hidden`."""
    logits = (hidden @ weight.T + (0 if bias is None else bias))[:, : head.vocab_size] * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logp = (logits / temperatures[:, None].to(hidden.dtype)).log_softmax(-1)
    return logp.gather(1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def mismatch(policy: Policy, completions: Sequence[Completion]) -> Tensor:
    """For each sampled token, the difference in nats between what its sampler said and what the policy says."""
    sequences = [TokenSequence(c.prompt_token_ids, c.token_ids, None, c.sampling.temperature) for c in completions]
    said = torch.tensor([x for c in completions for x in c.sampling_logprobs])
    return (policy.score(sequences)[0] - said).abs()


def gradients(policy: Policy, sequences: Sequence[TokenSequence], weights: Tensor, max_tokens: int) -> dict[str, Tensor]:
    """Gradient of the weighted sum of all log-probs, collected over the batches of at most `max_tokens` tokens."""
    policy.model.zero_grad()
    for batch in pack(sequences, max_tokens):
        (policy.logprobs(batch) * weights[batch.index]).sum().backward()
    return {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.requires_grad}


def relative_error(measured: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The norm of the difference of two gradients over the norm of the second."""
    assert measured.keys() == expected.keys()
    norm = lambda tensors: torch.cat([t.flatten() for t in tensors]).double().norm().item()  # noqa: E731
    return norm([measured[name] - expected[name] for name in expected]) / norm(expected.values())


class LargestResult(TorchDispatchMode):
    """While entered, remembers the number of elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in tree_iter(result) if isinstance(x, Tensor))])
        return result


class LiveBytes(TorchDispatchMode):
    """While entered, remembers the most bytes held at the same time by tensors that operations have made, gradients included.

    What an operation needs only inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.known.update(_storages((args, kwargs)))
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self.known:
                self.known.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, n_bytes: int) -> None:
        self.live -= n_bytes


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [x.untyped_storage() for x in tree_iter(tree) if isinstance(x, Tensor)]
