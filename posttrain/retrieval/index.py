"""A folder of documents, kept searchable as it changes: documents -> passages -> store, and a manifest that says what is in it.

The manifest is written last, and names the store's version: an update that is cut off leaves the index as it was before, and the next one
begins there. One update at a time; whoever is searching meanwhile goes on reading the version that they opened.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from posttrain.retrieval.chunk import Chunking, chunk
from posttrain.retrieval.dense import Encoder, SentenceEncoder
from posttrain.retrieval.documents import Document, read_folder
from posttrain.retrieval.fuse import Fused
from posttrain.retrieval.passages import Retriever
from posttrain.retrieval.store import Store, StoreText, StoreVectors
from posttrain.types import UserError

FORMAT = 1
"""Counts up whenever an index of old can no longer be read."""

MANIFEST = "manifest.json"
STORE = "store"
PROBE = "The quick brown fox jumps over the lazy dog."
"""A text whose vector shows whether two encoders are the same."""
AT_ONCE = 2_000
"""How many passages are embedded and added in one go."""

Kind = Literal["text", "vectors", "hybrid"]


@dataclass(frozen=True)
class IndexSettings:
    """What an index depends on; it cannot change within one index."""

    chunking: Chunking = Chunking()
    vectors: bool = True
    """Whether passages are embedded; without, an index is built in seconds and searched by words alone."""
    model: str = ""
    """The embedding model: a folder or a name on the hub; empty for all-MiniLM-L6-v2 from its package."""


@dataclass(frozen=True)
class Manifest:
    """What an index holds."""

    settings: IndexSettings
    documents: Mapping[str, str]
    """Each document's sha256, by its name."""
    n_passages: int
    store_version: int
    probe: tuple[float, ...] = ()
    """The vector of `PROBE` by the encoder that built the index; empty without vectors."""


@dataclass(frozen=True)
class Update:
    """What a build found to do, by the names of documents, and what it left behind."""

    manifest: Manifest
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    n_cut: int = 0
    """How many of the passages embedded in this build are longer than the model reads: their ends are found by words alone."""


MakeEncoder = Callable[[str], Encoder]
"""A model's name to its encoder."""


def build(
    documents: str | Path, folder: str | Path, settings: IndexSettings = IndexSettings(), make_encoder: MakeEncoder = SentenceEncoder
) -> Update:
    """Makes the index in `folder` hold the documents as they are now; only what is new or has another content is cut and embedded.

    Raises `UserError` for documents that cannot be read, for a folder that is something else, an index of other settings or another
    embedding model, a damaged one, and an index within the documents' own folder.
    """
    folder = Path(folder)
    if folder.resolve().is_relative_to(Path(documents).resolve()):
        raise UserError(f"the index '{folder}' would lie among its own documents: give a folder outside '{documents}'")
    before = _before(folder, settings)
    now = {document.source: document for document in read_folder(documents)}
    changes = _changes(before.documents if before else {}, now)
    encoder = make_encoder(settings.model) if settings.vectors and (not before or changes["added"] or changes["changed"]) else None
    probe = _probe(encoder) if encoder else before.probe if before else ()
    if before:
        _check_encoder(before, probe, folder)
    store = _writable(folder, before, len(probe))
    if not before or changes["added"] or changes["changed"] or changes["removed"]:
        store.delete_sources([*changes["changed"], *changes["removed"]])
        n_cut = _add(store, [now[name] for name in (*changes["added"], *changes["changed"])], settings.chunking, encoder)
        store.tidy()
    else:
        n_cut = 0
    hashes = {name: document.sha256 for name, document in now.items()}
    manifest = Manifest(settings, hashes, len(store), store.version, probe)
    _write(folder, manifest)
    return Update(manifest, **changes, n_cut=n_cut)


def _before(folder: Path, settings: IndexSettings) -> Manifest | None:
    """What the folder's index holds, if there is one."""
    if not (folder / MANIFEST).exists():
        strangers = folder.is_dir() and any(path.name not in (STORE, f"{MANIFEST}.draft") for path in folder.iterdir())
        if strangers or folder.is_file():
            raise UserError(f"'{folder}' is there and no index: give an empty or a new folder")
        return None
    before = read_manifest(folder)
    if before.settings != settings:
        raise UserError(f"the index '{folder}' was built with {before.settings}, not {settings}: give the same, or another folder")
    return before


def _changes(before: Mapping[str, str], now: Mapping[str, Document]) -> dict[str, tuple[str, ...]]:
    """Which documents are new, have another content, are gone, or are as they were."""
    both = [name for name in now if name in before]
    return {
        "added": tuple(name for name in now if name not in before),
        "changed": tuple(name for name in both if now[name].sha256 != before[name]),
        "removed": tuple(name for name in before if name not in now),
        "unchanged": tuple(name for name in both if now[name].sha256 == before[name]),
    }


def _writable(folder: Path, before: Manifest | None, dimension: int) -> Store:
    """The store as the manifest knows it; whatever a build that was cut off left behind is undone."""
    if before:
        _checked_store(folder, before)
        store = Store.open(folder / STORE)
        if store.version != before.store_version:
            store.restore(before.store_version)
        return store
    if (folder / STORE).exists():
        raise UserError(f"the first build of '{folder}' was cut off: delete the folder and build again")
    folder.mkdir(parents=True, exist_ok=True)
    return Store.create(folder / STORE, dimension)


def _add(store: Store, documents: Sequence[Document], chunking: Chunking, encoder: Encoder | None) -> int:
    """Cuts, embeds and stores documents; how many passages were too long for the encoder."""
    passages = [passage for document in documents for passage in chunk(document.source, document.text, chunking)]
    n_cut = 0
    for i in range(0, len(passages), AT_ONCE):
        some = passages[i : i + AT_ONCE]
        texts = [passage.text for passage in some]
        store.add(some, encoder.encode_passages(texts) if encoder else None)
        n_cut += encoder.count_cut(texts) if encoder else 0
    return n_cut


# ---------------------------------------------------------------------------------------------------------------- searching


@dataclass(frozen=True)
class Index:
    """An index that was opened for searching: it stays as it was, whatever is built meanwhile."""

    folder: Path
    manifest: Manifest
    store: Store
    make_encoder: MakeEncoder = field(default=SentenceEncoder, repr=False)

    def retriever(self, kind: Kind = "hybrid", where: str = "") -> Retriever:
        """The index as a retriever: by words, by meaning, or both fused by reciprocal rank; `where` as in `Store.search_text`.

        Loads the embedding model except for text. Raises `UserError` for vectors that are not there, and for a model under the index's
        name that gives other vectors than those in the index.
        """
        text = StoreText(self.store, where)
        if kind == "text":
            return text
        if kind not in ("vectors", "hybrid"):
            raise UserError(f"there is no retriever '{kind}': give text, vectors or hybrid")
        if not self.manifest.settings.vectors:
            raise UserError(f"the index '{self.folder}' has no vectors: search it as text, or build one with vectors in another folder")
        encoder = self.make_encoder(self.manifest.settings.model)
        _check_encoder(self.manifest, _probe(encoder), self.folder)
        vectors = StoreVectors(self.store, encoder, where)
        return vectors if kind == "vectors" else Fused((text, vectors))


def open_index(folder: str | Path, make_encoder: MakeEncoder = SentenceEncoder) -> Index:
    """The index in a folder, as its last finished build left it. Raises `UserError` if there is none or it is damaged."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    return Index(folder, manifest, _checked_store(folder, manifest), make_encoder)


def _checked_store(folder: Path, manifest: Manifest) -> Store:
    """The store at the manifest's version. Raises `UserError` unless it holds what the manifest says."""
    try:
        store = Store.open(folder / STORE, manifest.store_version)
        n_passages, dimension = len(store), store.dimension
        strangers = store.sources() - set(manifest.documents)
    except (UserError, ValueError, RuntimeError, OSError) as error:
        raise _damaged(folder, str(error).strip().partition("\n")[0]) from error
    if n_passages != manifest.n_passages or dimension != len(manifest.probe) or strangers:
        raise _damaged(folder, f"its store and its {MANIFEST} do not agree")
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
    except FileNotFoundError as error:
        raise UserError(f"there is no index in '{folder}': build one there first") from error
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
    documents, probe = saved["documents"], tuple(float(x) for x in saved["probe"])
    if not all(isinstance(digest, str) for digest in documents.values()) or not all(map(math.isfinite, probe)):
        raise TypeError
    return Manifest(IndexSettings(chunking, **settings), dict(documents), int(saved["n_passages"]), int(saved["store_version"]), probe)


def _write(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest beside itself first, so that there is always a whole one."""
    draft = folder / f"{MANIFEST}.draft"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(manifest)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / MANIFEST)


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(f"the index '{folder}' is damaged ({why}): delete the folder and build it again")


