"""What every trained model has beneath its head: a transformers model that runs packed rows, its renderer, its folder on disk."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from posttrain.policy.attention import Attend, Rules
from posttrain.renderer import Renderer


@dataclass(frozen=True)
class _Doubled:
    """The attention of a single token, for one that stands there twice."""

    attend: Attend

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rules: Rules) -> Tensor:
        return self.attend(layer, queries[:1], keys[:1], values[:1], rules).expand(2, -1, -1)


@dataclass
class Trunk:
    """A transformer being trained, or measured: without its head, which the kinds of model add."""

    model: nn.Module
    """A transformers model, or peft's wrapper of one."""
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
        """The last hidden states [T, D] of one row, whose tokens see one another as `attend` says.

        A single token is read twice: libraries multiply one row by kernels of its own, and its numbers would not be those that it has
        among others (`policy/numerics.py`).
        """
        if len(token_ids) == 1:
            return self._hidden(token_ids.expand(2), position_ids.expand(2), _Doubled(attend))[:1]
        return self._hidden(token_ids, position_ids, attend)

    def _hidden(self, token_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        out = self.base.get_decoder()(
            input_ids=token_ids[None], position_ids=position_ids[None], use_cache=False, attend=attend
        )
        return out.last_hidden_state[0]

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """While inside, an adapter is off: the policy is bit for bit the model it started from."""
        with self.model.disable_adapter():
            yield

    @property
    def has_adapter(self) -> bool:
        return self.model is not self.base

    def frozen_copy(self) -> Self:
        """The same model as it is now, never trained: a reference."""
        twin = copy.deepcopy(self.model).requires_grad_(False)
        return type(self)(twin, self.renderer, self.path)

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder (with an adapter: peft's), tokenizer included."""
        self.model.save_pretrained(folder)
        self.renderer.tokenizer.save_pretrained(folder)
