"""Passages on disk: found by words and by meaning, filtered, deleted, and back in any version."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

pytest.importorskip("lancedb")

from posttrain.retrieval.passages import Passage  # noqa: E402
from posttrain.retrieval.store import Store, StoreText, from_sources  # noqa: E402
from posttrain.types import UserError  # noqa: E402
from tests.retrieval.library import ids, passages_of  # noqa: E402

LIBRARY = passages_of("the red cat", "a dog and a dog", "red red wine", "C 5")


@pytest.fixture
def store(tmp_path) -> Store:
    """Four passages with one-hot vectors, the last two alike."""
    store = Store.create(tmp_path / "store", 3)
    store.add(LIBRARY, np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 1]], dtype=np.float32))
    store.tidy()
    return store


def test_words_are_found_stemmed_and_the_rarer_counts_for_more(store):
    assert ids(store.search_text("dogs", 4)) == ["p1"]
    assert ids(store.search_text("red", 4)) == ["p2", "p0"]
    assert ids(store.search_text("red cat", 4)) == ["p0", "p2"]
    assert store.search_text("zebra", 4) == store.search_text("?!", 4) == store.search_text("", 4) == []


def test_words_added_since_the_index_was_tidied_are_found_too(store):
    store.add([Passage("new", "a zebra", 0.0, "new", 0, 7)], np.ones((1, 3)))
    assert ids(store.search_text("zebra", 4)) == ["new"]


def test_vectors_are_found_by_their_cosine_whatever_their_length(store):
    found = store.search_vector(np.array([0, 5, 5]), 3)
    assert ids(found) == ["p1", "p2", "p3"]
    assert [p.score for p in found] == pytest.approx([1 / math.sqrt(2)] * 3, abs=1e-6)


def test_a_filter_acts_before_the_search(store):
    assert ids(StoreText(store, from_sources(["p0", "p1"])).search("red", 1)) == ["p0"]
    assert ids(store.search_vector(np.array([0, 0, 1]), 1, "source <> 'p2'")) == ["p3"]
    with pytest.raises(UserError, match="cannot answer"):
        store.search_text("red", 1, "nonsense = = 1")
    with pytest.raises(UserError, match="no document"):
        from_sources([])


def test_a_name_with_quotes_is_deleted_and_nothing_else_is(store):
    store.add([Passage("x", "odd", 0.0, "it's' OR 1=1", 0, 3)], np.ones((1, 3)))
    assert store.delete_sources(["it's' OR 1=1", "not there"]) == 1
    assert len(store) == 4


def test_a_version_is_never_changed(store, tmp_path):
    version = store.version
    store.delete_sources(["p0"])
    assert len(store) == 3 and len(Store.open(tmp_path / "store", version)) == 4
    store.restore(version)
    assert ids(store.passages()) == ["p0", "p1", "p2", "p3"]
    with pytest.raises(UserError, match="no version 99"):
        store.restore(99)
    with pytest.raises(UserError, match="cannot be opened at version 99"):
        Store.open(tmp_path / "store", 99)
    with pytest.warns(UserWarning, match="removes every version"):
        store.forget(timedelta(0))
    assert len(store.versions()) < version and len(store) == 4


def test_an_id_is_taken_once(store):
    with pytest.raises(UserError, match="has a passage 'p0' already"):
        store.add(LIBRARY[:1], np.ones((1, 3)))
    with pytest.raises(UserError, match="two passages have the id"):
        store.add([Passage("q", "a", 0.0, "q", 0, 1)] * 2, np.ones((2, 3)))


def test_what_does_not_fit_the_store_is_refused(store, tmp_path):
    with pytest.raises(ValueError, match="vectors of shape"):
        store.add([Passage("new", "a", 0.0, "new", 0, 1)], np.ones((1, 2)))
    with pytest.raises(ValueError, match="a vector of shape"):
        store.search_vector(np.ones(2), 1)
    with pytest.raises(UserError, match="k of 1 or more"):
        store.search_text("a", 0)
    with pytest.raises(UserError, match="already"):
        Store.create(tmp_path / "store")
    with pytest.raises(UserError, match="no store"):
        Store.open(tmp_path / "nothing")
    words = Store.create(tmp_path / "words")
    with pytest.raises(UserError, match="has no vectors"):
        words.search_vector(np.ones(3), 1)
