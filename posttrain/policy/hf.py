"""The policy: any causal language model of transformers, with one forward for training, scoring and sampling."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from posttrain.batching import Batch, TokenSequence, pack
from posttrain.policy import attention
from posttrain.policy.attention import Attend, PackedAttention, Rules
from posttrain.policy.head import Head
from posttrain.policy.lora import LoraConfig, add_lora
from posttrain.policy.models import resolve
from posttrain.policy.numerics import has_bf16_units, prefer_reproducible_products
from posttrain.renderer import Renderer
from posttrain.types import UserError

SCORING_TOKENS = 4096
"""Tokens in a row when only scoring, which keeps no activations."""


@dataclass
class Policy:
    """A causal language model being trained, or measured."""

    model: nn.Module
    """A transformers causal LM, or peft's wrapper of one."""
    renderer: Renderer
    path: str
    """What was loaded, as the user named it."""
    version: int = 0
    """Optimizer steps since loading; every completion carries it."""

    @property
    def base(self) -> nn.Module:
        """The transformers model beneath any adapter."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def max_context(self) -> int:
        """Tokens that prompt and completion may have together."""
        return self.base.config.get_text_config().max_position_embeddings

    @property
    def dtype(self) -> torch.dtype:
        return self.base.get_input_embeddings().weight.dtype

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def hidden(self, token_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """The last hidden states [T, D] of one row, whose tokens see one another as `attend` says."""
        out = self.base.get_decoder()(
            input_ids=token_ids[None], position_ids=position_ids[None], use_cache=False, attend=attend
        )
        return out.last_hidden_state[0]

    @property
    def head(self) -> Head:
        config = self.base.config.get_text_config()
        layer = self.base.get_output_embeddings()
        size = min(self.renderer.vocab_size, len(layer.weight))
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        return Head(layer.weight, getattr(layer, "bias", None), size, scale, getattr(config, "final_logit_softcapping", None))

    def logprobs(self, batch: Batch) -> Tensor:
        """Log-prob in nats of each prediction, Float32[N], differentiable, at the temperature it was drawn at."""
        return self.logprobs_and_entropies(batch)[0]

    def logprobs_and_entropies(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-prob of each prediction and entropy of its distribution over the vocabulary, in nats, Float32[N] each."""
        hidden = self.hidden(batch.token_ids, batch.position_ids, PackedAttention(batch.layout))
        return self.head.logprobs(hidden.index_select(0, batch.sources), batch.targets, batch.temperatures)

    @torch.no_grad()
    def score(self, sequences: Sequence[TokenSequence], max_tokens: int = SCORING_TOKENS) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of every prediction of many sequences, in their order; no gradient."""
        total = sum(s.n_predicted for s in sequences)
        logprobs, entropies = torch.empty(total), torch.empty(total)
        for batch in pack(sequences, max_tokens):
            logprobs[batch.index], entropies[batch.index] = self.logprobs_and_entropies(batch)
        return logprobs, entropies

    def score_tokens(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[list[float], list[float]]]:
        """Per (prompt, completion): log-probs and entropies of the completion's tokens at temperature 1, in nats."""
        sequences = [TokenSequence(tuple(prompt), tuple(tokens)) for prompt, tokens in pairs]
        sizes = [s.n_predicted for s in sequences]
        logprobs, entropies = (x.split(sizes) for x in self.score(sequences))
        return [(a.tolist(), b.tolist()) for a, b in zip(logprobs, entropies, strict=True)]

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """While inside, an adapter is off: the policy is bit for bit the model it started from."""
        with self.model.disable_adapter():
            yield

    @property
    def has_adapter(self) -> bool:
        return self.model is not self.base

    def frozen_copy(self) -> Policy:
        """The same model as it is now, never trained: a reference."""
        twin = copy.deepcopy(self.model).requires_grad_(False)
        return Policy(twin, self.renderer, self.path)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder (with an adapter: peft's), tokenizer included."""
        self.model.save_pretrained(folder)
        self.renderer.tokenizer.save_pretrained(folder)


def load_policy(model: str, dtype: str = "auto", lora: LoraConfig | None = None) -> Policy:
    """A policy from anything `models.resolve` takes. `dtype`: auto, float32 or bfloat16.

    auto is bf16 where the processor has units for it and fp32 elsewhere. Dropout is off for good (a ratio must start at
    1), and the embedding's padding row is trained like any other: often it is the token that ends a turn.
    """
    prefer_reproducible_products()
    folder = resolve(model)
    torch_dtype = _dtype(dtype)
    inner, tokenizer = _load(folder, torch_dtype, model)
    policy = Policy(inner, Renderer(tokenizer), model)
    base = policy.base
    base.set_attn_implementation(attention.NAME)
    base.get_input_embeddings().padding_idx = None
    if lora is not None:
        if policy.has_adapter:
            raise UserError(f"'{model}' already is an adapter; train it on without --lora, or start from its base model")
        policy.model = add_lora(base, lora)
    policy.model.eval()
    _check_forward(policy)
    return policy


def _dtype(name: str) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if has_bf16_units() else torch.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"unknown dtype '{name}': give auto, float32 or bfloat16")
    return getattr(torch, name)


def _load(folder: Path, dtype: torch.dtype, name: str):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    missing: list[str] = []
    try:
        if (folder / "adapter_config.json").is_file():
            from peft import AutoPeftModelForCausalLM

            model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=dtype, is_trainable=True)
        else:
            model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
            missing = sorted(info["missing_keys"])
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"the model '{name}' cannot be loaded ({reason}); its files are damaged or of an unknown kind") from error
    if missing:  # transformers would go on with random numbers in their place
        raise UserError(f"the model '{name}' lacks {len(missing)} of its weights ({missing[0]}, …): the checkpoint is incomplete, take another one")
    return model, tokenizer


@torch.no_grad()
def _check_forward(policy: Policy) -> None:
    """Texts in one row must each get the log-probs that transformers' own forward gives it alone: an architecture that passes
    our attention by, mixes tokens elsewhere too, or does something to its logits that `Head` does not know, is refused
    here and not found out later."""
    name = type(policy.base).__name__
    try:
        _check_layers(policy)
        leak, gap = _gaps(policy)
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(f"the architecture {name} does not work with posttrain's attention ({error})") from error
    finally:
        policy.base.set_attn_implementation(attention.NAME)
    exact = policy.dtype == torch.float32
    if not (leak < (1e-3 if exact else 0.02) and gap < (1e-3 if exact else 0.25)):
        raise UserError(
            f"the architecture {name} computes log-probs in a way that posttrain does not know (they differ by {gap:.2g} nats"
            f" from transformers' own, and move by {leak:.2g} when another text in the row changes); it is not supported"
        )


@dataclass(frozen=True)
class _Witness:
    """`PackedAttention` that notes who called it, and with which rules."""

    packed: PackedAttention
    calls: list[tuple[int, Rules]]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
        self.calls.append((layer, rules))
        return self.packed(layer, queries, keys, values, rules)


def _check_layers(policy: Policy) -> None:
    """Every layer must attend once, through us, and tell us of its window: a short text would not show that it has one."""
    config, name = policy.base.config.get_text_config(), type(policy.base).__name__
    batch = pack(_probes(policy), SCORING_TOKENS)[0]
    witness = _Witness(PackedAttention(batch.layout), [])
    policy.hidden(batch.token_ids, batch.position_ids, witness)
    if [layer for layer, _ in witness.calls] != list(range(config.num_hidden_layers)):
        raise UserError(f"the architecture {name} is not supported: posttrain needs every layer to attend once, and nothing else to mix tokens")
    default = "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
    kinds = getattr(config, "layer_types", None) or [default] * config.num_hidden_layers
    for layer, rules in witness.calls:
        if kinds[layer] in ("sliding_attention", "chunked_attention") and rules.sliding_window is None:
            raise UserError(f"the architecture {name} is not supported: its layer {layer} sees part of a text ({kinds[layer]}) and does not say which")


def _gaps(policy: Policy) -> tuple[float, float]:
    """How far log-probs move when another text in the row changes, and how far they are from transformers' own forward.

    Means over tokens, in nats: in bf16 the second may be off by a nat for a single token, on the mean by a tenth.
    """
    first, *others = _probes(policy)
    ours = policy.score([first, *others])[0]
    beside_another = policy.score([TokenSequence(first.prompt, first.tokens[::-1]), *others])[0]
    leak = (ours - beside_another)[first.n_predicted :].abs().mean().item()
    policy.base.set_attn_implementation("eager")
    theirs = torch.cat([_plain_logprobs(policy, sequence) for sequence in (first, *others)])
    return leak, (ours - theirs).abs().mean().item()


def _plain_logprobs(policy: Policy, sequence: TokenSequence) -> Tensor:
    """The log-probs of a text's tokens, from all the logits of the model's own forward."""
    ids = torch.tensor([sequence.prompt + sequence.tokens])
    logits = policy.base(input_ids=ids, use_cache=False).logits[0, len(sequence.prompt) - 1 : -1, : policy.head.vocab_size]
    return logits.float().log_softmax(-1).gather(1, torch.tensor(sequence.tokens)[:, None])[:, 0]


def _probes(policy: Policy) -> list[TokenSequence]:
    """A few short texts from all over the vocabulary: two that share a prompt, and one that does not."""
    ids = [i * policy.head.vocab_size // 33 for i in range(1, 32)]
    cut = lambda start, stop: tuple(ids[start:stop])  # noqa: E731
    return [TokenSequence(cut(0, 4), cut(4, 12)), TokenSequence(cut(0, 4), cut(12, 18)), TokenSequence(cut(18, 20), cut(20, 31))]
