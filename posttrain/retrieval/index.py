"""A folder of documents, kept searchable as it changes: documents -> passages -> store, and a manifest that says what is in it.

Documents are read, cut, embedded and stored some at a time, so that a build's memory does not grow with the corpus; only LanceDB's own
does, while it brings its full-text index up to date (`Store.tidy`). The manifest is written last, and names the store's version: an
update that is cut off leaves the index as it was before, and the next one begins there. One update at a time, which a lock sees to;
whoever is searching meanwhile goes on reading the version that they opened.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from posttrain.retrieval.bm25 import BM25
from posttrain.retrieval.chunk import Chunking, chunk
from posttrain.retrieval.dense import Encoder, SentenceEncoder
from posttrain.retrieval.documents import Document, read_folder
from posttrain.retrieval.fuse import Fused
from posttrain.retrieval.ledger import Ledger
from posttrain.retrieval.lines import Lines
from posttrain.retrieval.passages import Passage, Retriever
from posttrain.retrieval.store import Store, StoreText, StoreVectors
from posttrain.retrieval.tfidf import TfIdf
from posttrain.types import UserError

FORMAT = 2
"""Counts up whenever an index of old can no longer be read."""

MANIFEST = "manifest.json"
STORE = "store"
PROBE = "The quick brown fox jumps over the lazy dog."
"""A text whose vector shows whether two encoders are the same."""
AT_ONCE = 1_000
"""How many passages are embedded and added in one go, and how many names are looked at."""

Engine = Literal["lance", "lines"]
"""`lance`: LanceDB, for words and vectors; `lines`: a plain file of passages, for TF-IDF, which needs nothing beyond the package itself."""

Kind = Literal["auto", "text", "vectors", "hybrid", "tfidf", "bm25"]
"""What ranks: the store's own words, its vectors, both fused, or TF-IDF or bm25s over all passages in memory; `auto` is the best there is."""


@dataclass(frozen=True)
class IndexSettings:
    """What an index depends on; it cannot change within one index."""

    chunking: Chunking = Chunking()
    vectors: bool = True
    """Whether passages are embedded; without, an index is built in seconds and searched by words alone."""
    model: str = ""
    """The embedding model: a folder or a name on the hub; empty for all-MiniLM-L6-v2 from its package."""
    engine: Engine = "lance"

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise UserError(f"an index is kept by {' or '.join(get_args(Engine))}, not by '{self.engine}'")
        if self.engine == "lines" and (self.vectors or self.model):
            raise UserError("an index in plain lines has no vectors: build it without, or with LanceDB")


@dataclass(frozen=True)
class Manifest:
    """What an index holds."""

    settings: IndexSettings
    build: int
    """Which build this is, from 1; the ledger of its documents is named after it."""
    n_documents: int
    n_passages: int
    documents_sha256: str
    """The hash of all documents' names and contents."""
    store_version: int
    probe: tuple[float, ...] = ()
    """The vector of `PROBE` by the encoder that built the index; empty without vectors."""

    @property
    def sha256(self) -> str:
        """What searches depend on, in one hash: the documents, how they were cut, and the embedding model's name. For every trajectory."""
        content = {"settings": asdict(self.settings), "documents": self.documents_sha256}
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Update:
    """What a build found to do, and what it left behind."""

    manifest: Manifest
    n_added: int
    n_changed: int
    n_removed: int
    n_unchanged: int
    n_cut: int = 0
    """How many of the passages embedded in this build are longer than the model reads: their ends are found by words alone."""


MakeEncoder = Callable[[str], Encoder]
"""A model's name to its encoder."""


def build(
    documents: str | Path,
    folder: str | Path,
    settings: IndexSettings = IndexSettings(),
    make_encoder: MakeEncoder = SentenceEncoder,
    on_document: Callable[[], None] = lambda: None,
    on_unreadable: Callable[[str], None] | None = None,
) -> Update:
    """Makes the index in `folder` hold the documents as they are now; only what is new or has another content is cut and embedded.

    `on_document` is told of each; `on_unreadable` of each file that is left out, as in `read_folder`. Raises `UserError` for documents that cannot be read, for a folder that is something else, an index of
    other settings or another embedding model, a damaged one, one that another build is at work on, and an index within the documents'
    own folder.
    """
    folder, found = Path(folder), read_folder(documents, on_unreadable)
    if folder.resolve().is_relative_to(Path(documents).resolve()):
        raise UserError(f"the index '{folder}' would lie among its own documents: give a folder outside '{documents}'")
    _before(folder, settings)
    first = next(found)  # so that an empty folder leaves no index behind
    with _alone(folder):
        return _built(_chained(first, found), folder, settings, make_encoder, on_document)


def _built(documents: Iterator[Document], folder: Path, settings: IndexSettings, make_encoder: MakeEncoder, on_document: Callable[[], None]) -> Update:
    """What `build` does once the folder is its own."""
    before = _before(folder, settings)
    encoder = _Once(make_encoder, settings, before, folder) if settings.vectors else None
    probe = before.probe if before else _probe(encoder()) if encoder else ()
    writer = _Writer(_writable(folder, before, settings, len(probe)), settings.chunking, encoder)
    number = before.build + 1 if before else 1
    ledger = Ledger(_ledger(folder, number), number, _ledger(folder, before.build) if before else None)
    counts: Counter[str] = Counter()
    for document in documents:
        change = ledger.enter(document)
        counts[change] += 1
        if change != "unchanged":
            writer.put(document, known=change == "changed")
        on_document()
    for gone in ledger.take_gone(AT_ONCE):
        counts["removed"] += len(gone)
        writer.store.delete_sources(gone)
    return _finished(folder, before, settings, writer, ledger, probe, counts)


def _finished(
    folder: Path, before: Manifest | None, settings: IndexSettings, writer: _Writer, ledger: Ledger, probe: tuple[float, ...], counts: Counter[str]
) -> Update:
    """Writes what is left to write, the manifest last, and clears away the ledgers of old."""
    writer.flush()
    if counts["added"] or counts["changed"] or counts["removed"] or not before:
        writer.store.tidy()
    n_documents, digest = ledger.close()
    number = before.build + 1 if before else 1
    manifest = Manifest(settings, number, n_documents, len(writer.store), digest, writer.store.version, probe)
    _write(folder, manifest)
    for path in folder.glob("documents-*.sqlite"):
        if path != _ledger(folder, number):
            path.unlink()
    names = ("added", "changed", "removed", "unchanged")
    return Update(manifest, **{f"n_{name}": counts[name] for name in names}, n_cut=writer.n_cut)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a folder, made if it is not there, for one build; the system lets go of it when the process ends, however it does."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"the folder '{folder}' cannot be made ({error.strerror}): give another") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"another build of '{folder}' is at work: wait until it has ended") from error
    finally:
        os.close(held)


def _chained(first: Document, others: Iterator[Document]) -> Iterator[Document]:
    yield first
    yield from others


class _Once:
    """The encoder, loaded and checked when it is first needed: a build that finds nothing new never waits for it."""

    def __init__(self, make: MakeEncoder, settings: IndexSettings, before: Manifest | None, folder: Path) -> None:
        self._make = make
        self._settings = settings
        self._before = before
        self._folder = folder
        self._encoder: Encoder | None = None

    def __call__(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._make(self._settings.model)
            if self._before:
                _check_encoder(self._before, _probe(self._encoder), self._folder)
        return self._encoder


class _Writer:
    """Cuts documents, and embeds and stores their passages `AT_ONCE` at a time."""

    def __init__(self, store: Store | Lines, chunking: Chunking, encoder: Callable[[], Encoder] | None) -> None:
        self.store = store
        self.n_cut = 0
        """How many passages were too long for the encoder."""
        self._chunking = chunking
        self._encoder = encoder
        self._stale: list[str] = []
        self._waiting: list[Passage] = []

    def put(self, document: Document, known: bool) -> None:
        """Takes a document in; if it is `known`, in place of what the store has of it."""
        if known:
            self._stale.append(document.source)
        self._waiting += chunk(document.source, document.text, self._chunking)
        if len(self._waiting) >= AT_ONCE or len(self._stale) >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._stale:
            self.store.delete_sources(self._stale)
        for i in range(0, len(self._waiting), AT_ONCE):
            self._add(self._waiting[i : i + AT_ONCE])
        self._stale, self._waiting = [], []

    def _add(self, passages: list[Passage]) -> None:
        texts = [passage.text for passage in passages]
        self.store.add(passages, self._encoder().encode_passages(texts) if self._encoder else None, are_new=True)
        self.n_cut += self._encoder().count_cut(texts) if self._encoder else 0


def _ledger(folder: Path, build: int) -> Path:
    return folder / f"documents-{build}.sqlite"


def _before(folder: Path, settings: IndexSettings) -> Manifest | None:
    """What the folder's index holds, if there is one."""
    if not (folder / MANIFEST).exists():
        ours = (STORE, f"{MANIFEST}.draft", _ledger(folder, 1).name)
        strangers = folder.is_dir() and any(path.name not in ours for path in folder.iterdir())
        if strangers or folder.is_file():
            raise UserError(f"'{folder}' is there and no index: give an empty or a new folder")
        return None
    before = read_manifest(folder)
    if before.settings != settings:
        raise UserError(f"the index '{folder}' was built with {before.settings}, not {settings}: give the same, or another folder")
    return before


def _writable(folder: Path, before: Manifest | None, settings: IndexSettings, dimension: int) -> Store | Lines:
    """The store as the manifest knows it; whatever a build that was cut off left behind is undone."""
    if before:
        _checked_store(folder, before)
        store = _kind_of_store(before.settings).open(folder / STORE)
        if store.version != before.store_version:
            store.restore(before.store_version)
        return store
    if (folder / STORE).exists():  # a first build was cut off, if it had begun its ledger; else who knows what this is
        if not _ledger(folder, 1).is_file():
            raise UserError(f"'{folder}' holds a '{STORE}' that no build is known to have made: delete it, or give another folder")
        shutil.rmtree(folder / STORE)
    return Store.create(folder / STORE, dimension) if settings.engine == "lance" else Lines.create(folder / STORE)


# ---------------------------------------------------------------------------------------------------------------- searching


@dataclass(frozen=True)
class Index:
    """An index that was opened for searching: it stays as it was, whatever is built meanwhile (in lines, for one build; its retrievers for good)."""

    folder: Path
    manifest: Manifest
    store: Store | Lines
    make_encoder: MakeEncoder = field(default=SentenceEncoder, repr=False)

    def retriever(self, kind: Kind = "auto", where: str = "") -> Retriever:
        """The index as a retriever: by words, by meaning, or both fused by reciprocal rank; `where` as in `Store.search_text`.

        Loads the embedding model for vectors, all passages for TF-IDF and bm25s. Raises `UserError` for vectors that are not there, for a
        filter that no passage fits, and for a model under the index's name that gives other vectors than those in the index.
        """
        if kind not in get_args(Kind):
            raise UserError(f"there is no retriever '{kind}': give one of {', '.join(get_args(Kind))}")
        kind = self._best if kind == "auto" else kind
        if kind in ("tfidf", "bm25"):
            return (TfIdf if kind == "tfidf" else BM25)(self.passages(where))
        if isinstance(self.store, Lines):
            raise UserError(f"the index '{self.folder}' is searched by tfidf or bm25: for '{kind}' build one with LanceDB in another folder")
        if where and not self.store.count(where):
            raise _nothing_left(where)
        text = StoreText(self.store, where)
        if kind == "text":
            return text
        vectors = StoreVectors(self.store, self._encoder(), where)
        return vectors if kind == "vectors" else Fused((text, vectors))

    def passages(self, where: str = "") -> list[Passage]:
        """All passages, or those that fit a filter. Raises `UserError` for a filter that is none or that none of them fits."""
        found = self.store.passages(where)
        if where and not found:
            raise _nothing_left(where)
        return found

    @property
    def _best(self) -> Kind:
        if self.manifest.settings.engine == "lines":
            return "tfidf"
        return "hybrid" if self.manifest.settings.vectors else "text"

    def _encoder(self) -> Encoder:
        if not self.manifest.settings.vectors:
            raise UserError(f"the index '{self.folder}' has no vectors: search it as text, or build one with vectors in another folder")
        encoder = self.make_encoder(self.manifest.settings.model)
        _check_encoder(self.manifest, _probe(encoder), self.folder)
        return encoder


def open_index(folder: str | Path, make_encoder: MakeEncoder = SentenceEncoder) -> Index:
    """The index in a folder, as its last finished build left it. Raises `UserError` if there is none or it is damaged."""
    folder = Path(folder)
    while True:
        manifest = read_manifest(folder)
        try:
            return Index(folder, manifest, _checked_store(folder, manifest), make_encoder)
        except UserError:
            if read_manifest(folder) == manifest:  # else a build has ended between the two, and all is well
                raise


def _kind_of_store(settings: IndexSettings) -> type[Store] | type[Lines]:
    return Store if settings.engine == "lance" else Lines


def _checked_store(folder: Path, manifest: Manifest) -> Store | Lines:
    """The store at the manifest's version. Raises `UserError` unless it holds what the manifest says."""
    try:
        store = _kind_of_store(manifest.settings).open(folder / STORE, manifest.store_version)
        n_passages, dimension = len(store), store.dimension
    except UserError as error:
        if "pip install" in str(error):
            raise
        raise _damaged(folder, str(error).strip().partition("\n")[0]) from error
    except (ValueError, RuntimeError, OSError) as error:
        raise _damaged(folder, str(error).strip().partition("\n")[0]) from error
    if n_passages != manifest.n_passages or dimension != len(manifest.probe) or not _ledger(folder, manifest.build).is_file():
        raise _damaged(folder, f"its store, its list of documents and its {MANIFEST} do not agree")
    return store


def _probe(encoder: Encoder) -> tuple[float, ...]:
    return tuple(float(x) for x in encoder.encode_passages([PROBE])[0])


def _check_encoder(manifest: Manifest, probe: Sequence[float], folder: Path) -> None:
    """Raises `UserError` unless the encoder gives the probe nearly the vector that it gave then (cosine above .999)."""
    if not manifest.settings.vectors:
        return
    then, now = np.asarray(manifest.probe), np.asarray(probe)
    if then.shape != now.shape or then @ now < 0.999 * np.linalg.norm(then) * np.linalg.norm(now):
        name = manifest.settings.model or "all-MiniLM-L6-v2"
        raise UserError(f"the embedding model '{name}' is not the one that '{folder}' was built with: restore it, or build another index")


# ----------------------------------------------------------------------------------------------------------------- manifest


def read_manifest(folder: str | Path) -> Manifest:
    """What the index in a folder holds. Raises `UserError` if there is none, or it is damaged or of another format."""
    folder = Path(folder)
    try:
        saved = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"there is no index in '{folder}': build one there first (posttrain rag index)") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"its {MANIFEST} is not readable") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("format"), int):
        raise _damaged(folder, f"its {MANIFEST} is not one of an index")
    if saved["format"] != FORMAT:
        raise UserError(f"the index '{folder}' has format {saved['format']}, this version reads {FORMAT}: build it again in another folder")
    try:
        return _manifest(saved)
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise _damaged(folder, f"its {MANIFEST} lacks something or holds what it should not") from error


def _manifest(saved: Mapping[str, Any]) -> Manifest:
    settings = dict(saved["settings"])
    chunking = Chunking(**settings.pop("chunking"))
    probe = tuple(float(x) for x in saved["probe"])
    if not isinstance(saved["documents_sha256"], str) or not all(map(math.isfinite, probe)):
        raise TypeError
    counts = {name: int(saved[name]) for name in ("build", "n_documents", "n_passages", "store_version")}
    return Manifest(IndexSettings(chunking, **settings), documents_sha256=saved["documents_sha256"], probe=probe, **counts)


def _write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest beside itself first, so that there is always a whole one."""
    draft = folder / f"{MANIFEST}.draft"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / MANIFEST)


def _nothing_left(where: str) -> UserError:
    return UserError(f"the filter {where!r} matches no document of the index: leave it out, or give another")


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(f"the index '{folder}' is damaged ({why}): delete the folder and build it again")
