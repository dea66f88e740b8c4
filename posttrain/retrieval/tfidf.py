"""TF-IDF: the oldest ranking that works, by scikit-learn, and the one to beat."""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.retrieval.passages import UNSPACED, Passage, best_above_zero, check_ids, check_k
from posttrain.types import UserError


class TfIdf:
    """Ranks passages by the cosine of TF-IDF vectors (Salton & Buckley 1988); scores lie in 0 to 1.

    A word weighs (1 + ln tf) * (1 + ln((1 + n) / (1 + df))), vectors have length 1: scikit-learn's smoothed idf and sublinear tf. Words
    are runs of letters, digits and underscores in lower case, single ones too ("5", "C"), and each letter of
    Chinese or Japanese; nothing is stemmed or left out. Passages that share no word with the query are not given; equal scores keep the passages' order.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Counts the words. Raises `UserError` for no passages, passages without a word, or two with one id."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        check_ids(passages)
        self._passages = list(passages)
        self._vectorizer = TfidfVectorizer(token_pattern=rf"[{UNSPACED}]|[^\W{UNSPACED}]+", sublinear_tf=True)
        try:
            self._weights = self._vectorizer.fit_transform([passage.text for passage in self._passages])
        except ValueError as error:  # an empty vocabulary
            raise UserError("there is no word in the passages to search for: give passages with text") from error

    def search(self, query: str, k: int) -> list[Passage]:
        """At most k passages, best first. Raises `UserError` for k < 1."""
        check_k(k)
        scores = (self._weights @ self._vectorizer.transform([query]).T).toarray().ravel()
        return best_above_zero(self._passages, scores, k)
