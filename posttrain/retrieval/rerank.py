"""A second, slower look at what a fast retriever found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.retrieval.dense import without_bars
from posttrain.retrieval.passages import Passage, Retriever, best, check_k, optional
from posttrain.types import UserError

Scorer = Callable[[str, Sequence[str]], Sequence[float]]
"""A query and texts to one number for each text, larger where it fits better: a cross-encoder, a judge, a formula."""

ScoreTokens = Callable[[Sequence[tuple[Sequence[int], Sequence[int]]]], Sequence[tuple[Sequence[float], Sequence[float]]]]
"""Pairs of prompt and continuation to each continuation's log-probabilities in nats, and something else."""

BETWEEN = "\n\nA question that this passage answers:"


@dataclass(frozen=True)
class Reranked:
    """Asks a retriever for `depth` passages and orders them by a scorer that reads query and passage together.

    The scorer's number replaces the passage's score; equal ones keep the retriever's order. What the retriever did not find stays unfound.
    """

    retriever: Retriever
    scorer: Scorer
    depth: int = 50
    """How many passages are scored anew; as many as the search wants if that is more."""

    def search(self, query: str, k: int) -> list[Passage]:
        """At most k passages, best first. Raises `UserError` for k < 1, ValueError for a nan or a number too many or too few."""
        check_k(k)
        found = self.retriever.search(query, max(k, self.depth))
        if not found:
            return []
        scores = np.asarray(self.scorer(query, [passage.text for passage in found]), dtype=float)
        if scores.shape != (len(found),):
            raise ValueError(f"the scorer gave numbers of shape {scores.shape} for {len(found)} texts")
        return best(found, scores, k)


def cross_encoder(model: str, device: str = "cpu", batch_size: int = 32) -> Scorer:
    """The scorer of a cross-encoder (1901.04085), a folder or a name on the hub, by sentence-transformers: its raw output, a logit.

    Query and passage together are cut to the model's longest input. Raises `UserError` for what is no cross-encoder with one output.
    """
    library = optional("sentence_transformers", "a cross-encoder")
    from torch.nn import Identity

    without_bars()
    try:
        encoder = library.CrossEncoder(model, device=device)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the cross-encoder '{model}' ({error}): give its folder or its name on the hub") from error
    if encoder.num_labels != 1:
        raise UserError(f"'{model}' gives {encoder.num_labels} numbers for a passage: give a cross-encoder with one output")

    def score(query: str, texts: Sequence[str]) -> Sequence[float]:
        pairs = [(query, text) for text in texts]
        return encoder.predict(pairs, batch_size=batch_size, activation_fn=Identity(), show_progress_bar=False).tolist()

    return score


def query_likelihood(encode: Callable[[str], list[int]], score_tokens: ScoreTokens, longest: int = 512) -> Scorer:
    """The scorer of a language model: how likely it holds the query to be where the passage stands before it (2204.07496), nats per token.

    `encode` and `score_tokens` are those of any policy's renderer and of the policy. Deviation: the words between passage and query are ours.
    Both are cut to `longest` tokens together: the query at its end to half of that, the passage to what the query leaves. A query of
    blanks tells nothing, and leaves all passages equal.
    """
    between = encode(BETWEEN)

    def score(query: str, texts: Sequence[str]) -> Sequence[float]:
        if not query.strip():
            return [0.0] * len(texts)
        asked = encode(f" {query.strip()}")[: longest // 2]
        room = max(0, longest - len(asked) - len(between))
        pairs = [(encode(f"Passage: {text}")[:room] + between, asked) for text in texts]
        return [sum(logprobs) / len(logprobs) for logprobs, _ in score_tokens(pairs)]

    return score
