"""Policies so small that every completion can be written down: an expectation over samples is then a sum, not an average.

All are in float64 and answer one fixed prompt. `sequences` lists every completion; tensors over tokens are flat, in that
order, so that `logprobs()` speaks of the first token of the first completion, then its second, and so on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class EnumerablePolicy(nn.Module, ABC):
    """A policy whose completions can all be listed, each with its probability."""

    sequences: tuple[tuple[int, ...], ...]

    @abstractmethod
    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        """What each token of each completion was drawn from, unnormalised."""

    def log_distributions(self, temperature: float = 1.0) -> Float[Tensor, "tokens vocabulary"]:
        """Log-probs in nats of every token that could have stood where each token stands."""
        return (self.logits() / temperature).log_softmax(-1)

    def logprobs(self, temperature: float = 1.0) -> Float[Tensor, " tokens"]:
        """Log-prob in nats of each token of each completion."""
        return self.chosen(self.log_distributions(temperature))

    def probabilities(self) -> Float[Tensor, " sequences"]:
        """Probability of each completion at temperature 1; they sum to 1."""
        return self.per_sequence(self.logprobs()).exp()

    def chosen(self, values_NV: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, " tokens"]:
        """Of values for the whole vocabulary, those of the tokens that stand there."""
        return values_NV.gather(1, self.tokens[:, None]).squeeze(1)

    def per_sequence(self, values_N: Float[Tensor, " tokens"]) -> Float[Tensor, " sequences"]:
        """The sum over the tokens of each completion."""
        return values_N.new_zeros(len(self.sequences)).index_add(0, self.sequence_ids, values_N)

    @cached_property
    def tokens(self) -> Int[Tensor, " tokens"]:
        return torch.tensor([token for sequence in self.sequences for token in sequence])

    @cached_property
    def lengths(self) -> Int[Tensor, " sequences"]:
        return torch.tensor([len(sequence) for sequence in self.sequences])

    @cached_property
    def sequence_ids(self) -> Int[Tensor, " tokens"]:
        """Which completion each token belongs to."""
        return torch.arange(len(self.sequences)).repeat_interleave(self.lengths)

    @cached_property
    def state_ids(self) -> Int[Tensor, " tokens"]:
        """Which state each token was drawn in: tokens behind the same prefix share one. The first is the prompt alone."""
        prefixes = [sequence[:t] for sequence in self.sequences for t in range(len(sequence))]
        number = {prefix: i for i, prefix in enumerate(sorted(set(prefixes), key=lambda prefix: (len(prefix), prefix)))}
        return torch.tensor([number[prefix] for prefix in prefixes])

    @property
    def n_states(self) -> int:
        return int(self.state_ids.max()) + 1


class SoftmaxBandit(EnumerablePolicy):
    """One token from a softmax over free logits."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.logits_V = nn.Parameter(torch.tensor(logits, dtype=torch.float64))
        self.sequences = tuple((token,) for token in range(len(logits)))

    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        return self.logits_V.expand(len(self.logits_V), -1)


class TokenTree(EnumerablePolicy):
    """Two tokens, the second from logits of its own for each first one: the smallest case in which a token has a future."""

    def __init__(self, first_V: Float[Tensor, " vocabulary"], second_VV: Float[Tensor, "vocabulary vocabulary"]) -> None:
        super().__init__()
        self.first_V, self.second_VV = nn.Parameter(first_V.double()), nn.Parameter(second_VV.double())
        self.sequences = tuple(product(range(len(first_V)), repeat=2))

    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        first_SV = self.first_V.expand(len(self.sequences), -1)
        second_SV = self.second_VV.repeat_interleave(len(self.first_V), 0)
        return torch.stack([first_SV, second_SV], 1).flatten(0, 1)


class StoppingTree(EnumerablePolicy):
    """Completions that end at token 0 or after `max_tokens`, from logits of their own behind every prefix: any distribution
    over completions of mixed lengths can be reached."""

    def __init__(self, vocabulary: int = 3, max_tokens: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.sequences = tuple(_ending_at_zero(vocabulary, max_tokens))
        generator = torch.Generator().manual_seed(seed)
        self.logits_XV = nn.Parameter(torch.randn(self.n_states, vocabulary, generator=generator, dtype=torch.float64))

    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        return self.logits_XV[self.state_ids]


class TinyTransformer(EnumerablePolicy):
    """A Llama of one layer whose completions end at token 0 or after `max_tokens`: lengths differ, parameters are shared."""

    def __init__(self, vocabulary: int = 4, max_tokens: int = 4, seed: int = 0) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=vocabulary, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=max_tokens + 1, tie_word_embeddings=True,
        )  # fmt: skip
        self.model = _in_float64(LlamaForCausalLM(config))
        self.sequences = tuple(_ending_at_zero(vocabulary, max_tokens))
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Larger weights than a trained model's, so that the policy is far from uniform and attention matters."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.4, generator=generator)

    def logits(self) -> Float[Tensor, "tokens vocabulary"]:
        every_ST = self.model(self._rows_ST).logits[:, :-1]
        return every_ST[torch.arange(every_ST.shape[1]) < self.lengths[:, None]]

    @cached_property
    def _rows_ST(self) -> Int[Tensor, "sequences time"]:
        """Prompt token 1, then the completion; what is behind its end is not read."""
        longest = max(map(len, self.sequences))
        return torch.tensor([[1, *sequence, *[0] * (longest - len(sequence))] for sequence in self.sequences])


def _in_float64(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model in float64 throughout: its own RMSNorm and its eager softmax compute in fp32 whatever they are given."""
    model.set_attn_implementation("sdpa")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, LlamaRMSNorm):
                setattr(module, name, nn.RMSNorm(child.weight.shape, child.variance_epsilon))
    return model.double().eval()


def _ending_at_zero(vocabulary: int, max_tokens: int) -> list[tuple[int, ...]]:
    """Every sequence that stops at its first 0 or is cut at `max_tokens`."""
    whole = product(range(vocabulary), repeat=max_tokens)
    return sorted({sequence[: sequence.index(0) + 1] if 0 in sequence else sequence for sequence in whole})


def bandit(seed: int = 0, arms: int = 6) -> SoftmaxBandit:
    """A bandit with random logits of spread 1."""
    return SoftmaxBandit(torch.randn(arms, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist())


def tree(seed: int = 0, vocabulary: int = 3) -> TokenTree:
    """A tree with random logits of spread 1."""
    generator = torch.Generator().manual_seed(seed)
    return TokenTree(torch.randn(vocabulary, generator=generator), torch.randn(vocabulary, vocabulary, generator=generator))


def stopping_tree(seed: int = 0) -> StoppingTree:
    """A stopping tree with random logits of spread 1; 15 completions of 1 to 3 tokens."""
    return StoppingTree(seed=seed)


def transformer(seed: int = 0) -> TinyTransformer:
    """A transformer with random weights; 121 completions of 1 to 4 tokens."""
    return TinyTransformer(seed=seed)


def coin(success: float) -> SoftmaxBandit:
    """A bandit of two arms that takes arm 1, the right one, with this probability; the logit of arm 0 is 0."""
    return SoftmaxBandit([0.0, float(torch.tensor(success, dtype=torch.float64).logit())])
