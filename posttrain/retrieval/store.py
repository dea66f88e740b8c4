"""Passages on disk, where they come and go: a LanceDB table with full text, vectors, filters and versions.

Every change makes a version, and a version is never changed: whoever has opened one reads it undisturbed while another is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from posttrain.retrieval.dense import Encoder, unit_length
from posttrain.retrieval.passages import Passage, check_ids, check_k, optional
from posttrain.types import UserError

TABLE = "passages"
COLUMNS = ("id", "text", "source", "start", "end")
"""What a filter can speak of, in SQL: `source = 'a.txt' AND start < 1000`."""

FOREVER = timedelta(days=36_500)
AT_ONCE = 500
"""How many names a filter holds before it is split."""


class Store:
    """A table of passages, each with a vector if the store was made for vectors.

    Searches are exact: vectors are compared one by one, which serves some 200,000 passages; all passages are seen, also by filters,
    which act before the search. Words are split at blanks and punctuation, put in lower case, stemmed, freed of accents and of English
    stop words; words longer than 40 characters are not found. Equal scores are ordered by source and place.
    """

    def __init__(self, table: Any, folder: Path) -> None:
        """Use `create` or `open`."""
        self._table = table
        self._folder = folder

    @classmethod
    def create(cls, folder: str | Path, dimension: int = 0) -> Store:
        """An empty store in a folder, for vectors of a dimension or, at 0, for text alone. Raises `UserError` if there is one."""
        pyarrow, lancedb = optional("pyarrow", "a store of passages"), optional("lancedb", "a store of passages")
        fields = [(name, pyarrow.int64() if name in ("start", "end") else pyarrow.string()) for name in COLUMNS]
        if dimension:
            fields.append(("vector", pyarrow.list_(pyarrow.float32(), dimension)))
        if (Path(folder) / f"{TABLE}.lance").exists():
            raise UserError(f"there is a store in '{folder}' already: open it, or give another folder")
        table = lancedb.connect(str(folder)).create_table(TABLE, schema=pyarrow.schema(fields))
        table.create_index("text", config=_full_text())
        return cls(table, Path(folder))

    @classmethod
    def open(cls, folder: str | Path, version: int | None = None) -> Store:
        """The store in a folder: its newest state, or a version, which can be read only. Raises `UserError` if it is not there."""
        lancedb = optional("lancedb", "a store of passages")
        if not (Path(folder) / f"{TABLE}.lance").is_dir():
            raise UserError(f"there is no store in '{folder}': build it first")
        try:
            table = lancedb.connect(str(folder)).open_table(TABLE)
            if version is not None:
                table.checkout(version)
        except (ValueError, RuntimeError, OSError) as error:
            at = "" if version is None else f" at version {version}"
            raise UserError(f"the store in '{folder}' cannot be opened{at} ({_first_line(error)}): build it again") from error
        return cls(table, Path(folder))

    def __len__(self) -> int:
        return self._table.count_rows()

    def count(self, where: str) -> int:
        """How many passages fit a filter, as in `search_text`. Raises `UserError` for a filter that is none."""
        with self._answering():
            return self._table.count_rows(where)

    @property
    def version(self) -> int:
        """The number of the state that is read."""
        return self._table.version

    @cached_property
    def dimension(self) -> int:
        """How long vectors are; 0 for a store without. Never changes, and LanceDB takes a tenth of a search to say it."""
        schema = self._table.schema
        return schema.field("vector").type.list_size if "vector" in schema.names else 0

    def add(
        self, passages: Sequence[Passage], vectors: Float[np.ndarray, "passages dimension"] | None = None, are_new: bool = False
    ) -> None:
        """Adds passages, with one vector for each if the store is for vectors; they are scaled to length 1.

        `are_new`: the caller knows that the store has none of them, and it need not be searched for them.
        Raises `UserError` for an id twice among them or in the store already, ValueError for vectors of another shape.
        """
        if not passages:
            return
        check_ids(passages)
        if not are_new:
            self._check_new([passage.id for passage in passages])
        rows = [{name: getattr(passage, name) for name in COLUMNS} for passage in passages]
        if (vectors is not None or self.dimension) and np.shape(vectors) != (len(passages), self.dimension):
            raise ValueError(f"{len(passages)} passages take vectors of shape {(len(passages), self.dimension)}, got {np.shape(vectors)}")
        if vectors is not None:
            rows = [{**row, "vector": vector} for row, vector in zip(rows, unit_length(vectors), strict=True)]
        self._table.add(rows)

    def _check_new(self, ids: Sequence[str]) -> None:
        for some in _portions(ids):
            known = self._table.search().where(f"id IN ({_quoted(some)})").select(["id"]).limit(1).to_list()
            if known:
                raise UserError(f"the store has a passage '{known[0]['id']}' already: delete its source first")

    def delete_sources(self, sources: Iterable[str]) -> int:
        """Deletes the passages of documents, and says how many there were; names that are not there are no fault."""
        before = len(self)
        for some in _portions(sorted(set(sources))):
            self._table.delete(f"source IN ({_quoted(some)})")
        return before - len(self)

    def tidy(self) -> None:
        """Merges small files and brings the full-text index up to date: without it searches grow slow and weigh words by old counts.

        LanceDB does this in memory of its own, which grows with what was added: measured 70 MB for 15 MB of text, 125 MB for 63 MB, 210 MB
        for 188 MB, beside some 400 MB for the process.
        """
        self._table.optimize(cleanup_older_than=FOREVER)  # its default would delete versions after a week

    def forget(self, older_than: timedelta) -> None:
        """Deletes the versions older than this, and frees their space; never the newest. Nobody else may be reading the older ones."""
        self._table.optimize(cleanup_older_than=older_than)

    def versions(self) -> list[int]:
        """The states that can be opened, oldest first."""
        return [entry["version"] for entry in self._table.list_versions()]

    def restore(self, version: int) -> None:
        """Makes the state of a version the newest one. Raises `UserError` if it is not there."""
        if version not in self.versions():
            raise UserError(f"the store in '{self._folder}' has no version {version}: give one of {self.versions()}")
        self._table.restore(version)

    def passages(self, where: str = "") -> list[Passage]:
        """All passages, or those that fit a filter, by source and place, with score 0."""
        query = self._table.search().select(list(COLUMNS))
        rows = self._rows(query.where(where) if where else query, None)
        return _ranked(rows, lambda row: 0.0)

    def search_text(self, query: str, k: int, where: str = "") -> list[Passage]:
        """At most k passages by BM25 (k1 = 1.2, b = .75), best first; those that share no word with the query are not given.

        `where` is a filter in SQL over `COLUMNS`. Raises `UserError` for k < 1 and for a filter that is none.
        The counts of words behind the scores are brought up to date by `tidy`, not by every change.
        """
        check_k(k)
        from lancedb.query import MatchQuery

        search = self._table.search(MatchQuery(query, "text"), query_type="fts").select([*COLUMNS, "_score"])
        return _ranked(self._rows(search.where(where) if where else search, k), lambda row: row["_score"])

    def search_vector(self, vector: Float[np.ndarray, " dimension"], k: int, where: str = "") -> list[Passage]:
        """The k passages of the highest cosine with a vector, best first. `where` and what is raised as in `search_text`."""
        check_k(k)
        if not self.dimension:
            raise UserError(f"the store in '{self._folder}' has no vectors: search its text, or build it with an embedding model")
        if np.shape(vector) != (self.dimension,):
            raise ValueError(f"a query takes a vector of shape {(self.dimension,)}, got {np.shape(vector)}")
        unit = unit_length(np.asarray(vector)[None])[0]
        search = self._table.search(unit, query_type="vector").distance_type("cosine").select([*COLUMNS, "_distance"])
        return _ranked(self._rows(search.where(where) if where else search, k), lambda row: 1 - row["_distance"])

    def _rows(self, search: Any, k: int | None) -> list[dict[str, Any]]:
        with self._answering():
            return search.limit(k).to_list()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What LanceDB cannot do with a question, said to the user."""
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"the store in '{self._folder}' cannot answer: {_first_line(error)}") from error


@dataclass(frozen=True)
class StoreText:
    """A store as a retriever by words."""

    store: Store
    where: str = ""
    """Which passages may be found, in SQL over `COLUMNS`; all if empty."""

    def search(self, query: str, k: int) -> list[Passage]:
        """As `Store.search_text`."""
        return self.store.search_text(query, k, self.where)


@dataclass(frozen=True)
class StoreVectors:
    """A store as a retriever by meaning; the encoder must be the one that made its vectors."""

    store: Store
    encoder: Encoder
    where: str = ""
    """Which passages may be found, in SQL over `COLUMNS`; all if empty."""

    def search(self, query: str, k: int) -> list[Passage]:
        """As `Store.search_vector`."""
        return self.store.search_vector(self.encoder.encode_queries([query])[0], k, self.where)


def from_sources(sources: Iterable[str]) -> str:
    """The filter that lets only these documents through. Raises `UserError` for none, as that would let nothing through."""
    names = sorted(set(sources))
    if not names:
        raise UserError("there is no document to search in: name at least one")
    return f"source IN ({_quoted(names)})"


def _full_text() -> Any:
    """What the full-text index does to words, said in full as defaults may change."""
    from lancedb.index import FTS

    return FTS(language="English", stem=True, remove_stop_words=True, ascii_folding=True, lower_case=True, max_token_length=40)


def _ranked(rows: Iterable[dict[str, Any]], score: Any) -> list[Passage]:
    passages = [Passage(row["id"], row["text"], float(score(row)), row["source"], row["start"], row["end"]) for row in rows]
    return sorted(passages, key=lambda passage: (-passage.score, passage.source, passage.start))


def _portions(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]


def _quoted(names: Sequence[str]) -> str:
    """Names as SQL texts."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
