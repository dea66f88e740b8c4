"""Is this architecture one that our forward computes right? Asked once for each model loaded, and refused where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from posttrain.batching import TokenSequence, pack
from posttrain.policy import attention
from posttrain.policy.attention import PackedAttention, Rules
from posttrain.types import UserError

if TYPE_CHECKING:
    from posttrain.policy.hf import Policy

PROBE_TOKENS = 4096
"""All probes lie in one row."""


@torch.no_grad()
def check_forward(policy: Policy) -> None:
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
    batch = pack(_probes(policy), PROBE_TOKENS)[0]
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
