"""BM25: TF-IDF with a ceiling on repetition and a correction for length, by bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posttrain.retrieval.passages import UNSPACED, Passage, best_above_zero, check_ids, check_k, optional
from posttrain.types import UserError

WORD = rf"[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"


@dataclass(frozen=True)
class BM25Settings:
    """What a published BM25 number depends on, and so must say."""

    k1: float = 0.9
    """How much a repeated word adds: 0 counts a word once, larger values let more repetitions count."""
    b: float = 0.4
    """How much longer passages are held back: 0 not at all, 1 in proportion to their length."""
    language: str = "english"
    """The Snowball stemmer, of PyStemmer; empty for none."""
    stopwords: bool = True
    """Whether Lucene's 33 English stop words are left out."""

    def __post_init__(self) -> None:
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise UserError(f"BM25 takes k1 of 0 or more and b from 0 to 1, not {self.k1} and {self.b}")


ANSERINI = BM25Settings()
"""k1 = .9, b = .4: the parameters of Anserini and Pyserini, and so of most published baselines."""

ELASTICSEARCH = BM25Settings(k1=1.2, b=0.75)
"""k1 = 1.2, b = .75: the parameters of Lucene and Elasticsearch as they come."""

PUBLISHED = BM25Settings(k1=1.5, b=0.75)
"""k1 = 1.5, b = .75: the parameters of bm25s as it comes, and of its published nDCG@10 (2407.03618): SciFact .687, NFCorpus .321, FiQA .251."""


class BM25:
    """Ranks passages by BM25 (Robertson & Zaragoza 2009) in Lucene's form: idf is ln(1 + (n - df + .5) / (df + .5)), never negative.

    Words are runs of at least two letters, digits or underscores, in lower case, stemmed, and each letter of Chinese or Japanese; a word twice in the query counts twice.
    Deviations from Lucene: lengths are exact, where Lucene stores them in one byte, and its constant factor k1 + 1 is left out, so that
    scores differ and ranks hardly do. Passages that share no word with the query are not given; equal scores keep the passages' order.
    """

    def __init__(self, passages: Sequence[Passage], settings: BM25Settings = ANSERINI) -> None:
        """Counts the words. Raises `UserError` for no passages, passages without a word, two with one id, an unknown language."""
        bm25s = optional("bm25s", "BM25")
        check_ids(passages)
        self._passages = list(passages)
        self._settings = settings
        self._stemmer = _stemmer(settings.language)
        words = self._words([passage.text for passage in self._passages])
        if not any(words):
            raise UserError("there is no word in the passages to search for: give passages with text")
        self._index = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", dtype="float64")
        self._index.index(words, show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """At most k passages, best first. Raises `UserError` for k < 1."""
        check_k(k)
        known = self._index.get_tokens_ids(self._words([query])[0])
        scores = self._index.get_scores_from_ids(known) if known else np.zeros(len(self._passages))
        return best_above_zero(self._passages, scores, k)

    def _words(self, texts: list[str]) -> list[list[str]]:
        bm25s = optional("bm25s", "BM25")
        stopwords = "en" if self._settings.stopwords else []
        found = bm25s.tokenize(texts, token_pattern=WORD, stopwords=stopwords, stemmer=self._stemmer, return_ids=False, show_progress=False)
        return [[word for word in words if word] for words in found]  # a text without words is given one of no letters


def _stemmer(language: str):
    """PyStemmer's stemmer; none for no language."""
    if not language:
        return None
    stemming = optional("Stemmer", "BM25")
    if language not in stemming.algorithms():
        raise UserError(f"there is no stemmer for '{language}': give one of {', '.join(stemming.algorithms())}, or nothing")
    return stemming.Stemmer(language)
