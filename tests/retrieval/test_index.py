"""An index follows its documents, says what it does not understand, and a build that is cut off changes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from posttrain.retrieval.chunk import Chunking
from posttrain.retrieval.index import IndexSettings, build, open_index, read_manifest
from posttrain.retrieval.ledger import documents_in
from posttrain.types import UserError
from tests.retrieval.library import CountingEncoder, ids

LINES = IndexSettings(Chunking("sentences", 40, 0), vectors=False, engine="lines")
WORDS = IndexSettings(Chunking("sentences", 40, 0), vectors=False)
VECTORS = IndexSettings(Chunking("sentences", 40, 0))


@pytest.fixture(params=[LINES, WORDS, VECTORS], ids=["lines", "words", "vectors"])
def settings(request) -> IndexSettings:
    if request.param.engine == "lance":
        pytest.importorskip("lancedb")
    return request.param


@pytest.fixture
def shelf(tmp_path):
    """A folder of three documents."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "cat.txt").write_text("The red cat sleeps. It never wakes before noon on any day.")
    (folder / "dog.md").write_text("# Dogs\n\nA dog barks.")
    (folder / "rows.jsonl").write_text('{"_id": "wine", "title": "Wine", "text": "Red wine is old."}\n')
    return folder


def made(shelf, tmp_path, settings: IndexSettings, encoder: CountingEncoder | None = None):
    return build(shelf, tmp_path / "index", settings, lambda model: encoder or CountingEncoder())


def opened(tmp_path):
    return open_index(tmp_path / "index", CountingEncoder)


def counts(update) -> tuple[int, int, int, int]:
    return update.n_added, update.n_changed, update.n_removed, update.n_unchanged


def test_every_passage_found_stands_at_its_place_in_its_document(shelf, tmp_path, settings):
    update = made(shelf, tmp_path, settings)
    assert counts(update) == (3, 0, 0, 0) and update.manifest.n_documents == 3
    found = opened(tmp_path).retriever().search("red cat barks wine", 9)
    texts = {"cat.txt": (shelf / "cat.txt").read_text(), "dog.md": (shelf / "dog.md").read_text(), "rows.jsonl#wine": "Wine\n\nRed wine is old."}
    assert {passage.source for passage in found} == set(texts)
    assert all(texts[passage.source][passage.start : passage.end] == passage.text for passage in found)


def test_an_index_follows_what_is_added_changed_and_removed(shelf, tmp_path, settings):
    made(shelf, tmp_path, settings)
    (shelf / "cat.txt").write_text("The blue cat left.")
    (shelf / "dog.md").unlink()
    (shelf / "new.txt").write_text("A zebra.")
    assert counts(made(shelf, tmp_path, settings)) == (1, 1, 1, 1)
    index = opened(tmp_path)
    assert sorted(p.text for p in index.store.passages()) == ["A zebra.", "The blue cat left.", "Wine\n\nRed wine is old."]
    assert ids(index.retriever("tfidf").search("blue zebra", 3)) == ["new.txt:0-8", "cat.txt:0-18"]
    assert set(documents_in(tmp_path / "index" / "documents-2.sqlite")) == {"cat.txt", "new.txt", "rows.jsonl#wine"}


def test_only_what_is_new_is_embedded(shelf, tmp_path):
    pytest.importorskip("lancedb")
    first, second = CountingEncoder(), CountingEncoder()
    made(shelf, tmp_path, VECTORS, first)
    (shelf / "new.txt").write_text("A zebra.")
    made(shelf, tmp_path, VECTORS, second)
    assert len(first.encoded) == 1 + 4 and second.encoded[1:] == ["A zebra."]  # the first is the probe
    third = CountingEncoder()
    assert counts(made(shelf, tmp_path, VECTORS, third)) == (0, 0, 0, 4) and third.encoded == []


def test_the_hash_of_an_index_is_that_of_its_content_and_of_how_it_was_cut(shelf, tmp_path, settings):
    before = made(shelf, tmp_path, settings).manifest.sha256
    text = (shelf / "cat.txt").read_text()
    (shelf / "cat.txt").write_text("Other.")
    changed = made(shelf, tmp_path, settings).manifest.sha256
    (shelf / "cat.txt").write_text(text)
    assert before != changed and made(shelf, tmp_path, settings).manifest.sha256 == before
    other = build(shelf, tmp_path / "other", IndexSettings(Chunking(size=50, overlap=0), vectors=False, engine="lines"))
    assert other.manifest.sha256 != before


def test_a_build_that_is_cut_off_leaves_the_index_as_it_was_and_the_next_one_mends_it(shelf, tmp_path, settings):
    before = made(shelf, tmp_path, settings).manifest
    (shelf / "dog.md").unlink()
    (shelf / "cat.txt").write_text("The blue cat left.")
    (shelf / "z.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        made(shelf, tmp_path, settings)
    index = opened(tmp_path)
    assert index.manifest == before and "A dog barks." in " ".join(p.text for p in index.store.passages())
    (shelf / "z.txt").unlink()
    assert counts(made(shelf, tmp_path, settings)) == (0, 1, 1, 1)
    assert len(opened(tmp_path).store.passages()) == 2


def test_who_has_opened_an_index_reads_it_undisturbed(shelf, tmp_path, settings):
    made(shelf, tmp_path, settings)
    index = opened(tmp_path)
    texts = [p.text for p in index.store.passages()]
    (shelf / "cat.txt").unlink()
    made(shelf, tmp_path, settings)
    assert [p.text for p in index.store.passages()] == texts


def test_a_retriever_outlives_the_version_it_was_made_of(shelf, tmp_path, settings):
    made(shelf, tmp_path, settings)
    index = opened(tmp_path)
    retriever = index.retriever()
    found = retriever.search("red cat", 5)
    for text in ("A cat.", "Two cats.", "Three cats."):
        (shelf / "cat.txt").write_text(text)
        made(shelf, tmp_path, settings)
    assert retriever.search("red cat", 5) == found
    if settings.engine == "lines":
        with pytest.raises(UserError, match="open the index again"):
            index.store.passages()


def test_two_builds_at_once_do_not_meet(shelf, tmp_path, settings):
    def build_within():
        with pytest.raises(UserError, match="another build of .* is at work"):
            made(shelf, tmp_path, settings)

    for _ in range(2):  # a first build, and a later one
        build(shelf, tmp_path / "index", settings, lambda model: CountingEncoder(), on_document=build_within)
        (shelf / "cat.txt").write_text("The cat has changed.")
    assert opened(tmp_path).manifest.build == 2 and counts(made(shelf, tmp_path, settings)) == (0, 0, 0, 3)


def test_an_index_can_be_opened_at_any_moment_of_a_build(shelf, tmp_path):
    made(shelf, tmp_path, LINES)
    with ThreadPoolExecutor(1) as other:
        building = other.submit(lambda: [(shelf / "cat.txt").write_text(f"Cat {i}.") and made(shelf, tmp_path, LINES) for i in range(100)])
        opens = 0
        while not building.done():
            assert opened(tmp_path).manifest.n_documents == 3
            opens += 1
        assert len(building.result()) == 100 and opens > 100


def test_a_first_build_that_was_cut_off_begins_anew(shelf, tmp_path, settings):
    (shelf / "z.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match="not UTF-8"):
        made(shelf, tmp_path, settings)
    (shelf / "z.txt").unlink()
    assert counts(made(shelf, tmp_path, settings)) == (3, 0, 0, 0)


def test_a_folder_of_someone_elses_is_never_emptied(shelf, tmp_path):
    (tmp_path / "index" / "store").mkdir(parents=True)
    (tmp_path / "index" / "store" / "precious.txt").touch()
    with pytest.raises(UserError, match="that no build is known to have made"):
        made(shelf, tmp_path, LINES)
    assert (tmp_path / "index" / "store" / "precious.txt").is_file()


def test_rows_that_share_an_id_are_refused(shelf, tmp_path, settings):
    (shelf / "rows.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "1"}')
    with pytest.raises(UserError, match="two documents are called 'rows.jsonl#1'"):
        made(shelf, tmp_path, settings)


def test_an_empty_folder_leaves_no_index_behind(tmp_path):
    (tmp_path / "documents").mkdir()
    with pytest.raises(UserError, match="has no documents"):
        made(tmp_path / "documents", tmp_path, LINES)
    assert not (tmp_path / "index").exists()


def test_an_index_of_other_settings_or_another_model_is_refused(shelf, tmp_path):
    pytest.importorskip("lancedb")
    made(shelf, tmp_path, VECTORS)
    with pytest.raises(UserError, match="was built with"):
        made(shelf, tmp_path, WORDS)
    other = CountingEncoder(alphabet="zyxwvutsrqponmlkjihgfedcba")
    with pytest.raises(UserError, match="not the one that .* was built with"):
        open_index(tmp_path / "index", lambda model: other).retriever("vectors")
    (shelf / "new.txt").write_text("A zebra.")
    with pytest.raises(UserError, match="not the one that .* was built with"):
        made(shelf, tmp_path, VECTORS, other)


def test_a_folder_that_is_something_else_or_within_the_documents_is_refused(shelf, tmp_path):
    with pytest.raises(UserError, match="among its own documents"):
        build(shelf, shelf / "index", LINES)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "precious.txt").touch()
    with pytest.raises(UserError, match="is there and no index"):
        made(shelf, tmp_path, LINES)


def test_an_index_that_is_missing_or_damaged_is_refused(shelf, tmp_path, settings):
    with pytest.raises(UserError, match="there is no index"):
        opened(tmp_path)
    made(shelf, tmp_path, settings)
    path = tmp_path / "index" / "manifest.json"
    saved = json.loads(path.read_text())
    for wrong, why in ((saved | {"n_passages": 9}, "do not agree"), (saved | {"format": 1}, "format 1"), ({"format": 2}, "lacks something"), ([], "not one of")):
        path.write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=why):
            opened(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="not readable"):
        opened(tmp_path)


def test_an_index_in_lines_says_what_it_cannot_do(shelf, tmp_path):
    made(shelf, tmp_path, LINES)
    with pytest.raises(UserError, match="searched by tfidf or bm25"):
        opened(tmp_path).retriever("hybrid")
    with pytest.raises(UserError, match="has no vectors"):
        IndexSettings(engine="lines")
    with pytest.raises(UserError, match="knows no filters"):
        opened(tmp_path).retriever("tfidf", "source = 'a'")


@pytest.mark.parametrize("kind", ["text", "hybrid", "tfidf"])
def test_a_filter_that_matches_no_document_is_said_to_match_none(shelf, tmp_path, kind):
    pytest.importorskip("lancedb")
    made(shelf, tmp_path, VECTORS)
    index = opened(tmp_path)
    assert ids(index.retriever(kind, "source = 'dog.md'").search("barks", 9)) == [p.id for p in index.passages("source = 'dog.md'") if "barks" in p.text]
    for ask in (lambda: index.retriever(kind, "source = 'nowhere'"), lambda: index.passages("source = 'nowhere'")):
        with pytest.raises(UserError, match=r"filter \"source = 'nowhere'\" matches no document"):
            ask()
    with pytest.raises(UserError, match="cannot answer"):
        index.retriever(kind, "nonsense = = 1")


def test_an_index_without_vectors_is_not_searched_by_them(shelf, tmp_path):
    pytest.importorskip("lancedb")
    made(shelf, tmp_path, WORDS)
    assert read_manifest(tmp_path / "index").probe == ()
    with pytest.raises(UserError, match="has no vectors"):
        opened(tmp_path).retriever("vectors")
    with pytest.raises(UserError, match="no retriever 'magic'"):
        opened(tmp_path).retriever("magic")
